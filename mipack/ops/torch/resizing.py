"""Resize, Upsample and sampling at given points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mipack.ops.torch.call import Call, ints, op


def _coordinates(
    call: Call, size: int, result: int, scale: float, roi: tuple[float, float]
) -> Tensor:
    """Where each element of the result stands in the input: [result], float64."""
    at = torch.arange(result, dtype=torch.float64)
    mode = call.attr("coordinate_transformation_mode", "half_pixel")
    if call.opset < 11:
        mode = "asymmetric"
    if mode == "align_corners":
        return at * (size - 1) / (result - 1) if result > 1 else at * 0
    if mode == "asymmetric":
        return at / scale
    if mode == "tf_crop_and_resize":
        start, end = roi
        if result == 1:
            return torch.full((1,), 0.5 * (start + end) * (size - 1), dtype=torch.float64)
        return start * (size - 1) + at * (end - start) * (size - 1) / (result - 1)
    if mode == "pytorch_half_pixel" and result == 1:
        return at * 0
    found = (at + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        adjustment = result / (scale * size)
        found = found + 0.5 * size * (1 - adjustment)
    return found


def _nearest(call: Call, where: Tensor, size: int) -> Tensor:
    mode = call.attr("nearest_mode", "round_prefer_floor")
    if call.opset < 11:
        mode = "floor"
    if mode == "floor":
        found = where.floor()
    elif mode == "ceil":
        found = where.ceil()
    elif mode == "round_prefer_ceil":
        found = (where + 0.5).floor()
    else:
        found = (where - 0.5).ceil()
    return found.long().clamp(0, size - 1)


def _weights(call: Call, mode: str, part: Tensor) -> tuple[list[int], Tensor]:
    """Offsets of the neighbours and their weights [neighbours, result]; `part` is in [0, 1)."""
    if mode == "linear":
        return [0, 1], torch.stack([1 - part, part])
    a = call.attr("cubic_coeff_a", -0.75)
    rows = []
    for offset in (-1, 0, 1, 2):
        d = (part - offset).abs()
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        rows.append(torch.where(d <= 1, near, far))
    return [-1, 0, 1, 2], torch.stack(rows)


def _along(call: Call, x: Tensor, axis: int, where: Tensor, mode: str) -> Tensor:
    """x at positions along one axis, interpolated."""
    size = x.shape[axis]
    if mode == "nearest":
        return x.index_select(axis, _nearest(call, where, size).to(x.device))
    low = where.floor()
    offsets, weights = _weights(call, mode, where - low)
    places = [low.long() + offset for offset in offsets]
    if call.attr("exclude_outside", 0):
        inside = torch.stack([(p >= 0) & (p < size) for p in places])
        weights = weights * inside
        weights = weights / weights.sum(0)
    shape = [1] * x.dim()
    shape[axis] = -1
    total = torch.zeros(())
    for place, weight in zip(places, weights, strict=True):
        part = x.index_select(axis, place.clamp(0, size - 1).to(x.device))
        total = total.to(x.device) + part * weight.to(x).reshape(shape)
    if call.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        outside = ((where < 0) | (where > size - 1)).reshape(shape).to(x.device)
        total = torch.where(outside, call.attr("extrapolation_value", 0.0), total)
    return total


@op("Resize", "Upsample", host=(1, 2, 3))
def resize(
    call: Call,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    """Axis by axis: nearest, linear and cubic interpolation are separable."""
    if call.attr("antialias", 0):
        raise call.refuse("Resize with antialias has no torch function here")
    if call.node.op_type == "Upsample" or call.opset < 11:
        roi, scales = None, roi
    axes = [a % x.dim() for a in call.attr("axes", list(range(x.dim())))]
    factors = call.attr("scales") if call.node.op_type == "Upsample" and scales is None else None
    if factors is None and scales is not None and scales.numel():
        factors = scales.tolist()
    results, factors = _results(call, x, axes, factors, sizes)
    regions = [] if roi is None else roi.tolist()
    mode = call.attr("mode", "nearest")
    for k, axis in enumerate(axes):
        region = (regions[k], regions[k + len(axes)]) if regions else (0.0, 1.0)
        unchanged = results[k] == x.shape[axis] and factors[k] == 1 and region == (0.0, 1.0)
        if not unchanged:
            where = _coordinates(call, x.shape[axis], results[k], factors[k], region)
            x = _along(call, x, axis, where, mode)
    return x


def _results(
    call: Call, x: Tensor, axes: Sequence[int], scales: list[float] | None, sizes: Tensor | None
) -> tuple[list[int], list[float]]:
    """Sizes and scales of the resized axes."""
    old = [x.shape[axis] for axis in axes]
    if scales is not None:
        return [int(n * s) for n, s in zip(old, scales, strict=True)], list(scales)
    wanted = ints(sizes)
    found = [w / n for w, n in zip(wanted, old, strict=True)]
    policy = call.attr("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        one = min(found) if policy == "not_larger" else max(found)
        return [int(one * n + 0.5) for n in old], [one] * len(old)
    return wanted, found


@op("GridSample", "com.microsoft::GridSample")
def grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    """As torch."""
    names = {"linear": "bilinear", "cubic": "bicubic"}
    mode = call.attr("mode", "linear")
    return F.grid_sample(
        x,
        grid,
        mode=names.get(mode, mode),
        padding_mode=call.attr("padding_mode", "zeros"),
        align_corners=bool(call.attr("align_corners", 0)),
    )


@op("AffineGrid", host=(1,))
def affine_grid(call: Call, theta: Tensor, size: Tensor) -> Any:
    """As torch."""
    return F.affine_grid(theta, ints(size), align_corners=bool(call.attr("align_corners", 0)))
