"""Tensors as the v2 protocol and Triton's configuration name and measure them.

    numpy     v2      config.pbtxt
    float32   FP32    TYPE_FP32
    str       BYTES   TYPE_STRING

Where a model batches, the server keeps the first axis to itself: configurations leave it out,
metadata shows it as -1. A tensor without any axis left is written as [1]; Triton's `reshape`
says what the model itself has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mipack.errors import UnsupportedError
from mipack.records import Dim, Signature, TensorSpec

V2_TYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "str": "BYTES",
}
NUMPY_TYPES = {v2: name for name, v2 in V2_TYPES.items()}
ANY = -1
"""A size that differs from request to request."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One tensor as a server's metadata shows it: v2 type, shape with the batch axis."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} [{', '.join(map(str, self.shape))}]"


def v2_type(spec: TensorSpec) -> str:
    """The v2 name of a tensor's type. UnsupportedError where the protocol has none."""
    if spec.dtype not in V2_TYPES:
        raise UnsupportedError(
            f"{spec.name} is of type {spec.dtype}, which cannot be sent to a server",
            hint=f"types that can: {', '.join(V2_TYPES)}",
        )
    return V2_TYPES[spec.dtype]


def config_type(spec: TensorSpec) -> str:
    """The name of a tensor's type in config.pbtxt."""
    known = v2_type(spec)
    return "TYPE_STRING" if known == "BYTES" else f"TYPE_{known}"


def dims(shape: Sequence[Dim], *, batched: bool) -> tuple[int, ...]:
    """The sizes behind the batch axis; none where a sample is a single number."""
    rest = shape[1:] if batched else shape
    return tuple(dim if isinstance(dim, int) else ANY for dim in rest)


def wire(spec: TensorSpec, *, batched: bool) -> Wire:
    """A model's tensor as a server shows it that batches it, or does not."""
    rest = dims(spec.shape or (), batched=batched) or (1,)
    return Wire(spec.name, v2_type(spec), (ANY, *rest) if batched else rest)


def as_signature(
    inputs: Iterable[Wire], outputs: Iterable[Wire], *, batched: bool = False
) -> Signature:
    """What a server says of a model, as the signature that data are read for. Where it batches,
    the first axis counts samples whatever the metadata calls it."""
    return Signature(
        tuple(_spec(one, batched) for one in inputs), tuple(_spec(one, batched) for one in outputs)
    )


def _spec(one: Wire, batched: bool) -> TensorSpec:
    shape: list[Dim] = [None if size < 0 else size for size in one.shape]
    if batched and shape:
        shape[0] = "batch"
    return TensorSpec(one.name, NUMPY_TYPES.get(one.datatype, one.datatype.lower()), tuple(shape))
