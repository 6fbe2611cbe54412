"""Quantised forms: scales and zero points follow the axis that they belong to."""

from __future__ import annotations

from mipack.graph.view import NodeView, without
from mipack.layout import UNIT, Term, size_of, times
from mipack.ops.conv import channels
from mipack.ops.matmul import contract
from mipack.ops.qlinear import MS, follow
from mipack.ops.registry import rule


@rule(*(f"{domain}{op}" for domain in ("", MS) for op in ("QuantizeLinear", "DequantizeLinear")))
def quantize(n: NodeView) -> None:
    """Position by position; one scale for all, or one per position or block of `axis`."""
    data = n.x(0)
    n.same(data, n.y())
    axis = n.axis(len(data), default=1)
    block = int(n.attr("block_size", 0))
    for i in (1, 2):
        if n.has(i) and block:
            _blocks(n, data, n.x(i), axis, block)
        elif n.has(i) and data:
            follow(n, i, data[axis])
    if n.op == "QuantizeLinear" and n.has(2) and not block:
        n.zero(0, 2, axis)


def _blocks(n: NodeView, data: list[Term], own: list[Term], axis: int, size: int) -> None:
    """One number for every block along `axis`; a padded last block holds the axis as it is.

    A single block may be of any size up to its own, so its positions are units like others.
    """
    n.same(without(own, {axis}), without(data, {axis}))
    if size_of(own[axis]) == UNIT:
        return
    block = n.atom(size)
    n.freeze(block, "block of a quantised weight")
    if size_of(data[axis]) == times([size_of(own[axis]), size_of(block)]):
        n.eq(data[axis], n.prod(own[axis], block))
    else:
        n.freeze([data[axis], own[axis]], "padded block of a quantised weight")


@rule("DynamicQuantizeLinear")
def dynamic_quantize(n: NodeView) -> None:
    """The range always holds 0: silent units do not move the scale."""
    n.same(n.x(0), n.y())
    n.zero(0, n.result(2))


@rule("MatMulInteger", "com.microsoft::MatMulInteger16")
def matmul_integer(n: NodeView) -> None:
    """Zero points (where there are any): of A per row, of B per column, or one for all."""
    a, b = n.x(0), n.x(1)
    contract(n, a, b)
    if n.has(2):
        follow(n, 2, a[-2] if len(a) > 1 else a[-1])
    if n.has(3):
        follow(n, 3, b[-1])


@rule("ConvInteger")
def conv_integer(n: NodeView) -> None:
    """(x, w, zero of x, zero of w)."""
    channels(n, x=0, w=1, transposed=False)
    n.ignore(2)
    if n.has(3):
        follow(n, 3, n.y()[1])
