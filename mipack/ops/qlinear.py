"""Ops on quantised numbers: each operand is followed by its scale and zero point.

The rules are those of the float ops; a scale or a zero point is one number, or one for every unit
of an axis. In the result the zero point means zero.
"""

from __future__ import annotations

from mipack.graph.view import NodeView, without
from mipack.layout import UNIT, Term, size_of
from mipack.ops.conv import channels
from mipack.ops.matmul import contract
from mipack.ops.registry import rule

MS = "com.microsoft::"


def follow(n: NodeView, index: int, axis: Term) -> None:
    """A vector operand along an axis; one number for all gives no equation."""
    terms = [term for term in n.x(index) if size_of(term) != UNIT]
    if len(terms) == 1:
        n.eq(terms[0], axis)
    elif terms:
        n.freeze([*terms, axis], "scales of several axes")


@rule("QLinearConv", f"{MS}QLinearConv")
def qlinear_conv(n: NodeView) -> None:
    """x, w and y with scale and zero point each, then the bias."""
    last = bool(n.attr("channels_last", 0))
    channels(n, x=0, w=3, transposed=False, last=last)
    made = n.y()[-1 if last else 1]
    for slot in (4, 5, 8):
        follow(n, slot, made)
    n.ignore(1, 2, 6, 7)
    n.zero(0, 7)


@rule("QLinearMatMul")
def qlinear_matmul(n: NodeView) -> None:
    """a, b and y with scale and zero point each: of a per row, of b per column, or one."""
    a, b = n.x(0), n.x(3)
    contract(n, a, b)
    for slot in (1, 2):
        _rows(n, slot, a)
    for slot in (4, 5):
        _columns(n, slot, b)
    n.ignore(6, 7)
    n.zero(0, 7)


def _rows(n: NodeView, slot: int, a: list[Term]) -> None:
    """[m], or [.., m, 1]."""
    own = n.x(slot)
    if len(own) < 2:
        follow(n, slot, a[-2] if len(a) > 1 else a[-1])
    else:
        n.align(slot, result=a)


def _columns(n: NodeView, slot: int, b: list[Term]) -> None:
    """[n], or [.., 1, n]."""
    own = n.x(slot)
    if len(own) < 2:
        follow(n, slot, b[-1])
    else:
        n.align(slot, result=b)


@rule(f"{MS}QGemm")
def qgemm(n: NodeView) -> None:
    """A, B with scale and zero point each, C, and those of the result, which may be float."""
    a, b = n.x(0), n.x(3)
    a, b = (a[::-1] if n.attr("transA", 0) else a), (b[::-1] if n.attr("transB", 0) else b)
    contract(n, a, b)
    for slot in (4, 5):
        follow(n, slot, b[-1])
    n.align(6)
    n.ignore(1, 2, 7, 8)
    if n.has(8):
        n.zero(0, 8)


@rule(f"{MS}QLinearAdd", f"{MS}QLinearMul")
def qlinear_binary(n: NodeView) -> None:
    """A, B and C with scale and zero point each."""
    n.align(0)
    n.align(3)
    n.ignore(1, 2, 4, 5, 6, 7)
    n.zero(0, 7)


@rule(f"{MS}QLinearWhere")
def qlinear_where(n: NodeView) -> None:
    """A condition, X and Y with scale and zero point each, and those of Z."""
    for slot in (0, 1, 4):
        n.align(slot)
    n.ignore(2, 3, 5, 6, 7, 8)
    n.zero(0, 8)


@rule(f"{MS}QLinearSigmoid", f"{MS}QLinearLeakyRelu")
def qlinear_unary(n: NodeView) -> None:
    """X and Y with scale and zero point each."""
    n.align(0)
    n.ignore(1, 2, 3, 4)
    n.zero(0, 4)


@rule(f"{MS}QLinearSoftmax")
def qlinear_softmax(n: NodeView) -> None:
    """Couples the positions of one axis (before opset 13: of all from it on)."""
    data = n.x(0)
    n.same(data, n.y())
    old = int(n.attr("opset", 13)) < 13
    axis = n.axis(len(data), default=1 if old else -1)
    axes = range(axis, len(data)) if old else [axis]
    for k in axes:
        n.normalise(data[k])
    n.mixed(data, axes)
    n.ignore(1, 2, 3, 4)
    n.zero(0, 4)


@rule(f"{MS}QLinearConcat")
def qlinear_concat(n: NodeView) -> None:
    """Scale and zero point of Y, then every operand with its own."""
    y = n.y()
    axis, parts = n.axis(len(y)), []
    for i in range(2, len(n.inputs), 3):
        own = n.x(i)
        parts.append(own[axis])
        n.same(without(own, {axis}), without(y, {axis}))
        n.ignore(i + 1, i + 2)
    n.eq(n.sum(*parts), y[axis])
    n.ignore(0, 1)
    n.zero(0, 1)


@rule(f"{MS}QLinearAveragePool", f"{MS}QLinearGlobalAveragePool")
def qlinear_pool(n: NodeView) -> None:
    """Channels pass, spatial axes are frozen."""
    data, y = n.x(0), n.y()
    channel = len(data) - 1 if n.attr("channels_last", 0) else 1
    spatial = [k for k in range(1, len(data)) if k != channel]
    n.freeze([t for k in spatial for t in (data[k], y[k])], "spatial axis")
    n.mixed(data, spatial)
    n.same(without(data, spatial), without(y, spatial))
    n.ignore(1, 2, 3, 4)
    n.zero(0, 4)


@rule(f"{MS}MatMulIntegerToFloat", f"{MS}DynamicQuantizeMatMul")
def matmul_to_float(n: NodeView) -> None:
    """A float product of (to be) quantised operands; scales and zero points of B per column."""
    a, b = n.x(0), n.x(1)
    contract(n, a, b)
    dynamic = n.op == "DynamicQuantizeMatMul"
    of_b, bias = ((2, 3), 4) if dynamic else ((3, 5), 6)
    for slot in of_b:
        if n.has(slot):
            _columns(n, slot, b)
    if not dynamic:
        for slot in (2, 4):
            if n.has(slot):
                _rows(n, slot, a)
    if n.has(bias):
        follow(n, bias, n.y()[-1])
