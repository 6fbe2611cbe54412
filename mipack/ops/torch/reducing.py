"""Reductions, softmax, sorting and sums along an axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mipack.ops.torch.call import Call, Function, as_float, axes_of, ints, op


def _extreme(largest: bool) -> Function:
    return torch.amax if largest else torch.amin


def _prod(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def _norm(order: int) -> Function:
    return lambda x, axes, keepdim: torch.linalg.vector_norm(as_float(x), order, axes, keepdim)


REDUCTIONS: dict[str, Function] = {
    "ReduceL1": lambda x, axes, keepdim: x.abs().sum(axes, keepdim),
    "ReduceL2": _norm(2),
    "ReduceLogSum": lambda x, axes, keepdim: x.sum(axes, keepdim).log(),
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceMax": _extreme(True),
    "ReduceMean": lambda x, axes, keepdim: x.mean(axes, keepdim),
    "ReduceMin": _extreme(False),
    "ReduceProd": _prod,
    "ReduceSum": lambda x, axes, keepdim: x.sum(axes, keepdim, dtype=x.dtype),
    "ReduceSumSquare": lambda x, axes, keepdim: x.square().sum(axes, keepdim),
}


def _reduce(function: Function) -> Function:
    def reduction(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
        listed = axes_of(call, axes, x.dim()) or []
        if not listed and call.attr("noop_with_empty_axes", 0):
            listed = []
        elif not listed:
            listed = list(range(x.dim()))
        if not listed:
            return _alone(call.node.op_type, x)
        return function(x, listed, bool(call.attr("keepdims", 1)))

    return reduction


def _alone(name: str, x: Tensor) -> Tensor:
    """A reduction over no axis at all."""
    alone: dict[str, Function] = {
        "ReduceL1": torch.abs,
        "ReduceL2": torch.abs,
        "ReduceLogSum": torch.log,
        "ReduceSumSquare": torch.square,
    }
    return alone[name](x) if name in alone else x


for _name, _function in REDUCTIONS.items():
    op(_name, host=(1,))(_reduce(_function))


@op("ArgMax", "ArgMin")
def arg_extreme(call: Call, x: Tensor) -> Tensor:
    """The first of equal ones, or the last."""
    axis, keep = call.attr("axis", 0), bool(call.attr("keepdims", 1))
    find = torch.argmax if call.node.op_type == "ArgMax" else torch.argmin
    if call.attr("select_last_index", 0):
        return x.shape[axis] - 1 - find(x.flip(axis), dim=axis, keepdim=keep)
    return find(x, dim=axis, keepdim=keep)


@op("TopK", host=(1,))
def top_k(call: Call, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Values (with gradients) and indices; of equal ones the first, as the standard wants."""
    count = ints(k)[0] if k is not None else call.attr("k")
    axis, largest = call.attr("axis", -1), bool(call.attr("largest", 1))
    values, places = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


@op("CumSum", host=(1,))
def cum_sum(call: Call, x: Tensor, axis: Tensor) -> Tensor:
    """Forwards or backwards, with or without the element itself."""
    dim = int(axis)
    back, exclusive = call.attr("reverse", 0), call.attr("exclusive", 0)
    total = (x.flip(dim) if back else x).cumsum(dim, dtype=x.dtype)
    total = total.flip(dim) if back else total
    return total - x if exclusive else total


@op("Softmax", "LogSoftmax", "Hardmax")
def softmax(call: Call, x: Tensor) -> Tensor:
    """Over one axis; before opset 13 over all from `axis` on."""
    old = call.opset < 13
    axis = call.attr("axis", 1 if old else -1)
    shape = x.shape
    if old:
        axis = axis % max(x.dim(), 1)
        x, axis = x.flatten(axis) if axis < x.dim() else x.unsqueeze(-1), axis
    if call.node.op_type == "LogSoftmax":
        return x.log_softmax(axis).reshape(shape)
    if call.node.op_type == "Hardmax":
        first = x.argmax(axis, keepdim=True)
        return torch.zeros_like(x).scatter(axis, first, 1.0).reshape(shape)
    return safe_softmax(x, axis).reshape(shape)


def safe_softmax(x: Tensor, axis: int) -> Tensor:
    """Softmax; a row of -inf is NaN, but gives no gradient.

    Exporters mask with -inf and replace the NaN of wholly masked rows afterwards: the gradient
    through such a row would be 0 * NaN, and would reach everything below.
    """
    if not x.requires_grad:
        return x.softmax(axis)
    masked = x.detach().amax(axis, keepdim=True) == -torch.inf
    if not bool(masked.any()):
        return x.softmax(axis)
    return torch.where(masked, torch.nan, torch.where(masked, 0.0, x).softmax(axis))


@op("LpNormalization")
def lp_normalization(call: Call, x: Tensor) -> Tensor:
    """x / its norm along an axis; zero where the norm is."""
    axis = call.attr("axis", -1)
    norm = torch.linalg.vector_norm(x, call.attr("p", 2), axis, keepdim=True)
    return x / torch.where(norm == 0, 1.0, norm)


@op("MatMul")
def matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """As numpy."""
    return torch.matmul(a, b)


@op("Gemm")
def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha A B + beta C."""
    a = a.T if call.attr("transA", 0) else a
    b = b.T if call.attr("transB", 0) else b
    alpha, beta = call.attr("alpha", 1.0), call.attr("beta", 1.0)
    y = a @ b
    y = y if alpha == 1 else alpha * y
    return y if c is None else y + (c if beta == 1 else beta * c)


@op("Einsum")
def einsum(call: Call, *xs: Tensor) -> Any:
    """As torch."""
    return torch.einsum(call.attr("equation"), *xs)


@op("Det")
def det(call: Call, x: Tensor) -> Tensor:
    """Of the last two axes."""
    return torch.linalg.det(x)
