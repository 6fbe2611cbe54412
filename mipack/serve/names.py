"""Which names a model may have where it is a folder, a part of a URL and a Kubernetes object."""

from __future__ import annotations

import re

from mipack.errors import InputError

LONGEST = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DNS = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
DNS_LONGEST = 50
"""A DNS label has 63 characters; KServe appends `-predictor` to the name."""


def check_name(name: str, *, reserved: frozenset[str] = frozenset()) -> str:
    """The name, if a server can take it; InputError with the allowed characters otherwise."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        raise InputError(
            f"--name {name!r} is not a name for a model",
            hint=f"use letters, digits, '_', '-' and '.', the first a letter or digit, at most "
            f"{LONGEST} characters",
        )
    if name.lower() in {other.lower() for other in reserved}:
        raise InputError(
            f"--name {name}: a file of that name belongs to the package", hint="choose another"
        )
    return name


def check_kserve_name(name: str) -> str:
    """The name, if Kubernetes takes it for a service; InputError otherwise."""
    if not _DNS.fullmatch(name) or len(name) > DNS_LONGEST:
        raise InputError(
            f"--name {name!r} is not a name for an InferenceService",
            hint=f"use lower-case letters, digits and '-', the first a letter, the last no '-', "
            f"at most {DNS_LONGEST} characters",
        )
    return name
