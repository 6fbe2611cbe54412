"""Labels of all kinds as one integer per sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mipack.data.dataset import Array
from mipack.errors import InputError


def read_label_file(path: Path, *, samples: int) -> Array:
    """The integer vector in a .npy file, one entry per sample. Raises InputError for any other."""
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy file of labels") from error
    if not isinstance(labels, np.ndarray):
        raise InputError(f"{path}: labels come as one .npy array, not as .npz")
    return check_labels(labels, place=str(path), samples=samples)


def check_labels(labels: Array, *, place: str, samples: int) -> Array:
    """The labels as int64, if they are `samples` integers. Raises InputError otherwise."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(
            f"{place}: labels are {labels.dtype.name} of shape {list(labels.shape)}",
            hint="labels are a vector of integers, one per sample",
        )
    if len(labels) != samples:
        raise InputError(
            f"{place}: {len(labels):,} labels for {samples:,} samples",
            hint="labels must follow the order of all samples, before --samples picks some",
        )
    return labels.astype(np.int64)


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one per line. Raises InputError where the file is missing, empty or doubled."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the classes file cannot be read as text") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or len(set(names)) != len(names):
        raise InputError(
            f"{path}: class names must be given, each once", hint="one class name per line"
        )
    return names


def encode_labels(values: Sequence[Any], classes: Path | None, *, place: str) -> Array:
    """Labels as numbers: positions in the classes file; integers as they are; else positions
    among the sorted distinct names. Raises InputError for an empty or unknown label."""
    names = [str(int(v) if isinstance(v, bool) else v).strip() for v in values]
    if "" in names:
        raise InputError(f"{place}: sample {names.index('') + 1} has no label")
    known = None if classes is None else read_classes(classes)
    if known is not None and set(names) <= set(known):
        return class_positions(names, known, place=place)
    if not all(_is_integer(name) for name in names):
        return class_positions(names, known or sorted(set(names)), place=place)
    numbers = np.asarray([int(name) for name in names], dtype=np.int64)
    if known is not None and not ((numbers >= 0) & (numbers < len(known))).all():
        raise InputError(
            f"{place}: labels run from {numbers.min()} to {numbers.max()}",
            hint=f"{classes} names {len(known)} classes, 0 to {len(known) - 1}",
        )
    return numbers


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def class_positions(names: Iterable[str], classes: Sequence[str], *, place: str) -> Array:
    """The position of every name among the classes. Raises InputError for an unknown name."""
    known = {name: at for at, name in enumerate(classes)}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InputError(
            f"{place}: unknown class {unknown[0]!r}", hint=f"the classes are {', '.join(classes)}"
        )
    return np.asarray([known[name] for name in names], dtype=np.int64)
