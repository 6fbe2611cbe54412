"""com.microsoft ops that the runtime's optimiser leaves in files."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import Term, size_of
from mipack.ops.conv import channels
from mipack.ops.matmul import contract
from mipack.ops.registry import rule


@rule(*(f"com.microsoft::{op}" for op in ("BiasGelu", "FastGelu", "QuickGelu", "Gelu")))
def fused_activation(n: NodeView) -> None:
    """An activation, with a bias added first."""
    for i in range(len(n.inputs)):
        n.align(i)


@rule("com.microsoft::SkipLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization")
def skip_norm(n: NodeView) -> None:
    """The sum of two streams (and a bias), normalised over the last axis; output 3 is the sum."""
    data = n.x(0)
    for i in range(1, len(n.inputs)):
        if n.has(i):
            n.align(i, result=data)
    for j in (0, 3):
        if n.y(j):
            n.same(data, n.y(j))
    n.normalise(data[-1])
    n.mixed(data, [len(data) - 1])


@rule("com.microsoft::FusedGemm")
def fused_gemm(n: NodeView) -> None:
    """Gemm and an activation: what refit would solve for is not in the file, so it is cut only."""
    a, b, y = n.x(0), n.x(1), n.y()
    a, b = (a[::-1] if n.attr("transA", 0) else a), (b[::-1] if n.attr("transB", 0) else b)
    contract(n, a, b)
    n.align(2, result=y)


@rule("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul")
def fused_matmul(n: NodeView) -> None:
    """MatMul with transposed operands and a factor."""
    contract(n, *(_transposed(n, i, side) for i, side in enumerate("AB")))


def _transposed(n: NodeView, index: int, side: str) -> list[Term]:
    """[rows, batch.., columns] -> [batch.., rows, columns]; then rows and columns swapped."""
    axes = n.x(index)
    if n.attr(f"transBatch{side}", 0):
        axes.insert(-1, axes.pop(0))
    if n.attr(f"trans{side}", 0) and len(axes) > 1:
        axes[-2:] = axes[-1], axes[-2]
    return axes


@rule("com.microsoft::EmbedLayerNormalization", "com.microsoft::QEmbedLayerNormalization")
def embed_norm(n: NodeView) -> None:
    """Rows of tables of words, positions and segments, added up and normalised.

    Of integer tables the operands from 8 on are scales and zero points, one for all.
    """
    ids, y = n.x(0), n.y()
    n.same(ids, y)
    for i in (1, 7, 8):
        n.align(i, result=ids)
    for i in (2, 3, 4):
        for rows, width in [n.x(i)] if n.has(i) else []:
            n.freeze(rows, "indexed by data")
            n.eq(width, y[2])
    for i in (5, 6):
        n.eq(n.x(i)[0], y[2])
    n.same(n.y(1), ids)  # how many steps of each sample count
    n.same(n.y(2), y)
    n.freeze(ids[1], "order matters")
    n.normalise(y[2])


@rule("com.microsoft::FusedConv")
def fused_conv(n: NodeView) -> None:
    """Conv, a sum with operand 3, and an activation."""
    channels(n, x=0, w=1, transposed=False)
    y = n.y()
    if n.has(2):
        n.eq(n.x(2)[0], y[1])
    for own, result in zip(n.x(3), y, strict=False):
        if size_of(own) == size_of(result):
            n.eq(own, result)


@rule("com.microsoft::CDist")
def distances(n: NodeView) -> None:
    """[m, k], [n, k] -> distances [m, n]: zeros on both sides add nothing."""
    contract(n, n.x(0), n.x(1)[::-1])


@rule("com.microsoft::CausalConvWithState")
def causal_conv(n: NodeView) -> None:
    """A filter per channel along the steps of [B, C, L]; the last steps are kept for later."""
    x, y, w = n.x(0), n.y(), n.x(1)
    if len(x) != 3 or n.attr("channels_last", 0) or n.attr("state_window", 0):
        n.freeze_all("several spatial axes, another order of axes, or states of several steps")
        return
    n.same(x, y)
    n.eq(w[0], x[1])
    n.same(n.x(2), x[1:2])
    for state in filter(None, (n.x(3), n.y(1))):
        n.same(state[:2], x[:2])
        n.freeze(state[2], "spatial axis")
    n.freeze([x[2], w[2]], "spatial axis")
    n.macs(*x, w[2])
