"""Quantised forms: scales and zero points follow the axis that they belong to."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.ops.conv import channels
from mipack.ops.matmul import contract
from mipack.ops.qlinear import follow
from mipack.ops.registry import rule


@rule("QuantizeLinear", "DequantizeLinear")
def quantize(n: NodeView) -> None:
    """Position by position; one scale for all, or one per position of `axis`."""
    data = n.x(0)
    if int(n.attr("block_size", 0)) or any(len(n.x(i)) > 1 for i in (1, 2)):
        n.freeze_all("scales per block")
        return
    n.same(data, n.y())
    axis = n.axis(len(data), default=1)
    for i in (1, 2):
        if n.has(i) and data:
            follow(n, i, data[axis])
    if n.op == "QuantizeLinear" and n.has(2):
        n.zero(0, 2, axis)


@rule("DynamicQuantizeLinear")
def dynamic_quantize(n: NodeView) -> None:
    """The range always holds 0: silent units do not move the scale."""
    n.same(n.x(0), n.y())
    n.zero(0, n.result(2))


@rule("MatMulInteger")
def matmul_integer(n: NodeView) -> None:
    """Zero points: of A per row, of B per column, or one for all."""
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
