"""Ops that read shapes and move elements."""

from __future__ import annotations

from math import prod
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from mipack.ops.torch.call import Call, axes_of, ints, op
from mipack.ops.torch.pointwise import TYPES


@op("Shape", host=(0,))
def shape(call: Call, x: Tensor) -> Tensor:
    """A vector on the host, whatever the device of x."""
    return torch.tensor(list(x.shape)[call.attr("start", 0) : call.attr("end")], dtype=torch.int64)


@op("Size", host=(0,))
def size(call: Call, x: Tensor) -> Tensor:
    """The number of elements."""
    return torch.tensor(x.numel(), dtype=torch.int64)


@op("Reshape", host=(1,))
def reshape(call: Call, x: Tensor, target: Tensor) -> Tensor:
    """0 copies a size unless allowzero, -1 is what is left."""
    sizes = ints(target)
    if not call.attr("allowzero", 0):
        sizes = [x.shape[k] if size == 0 else size for k, size in enumerate(sizes)]
    if x.numel() == 0 and -1 in sizes:
        sizes[sizes.index(-1)] = 0
    return x.reshape(sizes)


@op("Flatten")
def flatten(call: Call, x: Tensor) -> Tensor:
    """To a matrix."""
    axis = call.attr("axis", 1)
    rows = prod(x.shape[:axis])
    return x.reshape(rows, prod(x.shape[axis:]))


@op("Squeeze", host=(1,))
def squeeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Axes of size 1 go: those named, or all."""
    listed = axes_of(call, axes, x.dim())
    return x.squeeze() if listed is None else x.squeeze(tuple(listed))


@op("Unsqueeze", "com.microsoft::ExpandDims", host=(1,))
def unsqueeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Axes count in the result."""
    listed = call.attr("axes") if axes is None else ints(axes)
    rank = x.dim() + len(listed)
    for axis in sorted(a % rank for a in listed):
        x = x.unsqueeze(axis)
    return x


@op("Transpose")
def transpose(call: Call, x: Tensor) -> Tensor:
    """Reversed by default."""
    return x.permute(call.attr("perm", list(range(x.dim()))[::-1]))


@op("Expand", host=(1,))
def expand(call: Call, x: Tensor, target: Tensor) -> Tensor:
    """Broadcasting on both sides."""
    return x.expand(torch.broadcast_shapes(x.shape, ints(target)))


@op("Tile", host=(1,))
def tile(call: Call, x: Tensor, repeats: Tensor) -> Tensor:
    """One number per axis."""
    return x.repeat(ints(repeats))


@op("ConstantOfShape", host=(0,))
def constant_of_shape(call: Call, target: Tensor) -> Tensor:
    """Float zeros by default."""
    value = call.attr("value")
    if value is None:
        return torch.zeros(ints(target))
    return torch.full(ints(target), value.numpy().item(), dtype=TYPES[value.dtype])


@op("Constant")
def constant(call: Call) -> Tensor:
    """Of bodies; those of the graph are initializers by now."""
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if call.attr(name) is not None:
            kind = torch.float32 if "float" in name else torch.int64
            return torch.tensor(call.attr(name), dtype=kind)
    value = call.attr("value")
    if value is None or value.dtype not in TYPES:
        raise call.refuse("a constant of this type has no torch equivalent")
    return torch.tensor(value.numpy().tolist(), dtype=TYPES[value.dtype]).reshape(
        list(value.shape.numpy())
    )


@op("Range", "com.microsoft::Range", host=(0, 1, 2))
def range_(call: Call, start: Tensor, limit: Tensor, delta: Tensor | None = None) -> Tensor:
    """From start, below limit."""
    step = 1 if delta is None else delta.item()
    first, last = start.item(), limit.item()
    count = max(0, -int((first - last) // step))
    return torch.arange(count, dtype=start.dtype) * step + first


@op("EyeLike", host=(0,))
def eye_like(call: Call, x: Tensor) -> Tensor:
    """Ones on the k-th diagonal."""
    kind = TYPES[ir.DataType(call.attr("dtype"))] if call.attr("dtype") else x.dtype
    k = call.attr("k", 0)
    one = torch.ones(x.shape, dtype=torch.int64)
    return (one.triu(k) - one.triu(k + 1)).to(kind)


@op("Concat")
def concat(call: Call, *xs: Tensor) -> Tensor:
    """Along an axis."""
    return torch.cat(xs, call.attr("axis"))


@op("Split", host=(1,))
def split(call: Call, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """By sizes, or into as equal parts as there are results."""
    axis = call.attr("axis", 0)
    listed = ints(sizes) if sizes is not None else call.attr("split")
    if listed is None:
        each = -(-x.shape[axis] // call.results)
        listed = [each] * (call.results - 1)
        listed.append(x.shape[axis] - sum(listed))
    return torch.split(x, listed, axis)


@op("Slice", host=(1, 2, 3, 4))
def slice_(
    call: Call,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Bounds are attributes before opset 10."""
    low = ints(starts) if starts is not None else call.attr("starts")
    high = ints(ends) if ends is not None else call.attr("ends")
    along = axes_of(call, axes, x.dim()) or list(range(len(low)))
    by = ints(steps) or [1] * len(low)
    for axis, a, b, step in zip(along, low, high, by, strict=True):
        start, stop, _ = slice(a, b if b > -(1 << 31) else None, step).indices(x.shape[axis])
        if step > 0:
            x = x[(slice(None),) * axis + (slice(start, stop, step),)]
        else:
            order = torch.arange(start, stop, step, device=x.device)
            x = x.index_select(axis, order)
    return x


@op("Pad", "com.microsoft::Pad", host=(1, 2, 3))
def pad(
    call: Call,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """Constant, or by picking elements (edge, reflect, wrap)."""
    listed = ints(pads) if pads is not None else call.attr("pads")
    along = list(range(x.dim())) if axes is None else [a % x.dim() for a in ints(axes)]
    half = len(listed) // 2
    sides = dict(zip(along, zip(listed[:half], listed[half:], strict=True), strict=True))
    mode = call.attr("mode", "constant")
    if mode == "constant":
        fill = call.attr("value", 0.0) if value is None else value.item()
        flat = [p for axis in reversed(range(x.dim())) for p in sides.get(axis, (0, 0))]
        return F.pad(x, flat, value=fill)
    for axis, (before, after) in sides.items():
        if before or after:
            places = torch.arange(-before, x.shape[axis] + after, device=x.device)
            x = x.index_select(axis, _inside(places, x.shape[axis], mode))
    return x


def _inside(places: Tensor, size: int, mode: str) -> Tensor:
    """The element that stands at places beyond the ends."""
    if mode == "wrap":
        return places % size
    if mode == "edge" or size == 1:
        return places.clamp(0, size - 1)
    around = places % (2 * size - 2)
    return torch.minimum(around, 2 * size - 2 - around)


@op("Gather")
def gather(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """x[.., indices, ..]; a single index is a view."""
    axis = call.attr("axis", 0) % x.dim()
    if indices.dim() == 0 and indices.device.type == "cpu":
        return x.select(axis, int(indices))
    flat = indices.reshape(-1).long()
    found = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
    return found.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


@op("GatherElements")
def gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """As torch.gather, with negative indices."""
    axis = call.attr("axis", 0)
    return torch.gather(x, axis, _positive(indices, x.shape[axis]))


def _positive(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@op("GatherND", "com.microsoft::GatherND")
def gather_nd(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """The last axis of indices lists positions in the axes after batch_dims."""
    outer = call.attr("batch_dims", 0)
    grid = [
        torch.arange(n, device=x.device).reshape([-1] + [1] * (indices.dim() - 2 - k))
        for k, n in enumerate(x.shape[:outer])
    ]
    return x[(*grid, *indices.long().unbind(-1))]


REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@op("ScatterElements", "Scatter")
def scatter_elements(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """As torch.scatter, with a reduction."""
    axis, how = call.attr("axis", 0), call.attr("reduction", "none")
    places = _positive(indices, x.shape[axis])
    if how == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, REDUCTIONS[how], include_self=True)


@op("ScatterND")
def scatter_nd(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Blocks at positions of the leading axes."""
    how = call.attr("reduction", "none")
    places = tuple(indices.long().unbind(-1))
    if how in ("none", "add"):
        return x.index_put(places, updates, accumulate=how == "add")
    depth = len(places)
    strides = [prod(x.shape[k + 1 : depth]) for k in range(depth)]
    rows = sum(_positive(i, n) * s for i, n, s in zip(places, x.shape, strides, strict=False))
    flat = x.reshape(prod(x.shape[:depth]), -1)
    row = torch.as_tensor(rows).reshape(-1, 1).expand(-1, flat.shape[1])
    values = updates.reshape(row.shape)
    return flat.scatter_reduce(0, row, values, REDUCTIONS[how]).reshape(x.shape)


@op("Trilu", "com.microsoft::Trilu", host=(1,))
def trilu(call: Call, x: Tensor, k: Tensor | None = None) -> Tensor:
    """The upper or lower triangle of the last two axes."""
    diagonal = 0 if k is None else int(k)
    return torch.triu(x, diagonal) if call.attr("upper", 1) else torch.tril(x, diagonal)


@op("OneHot", host=(1,))
def one_hot(call: Call, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """A new axis of `depth` places: off, on."""
    count = int(depth)
    places = torch.arange(count, device=indices.device)
    axis = call.attr("axis", -1) % (indices.dim() + 1)
    found = indices.long().unsqueeze(axis)
    shape = [1] * found.dim()
    shape[axis] = count
    hit = torch.where(found < 0, found + count, found) == places.reshape(shape)
    return torch.where(hit, values[1], values[0])


@op("NonZero")
def non_zero(call: Call, x: Tensor) -> Tensor:
    """Indices of the elements that are not zero: [rank, count]."""
    return x.nonzero().T


@op("Compress")
def compress(call: Call, x: Tensor, condition: Tensor) -> Tensor:
    """The slices that a vector of truth values marks."""
    places = condition.reshape(-1).nonzero().reshape(-1)
    axis = call.attr("axis")
    return x.reshape(-1)[places] if axis is None else x.index_select(axis, places)


@op("DepthToSpace")
def depth_to_space(call: Call, x: Tensor) -> Tensor:
    """Blocks of channels to space."""
    b, (n, c, h, w) = call.attr("blocksize"), x.shape
    if call.attr("mode", "DCR") == "DCR":
        x = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // b**2, h * b, w * b)


@op("SpaceToDepth")
def space_to_depth(call: Call, x: Tensor) -> Tensor:
    """The inverse of DepthToSpace in mode DCR."""
    b, (n, c, h, w) = call.attr("blocksize"), x.shape
    x = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * b**2, h // b, w // b)


@op("ReverseSequence", host=(1,))
def reverse_sequence(call: Call, x: Tensor, lengths: Tensor) -> Tensor:
    """The first steps of every sequence, last first."""
    batch, time = call.attr("batch_axis", 1), call.attr("time_axis", 0)
    rows = []
    for row, length in zip(x.unbind(batch), ints(lengths), strict=True):
        axis = time - (batch < time)
        head, tail = row.split([length, row.shape[axis] - length], axis)
        rows.append(torch.cat([head.flip(axis), tail], axis))
    return torch.stack(rows, batch)


# ---------------------------------------------------------------- sequences are lists


@op("SequenceEmpty")
def sequence_empty(call: Call) -> list[Tensor]:
    """No elements."""
    return []


@op("SequenceConstruct")
def sequence_construct(call: Call, *xs: Tensor) -> list[Tensor]:
    """These elements."""
    return list(xs)


@op("SequenceInsert", host=(2,))
def sequence_insert(call: Call, xs: list[Tensor], x: Tensor, at: Tensor | None = None) -> Any:
    """At the end by default."""
    place = len(xs) if at is None else int(at)
    place += len(xs) if place < 0 else 0
    return [*xs[:place], x, *xs[place:]]


@op("SequenceErase", host=(1,))
def sequence_erase(call: Call, xs: list[Tensor], at: Tensor | None = None) -> list[Tensor]:
    """The last by default."""
    place = (len(xs) - 1 if at is None else int(at)) % len(xs)
    return [*xs[:place], *xs[place + 1 :]]


@op("SequenceAt", host=(1,))
def sequence_at(call: Call, xs: list[Tensor], at: Tensor) -> Tensor:
    """One element."""
    return xs[int(at)]


@op("SequenceLength")
def sequence_length(call: Call, xs: list[Tensor]) -> Tensor:
    """How many elements."""
    return torch.tensor(len(xs), dtype=torch.int64)


@op("ConcatFromSequence")
def concat_from_sequence(call: Call, xs: list[Tensor]) -> Tensor:
    """Along an axis, or along a new one."""
    join = torch.stack if call.attr("new_axis", 0) else torch.cat
    return join(xs, dim=call.attr("axis"))


@op("SplitToSequence", host=(1,))
def split_to_sequence(call: Call, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    """Parts of the sizes given (one number: of this size each), else of one element."""
    axis = call.attr("axis", 0)
    if sizes is None:
        parts = x.split(1, axis)
        return list(parts if call.attr("keepdims", 1) else (p.squeeze(axis) for p in parts))
    listed = ints(sizes)
    return list(x.split(listed[0] if sizes.dim() == 0 else listed, axis))
