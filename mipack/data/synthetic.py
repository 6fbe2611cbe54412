"""Feeds made from the signature alone, for when there is no data.

Integers are 0 or 1 (ids that exist in every vocabulary), integer and boolean masks are all ones,
floats small and normal. Every dimension gets one size, never 0 or 1, no two the same: a number
that shows up in a shape then tells which dimension it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, islice

import numpy as np

from mipack.data.checks import dtype_of, is_float, sample_axes, shown
from mipack.data.dataset import Array, Feeds
from mipack.data.dims import (
    Terms,
    check_sizes,
    dim_key,
    dim_sizes,
    dynamic_axes,
    settle,
    sums,
)
from mipack.errors import InputError
from mipack.records import Signature, TensorSpec

__all__ = ["dim_sizes", "resize_feeds", "synthetic_feeds"]


def synthetic_feeds(
    signature: Signature,
    *,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    tie_samples: bool = False,
) -> Feeds:
    """One array per input.

    `sizes` (by dimension name, or "INPUT:AXIS") and `shapes` (by input) win over what would be
    chosen. `tie_samples` gives the sample axes of all inputs one size even where their names
    differ: most models with several inputs want that, though they do not say it. Raises InputError
    for unknown names, shapes that contradict the model, and inputs without a declared rank.
    """
    given = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    wanted = _sizes_of_shapes(signature, given) | dict(sizes or {})
    check_sizes(signature, wanted)
    chosen = choose_sizes(signature, wanted, tie_samples=tie_samples)
    feeds = {}
    for position, spec in enumerate(signature.inputs):
        shape = given.get(spec.name) or _shape(spec, chosen)
        feeds[spec.name] = _values(spec, shape, np.random.default_rng([seed, position]))
    return feeds


def _sizes_of_shapes(signature: Signature, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """What given shapes say about dimensions. Raises InputError where they cannot be."""
    found: dict[str, int] = {}
    for name, shape in shapes.items():
        spec = signature.input(name)
        if spec is None:
            inputs = ", ".join(spec.name for spec in signature.inputs)
            raise InputError(f"the model has no input {name!r}", hint=f"its inputs are {inputs}")
        for axis, dim in enumerate(spec.shape or ()):
            if len(shape) != len(spec.shape or ()) or (isinstance(dim, int) and dim != shape[axis]):
                raise InputError(
                    f"shape {shown(shape)} contradicts the model's input {name!r}, "
                    f"{shown(spec.shape)}"
                )
            key = dim_key(spec, axis)
            if key is not None and found.setdefault(key, shape[axis]) != shape[axis]:
                raise InputError(f"the shapes give dimension {key!r} two sizes")
    return found


def choose_sizes(
    signature: Signature, given: Mapping[str, int], *, tie_samples: bool
) -> dict[str, int]:
    """A size for every dynamic dimension; sums follow from their parts."""
    derived = sums(signature)
    tied = _sample_keys(signature) if tie_samples else []
    tied = [key for key in tied if key not in derived]
    leader = next((key for key in tied if key in given), tied[0] if tied else None)
    sizes = dict(given)
    for ladder, key in _ladders(signature):
        if key not in sizes and key not in derived and (key == leader or key not in tied):
            sizes[key] = _first_distinct(ladder, key, sizes, derived)
    if leader is not None:
        sizes = dict.fromkeys(tied, sizes[leader]) | sizes
    return settle(sizes, derived)


def _sample_keys(signature: Signature) -> list[str]:
    """The dimensions along which samples are stacked."""
    axes = sample_axes(signature) or {}
    keys = [key for spec, axis, key in dynamic_axes(signature) if axes.get(spec.name) == axis]
    return list(dict.fromkeys(keys))


def _first_distinct(
    ladder: Iterable[int], key: str, sizes: Mapping[str, int], derived: Mapping[str, Terms]
) -> int:
    """The first size that makes no two dimensions equal, sums included where that can be."""
    free = [size for size in islice(ladder, 64) if size not in sizes.values()]
    for size in free:
        values = list(settle({**sizes, key: size}, derived).values())
        if len(set(values)) == len(values) and min(values) > 1:
            return size
    return free[0]


def _ladders(signature: Signature) -> Iterator[tuple[Iterable[int], str]]:
    """For each basic dimension sizes to try, in order of preference.

    Sample axes are small. The trailing axes of float inputs are long where they look like a
    signal (last axis dynamic) or a picture (two dynamic axes): such models reduce them by
    striding. All others count tokens, and tiny models have few positions.
    """
    for spec, axis, key in dynamic_axes(signature):
        trailing = [at for at in range(1, len(spec.shape or ())) if dim_key(spec, at)]
        rank = len(spec.shape or ())
        long = is_float(dtype_of(spec.dtype)) and (trailing[1:] or trailing == [rank - 1])
        if axis == 0:
            yield count(2), key
        elif long:
            yield count(64, 32) if rank >= 4 else count(512, 64), key
        else:
            yield chain((16, 12, 10, 14), count(18)), key
    for terms in sums(signature).values():
        yield from ((chain((8, 9), count(11)), symbol) for _, symbol in terms if symbol)


def _shape(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The input's shape with every dynamic size filled in."""
    if spec.shape is None:
        raise InputError(
            f"the model's input {spec.name!r} declares no rank", hint="give data, or its shape"
        )
    keys = [dim_key(spec, axis) for axis in range(len(spec.shape))]
    return tuple(
        dim if key is None and isinstance(dim, int) else sizes[str(key)]
        for dim, key in zip(spec.shape, keys, strict=True)
    )


def _values(spec: TensorSpec, shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Values that every model of this signature should accept."""
    dtype = dtype_of(spec.dtype)
    if is_float(dtype):
        return (0.5 * rng.standard_normal(tuple(shape))).astype(dtype)
    if dtype.kind == "U":
        return np.full(tuple(shape), "a")
    if "mask" in spec.name.lower():
        return np.ones(tuple(shape), dtype)
    return rng.integers(0, 2, tuple(shape)).astype(dtype)


def resize_feeds(
    signature: Signature, feeds: Mapping[str, Array], sizes: Mapping[str, int]
) -> Feeds:
    """The same feeds with some dimensions (by name, or "INPUT:AXIS") brought to other sizes.

    Arrays are cut or repeated along the axis, so ids stay valid; an axis of size 0 grows by zeros.
    Sums of the resized dimensions follow. Raises InputError for unknown names.
    """
    check_sizes(signature, sizes)
    derived = {
        key: terms
        for key, terms in sums(signature).items()
        if any(symbol in sizes for _, symbol in terms)
    }
    others = {k: n for k, n in dim_sizes(signature, feeds).items() if k not in derived}
    wanted = settle(others | dict(sizes), derived)
    resized = {name: np.asarray(array) for name, array in feeds.items()}
    for spec, axis, key in dynamic_axes(signature):
        if key in wanted:
            resized[spec.name] = _resize(resized[spec.name], axis, wanted[key])
    return resized


def _resize(array: Array, axis: int, size: int) -> Array:
    had = array.shape[axis]
    if had == size:
        return array
    if had == 0:
        shape = (*array.shape[:axis], size, *array.shape[axis + 1 :])
        return np.zeros(shape, array.dtype)
    resized: Array = np.take(array, np.arange(size) % had, axis=axis)
    return resized
