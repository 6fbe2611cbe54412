"""com.microsoft ops that the runtime's optimiser leaves in files."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import size_of
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


@rule("com.microsoft::FusedMatMul")
def fused_matmul(n: NodeView) -> None:
    """MatMul with transposed operands and a factor."""
    if n.attr("transBatchA", 0) or n.attr("transBatchB", 0):
        n.freeze_all("transposed batch axes")
        return
    a, b = n.x(0), n.x(1)
    if n.attr("transA", 0) and len(a) > 1:
        a[-2:] = a[-1], a[-2]
    if n.attr("transB", 0) and len(b) > 1:
        b[-2:] = b[-1], b[-2]
    contract(n, a, b)


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
