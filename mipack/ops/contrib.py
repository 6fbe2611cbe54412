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
    contract(n, _turned(n, 0, "A"), _turned(n, 1, "B"))


def _turned(n: NodeView, index: int, which: str) -> list[Term]:
    """An operand as MatMul reads it: `transBatch` says that its first axis stands before its last,
    [m, batch.., k]; `trans` that its last two are exchanged."""
    axes = n.x(index)
    if n.attr(f"transBatch{which}", 0) and len(axes) > 2:
        first = axes.pop(0)
        axes.insert(len(axes) - 1, first)
    if n.attr(f"trans{which}", 0) and len(axes) > 1:
        axes[-2:] = axes[-1], axes[-2]
    return axes


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
