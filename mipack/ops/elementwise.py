"""Ops that act on each position alone: operands broadcast from the right, axes of size 1 give no
equation."""

from __future__ import annotations

from mipack.graph.pointwise import BROADCASTING, UNARY
from mipack.graph.view import NodeView
from mipack.ops.registry import rule


@rule(*UNARY, *BROADCASTING)
def elementwise(n: NodeView) -> None:
    """Every operand against the result."""
    for i in range(len(n.inputs)):
        n.align(i)


@rule("BitCast", "Clip", "CastLike", "Dropout")
def first_operand(n: NodeView) -> None:
    """The first operand is the data; the others are scalars, a type or a switch."""
    n.align(0)
    n.ignore(1, 2)
    if len(n.outputs) > 1:
        n.align(0, 1)
