"""Mixtures of experts: each token goes through k of X experts, w2 act(w1 x).

    w1 [X, I, in] (swiglu: I x 2)    w2 [X, out, I]    I hidden units belong to their expert

Integer weights are packed along their last axis, and may have a scale per block of it: then only
whole blocks go.
"""

from __future__ import annotations

from dataclasses import dataclass

from mipack.graph.view import NodeView
from mipack.layout import Term, size_of
from mipack.ops.registry import rule
from mipack.ops.rotary import whole

BYTE = 8


@dataclass(frozen=True, slots=True)
class Packed:
    """An axis of numbers, of the bytes that hold them, and of their blocks."""

    numbers: Term
    bytes: Term
    blocks: Term


@rule("com.microsoft::MoE")
def mixture(n: NodeView) -> None:
    """Weights of full precision."""
    rows = routed(n, n.x(4)[2])
    n.same(n.x(2), [n.x(4)[0], rows, n.x(0)[-1]])
    n.same(n.x(4), [n.x(4)[0], n.x(0)[-1], n.x(4)[2]])
    n.same(n.x(3), n.x(2)[:2])
    n.same(n.x(5), n.x(4)[:2])


@rule("com.microsoft::QMoE")
def quantized_mixture(n: NodeView) -> None:
    """Integer weights: a scale that is cut silences its row."""
    if n.attr("quant_type", "int") != "int" or n.attr("weights_prepacked", 0) > 0:
        n.freeze_all("a packed form of weights")
        return
    width, hidden = (packed(n, size_of(n.x(i)[2])[0]) for i in (2, 5))
    rows, experts = routed(n, hidden.numbers), n.x(2)[0]
    n.eq(n.x(0)[-1], width.numbers)
    n.same(n.x(2), [experts, rows, width.bytes])
    n.same(n.x(5), [experts, width.numbers, hidden.bytes])
    for i, kept, along in ((3, rows, width), (6, width.numbers, hidden)):
        n.same(n.x(i), [experts, kept, along.blocks])
        n.same(n.x(i + 1), [experts, kept])


def packed(n: NodeView, size: int) -> Packed:
    """An axis of so many bytes."""
    each = BYTE // int(n.attr("expert_weight_bits", 4))
    unit = max(each, int(n.attr("block_size", 0)))
    blocks = n.atom(size * each // unit)
    return Packed(n.prod(blocks, whole(n, unit)), n.prod(blocks, whole(n, unit // each)), blocks)


def routed(n: NodeView, hidden: Term) -> Term:
    """Tokens, experts and cost; the rows of w1. What the router scores is not 0 when silent."""
    x, w1 = n.x(0), n.x(2)
    experts = w1[0]
    n.freeze(experts, "experts chosen at run time")
    n.same(n.x(1), [n.prod(*x[:-1]), experts])
    n.same(x, n.y())
    n.together(experts, hidden)
    halves = n.atom(size_of(w1[1])[0] // size_of(hidden)[0])
    n.freeze(halves, "gates")
    interleaved = int(n.attr("swiglu_fusion", 0)) < 2
    rows = n.prod(hidden, halves) if interleaved else n.prod(halves, hidden)
    chosen = n.atom(int(n.attr("k", 1)))
    for out, into in ((rows, x[-1]), (x[-1], hidden)):
        n.macs(*x[:-1], chosen, out, into)
    return rows
