"""Sizes of dynamic dimensions: one per symbol; an unnamed one goes by "INPUT:AXIS".

A symbol may be a sum of others, as exporters write it: "past_sequence_length + 1", "2*height",
"past_plus_sequence" (where both parts are dimensions themselves).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mipack.data.dataset import Array
from mipack.errors import InputError
from mipack.records import Signature, TensorSpec

Terms = tuple[tuple[int, str], ...]
"""(factor, symbol) of every summand; the symbol of a constant is ""."""

_TERM = re.compile(r"(-?)(?:(\d+)(?:\*([A-Za-z_][\w.]*))?|([A-Za-z_][\w.]*)(?:\*(\d+))?)")


def dim_key(spec: TensorSpec, axis: int) -> str | None:
    """The name under which a dynamic axis has its size; None for a static one."""
    dim = spec.shape[axis] if spec.shape is not None else None
    if isinstance(dim, int):
        return None
    return dim or f"{spec.name}:{axis}"


def dynamic_axes(signature: Signature) -> Iterator[tuple[TensorSpec, int, str]]:
    """(input, axis, key) of every dynamic axis, in order of the inputs."""
    for spec in signature.inputs:
        for axis in range(len(spec.shape or ())):
            key = dim_key(spec, axis)
            if key is not None:
                yield spec, axis, key


def sums(signature: Signature) -> dict[str, Terms]:
    """The keys that are sums of other symbols."""
    symbols = [
        key for spec, axis, key in dynamic_axes(signature) if spec.shape and spec.shape[axis]
    ]
    found = {key: _terms(key, frozenset(symbols)) for key in symbols}
    return {key: terms for key, terms in found.items() if terms is not None}


def _terms(name: str, symbols: frozenset[str]) -> Terms | None:
    """The summands of a name, or None where it is an ordinary name."""
    words = name.split("_plus_")
    if len(words) > 1 and all(word in symbols or word.isdecimal() for word in words):
        name = "+".join(words)
    if not re.search(r"[+*]|\s-\s", name):
        return None
    pieces = re.sub(r"\s", "", name).replace("-", "+-").split("+")
    matches = [_TERM.fullmatch(piece) for piece in pieces]
    return tuple(_term(match) for match in matches if match) if all(matches) else None


def _term(match: re.Match[str]) -> tuple[int, str]:
    sign, number, symbol, name, factor = match.groups()
    size = int(number or factor or 1)
    return (-size if sign else size), symbol or name or ""


def evaluate(terms: Terms, sizes: Mapping[str, int]) -> int | None:
    """The size of a sum, or None while a part has none."""
    if any(symbol and symbol not in sizes for _, symbol in terms):
        return None
    return sum(factor * sizes[symbol] if symbol else factor for factor, symbol in terms)


def settle(sizes: Mapping[str, int], derived: Mapping[str, Terms]) -> dict[str, int]:
    """The sizes, and those of every sum whose parts are known; given sizes stay."""
    settled = dict(sizes)
    for _ in derived:  # a sum of sums settles after its parts
        for key, terms in derived.items():
            value = evaluate(terms, settled)
            if key not in settled and value is not None:
                settled[key] = value
    return settled


def dim_sizes(signature: Signature, feeds: Mapping[str, Array]) -> dict[str, int]:
    """The size that each symbol (or "INPUT:AXIS") has in these feeds.

    Raises InputError for a missing array, another rank than declared, or two sizes of one symbol.
    """
    found: dict[str, tuple[int, str]] = {}
    for spec, axis, key in dynamic_axes(signature):
        array = feeds.get(spec.name)
        if array is None or array.ndim != len(spec.shape or ()):
            raise InputError(
                f"the feeds hold no array of rank {len(spec.shape or ())} for input {spec.name!r}"
            )
        size, first = found.setdefault(key, (array.shape[axis], spec.name))
        if size != array.shape[axis]:
            raise InputError(
                f"dimension {key!r} has size {size} in input {first!r}, "
                f"but {array.shape[axis]} in {spec.name!r}",
                hint="a dimension that inputs share needs one size",
            )
    return {key: size for key, (size, _) in found.items()}


def check_sizes(signature: Signature, sizes: Mapping[str, int]) -> None:
    """Raise InputError for a size of no dimension, or below 0."""
    parts = {symbol for terms in sums(signature).values() for _, symbol in terms if symbol}
    known = list(dict.fromkeys([key for _, _, key in dynamic_axes(signature)] + sorted(parts)))
    for key, size in sizes.items():
        if key not in known:
            raise InputError(
                f"the model has no dynamic dimension {key!r}",
                hint=f"it has {', '.join(known) or 'none'}",
            )
        if size < 0:
            raise InputError(f"dimension {key!r} cannot have size {size}")
