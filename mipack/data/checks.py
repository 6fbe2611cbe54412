"""Does an array fit an input? Shapes and types are checked before data is read, values after.

Conversions that keep the meaning are done: between floats, between integers (range checked), from
bool, and 0/1 integers to bool. Integers are not made floats: nobody knows their scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mipack.data.dataset import Array
from mipack.errors import InputError
from mipack.records import Signature, TensorSpec

DType = np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Header:
    """Shape and type of an array that need not be in memory."""

    shape: tuple[int, ...]
    dtype: DType


def dtype_of(name: str) -> DType:
    """The numpy type of that name, the extended ones (bfloat16, float8, int4) included.

    Raises InputError for a name that numpy cannot hold.
    """
    import ml_dtypes  # registers the extended types

    try:
        return np.dtype(getattr(ml_dtypes, name, name))
    except TypeError as error:
        raise InputError(f"the model has an input of type {name}, which cannot be fed") from error


def is_float(dtype: DType) -> bool:
    """True for every real floating type, the extended ones (whose kind is "V") included."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def is_integer(dtype: DType) -> bool:
    """True for signed and unsigned integers, 4-bit ones included."""
    return dtype.kind in "iu" or dtype.name in ("int4", "uint4", "int2", "uint2")


def shown(shape: Sequence[Any] | None) -> str:
    """A shape as the user reads it: "[batch, 3, ?]"."""
    if shape is None:
        return "[any rank]"
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def sample_axes(signature: Signature) -> dict[str, int] | None:
    """The axis of every input along which samples are stacked; None if there is no such axis.

    Axis 0 where every input's first size is dynamic, or the same number; else the axis of the one
    symbol that leads some input and occurs exactly once in each ([batch, 9] with [1, batch, 20]).
    """
    shapes = {spec.name: spec.shape for spec in signature.inputs}
    known = [shape for shape in shapes.values() if shape is not None]
    if not shapes or any(len(shape) == 0 for shape in known):
        return None
    leading = {shape[0] for shape in known}
    if all(not isinstance(dim, int) for dim in leading):
        return dict.fromkeys(shapes, 0)
    if len(leading) == 1:
        return dict.fromkeys(shapes, 0) if _leads_outputs(signature, *leading) else None
    symbols = [dim for dim in leading if isinstance(dim, str)]
    if len(symbols) == 1 and all(shape.count(symbols[0]) == 1 for shape in known):
        return {name: shape.index(symbols[0]) if shape else 0 for name, shape in shapes.items()}
    return None


def _leads_outputs(signature: Signature, size: Any) -> bool:
    """A fixed first size above 1 is a batch only if no output contradicts it."""
    firsts = [spec.shape[0] for spec in signature.outputs if spec.shape]
    return size == 1 or all(first == size or not isinstance(first, int) for first in firsts)


def static_batch(signature: Signature, axes: dict[str, int] | None) -> int | None:
    """The batch size that the signature fixes along these axes, if it does."""
    for spec in signature.inputs:
        dim = spec.shape[axes[spec.name]] if spec.shape and axes else None
        if isinstance(dim, int):
            return dim
    return None


def check_header(place: str, name: str, header: Header, spec: TensorSpec, axis: int | None) -> None:
    """Raise InputError unless array `name` of `place` fits the input; the size along the sample
    `axis` is free."""
    what = f"{place}: array {name!r}"
    wanted = f"the model's input {spec.name!r} is {spec.dtype} {shown(spec.shape)}"
    if header.dtype.hasobject:
        raise InputError(
            f"{what} holds Python objects; pickles are never loaded",
            hint="save plain numbers: array.astype('float32')",
        )
    if not castable(header.dtype, dtype_of(spec.dtype)):
        raise InputError(
            f"{what} is {header.dtype.name}, but {wanted}", hint=f"save it as {spec.dtype}"
        )
    if spec.shape is None:
        return
    if len(header.shape) != len(spec.shape):
        raise InputError(
            f"{what} has rank {len(header.shape)} {shown(header.shape)}, but {wanted}",
            hint=f"give it {len(spec.shape)} axes",
        )
    for at, (size, dim) in enumerate(zip(header.shape, spec.shape, strict=True)):
        if at != axis and isinstance(dim, int) and size != dim:
            raise InputError(
                f"{what} has size {size} on axis {at}, but {wanted}",
                hint=f"axis {at} must have size {dim}",
            )


def castable(source: DType, target: DType) -> bool:
    """Does converting keep the meaning (values are checked when they are read)?"""
    if source == target or source.kind == target.kind == "U":
        return True
    if _bare_bytes(source, target) or (is_float(source) and is_float(target)):
        return True
    if source.kind == "b":
        return is_integer(target) or is_float(target)
    return is_integer(source) and (is_integer(target) or target.kind == "b")


def _bare_bytes(source: DType, target: DType) -> bool:
    """numpy's files lose the name of extended types: bfloat16 comes back as two raw bytes."""
    raw = source.kind == "V" and source.names is None and not is_float(source)
    return raw and is_float(target) and source.itemsize == target.itemsize


def fit(place: str, name: str, array: Array, dtype: DType, *, allow_nan: bool = False) -> Array:
    """The values as `dtype`, contiguous; the types must be `castable`.

    Raises InputError where a value is not finite (NaN apart, if it is allowed) or does not fit.
    """
    if _bare_bytes(array.dtype, dtype):
        array = np.ascontiguousarray(array).view(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.ascontiguousarray(array.astype(dtype, copy=False)).reshape(array.shape)
    if is_float(dtype) and not (np.isfinite(result) | (allow_nan & np.isnan(result))).all():
        problem = "infinite values" if allow_nan else "NaN or infinite values"
    elif array.dtype != dtype and is_integer(array.dtype) and not (result == array).all():
        problem = f"values that {dtype.name} cannot hold"
    else:
        return result
    raise InputError(f"{place}: array {name!r} holds {problem}", hint="clean the data")
