"""Contractions: MatMul, Gemm, Einsum."""

from __future__ import annotations

from mipack.graph.einsum import axis_names
from mipack.graph.view import NodeView
from mipack.layout import UNIT, Term, size_of
from mipack.ops.registry import rule


@rule("MatMul")
def matmul(n: NodeView) -> None:
    """[.., m, k] x [.., k, n] -> [.., m, n]; a vector operand lacks its m or n."""
    contract(n, n.x(0), n.x(1))
    x_rank, w_rank = len(n.x(0)), len(n.x(1))
    if w_rank == 2:
        n.linear(0, 1, x_axis=-1, y_axis=-1, w_in=0, w_out=1)
    if x_rank == 2 and w_rank >= 2:  # the weight on the left: its columns are contracted
        n.linear(1, 0, x_axis=-2, y_axis=-2, w_in=1, w_out=0)


def contract(n: NodeView, a: list[Term], b: list[Term]) -> None:
    """The equations of a matrix product of a and b, and its cost."""
    m, inner = (a[-2:-1], a[-1])
    cols, inner_b = (b[-1:], b[-2]) if len(b) > 1 else ([], b[-1])
    n.eq(inner, inner_b)
    y = n.y()
    tail = m + cols
    for own, result in zip(reversed(tail), reversed(y), strict=False):
        n.eq(own, result)
    batch = y[: len(y) - len(tail)]
    for operand in (a[:-2], b[:-2]):
        for own, result in zip(reversed(operand), reversed(batch), strict=False):
            if size_of(own) != UNIT:
                n.eq(own, result)
    for walked in (*tail, inner):
        n.together(*batch, walked)
    n.macs(*batch, *tail, inner)


@rule("Gemm")
def gemm(n: NodeView) -> None:
    """alpha op(A) op(B) + beta C."""
    trans_a, trans_b = bool(n.attr("transA", 0)), bool(n.attr("transB", 0))
    a, b, y = n.x(0), n.x(1), n.y()
    a, b = (a[::-1] if trans_a else a), (b[::-1] if trans_b else b)
    n.eq(a[1], b[0])
    n.eq(a[0], y[0])
    n.eq(b[1], y[1])
    n.align(2)
    for walked in (a[0], a[1], b[1]):
        n.together(walked)
    n.macs(a[0], a[1], b[1])
    whole_bias = not n.has(2) or (len(n.x(2)) == 1 and size_of(n.x(2)[0]) == size_of(y[1]))
    plain = float(n.attr("beta", 1.0)) == 1.0 and whole_bias
    if plain:
        n.linear(
            0,
            1,
            x_axis=0 if trans_a else 1,
            y_axis=1,
            w_in=1 if trans_b else 0,
            w_out=0 if trans_b else 1,
            bias=2,
            scale=float(n.attr("alpha", 1.0)),
        )


@rule("Einsum")
def einsum(n: NodeView) -> None:
    """One axis per letter (a diagonal is cut on both its axes); letters are walked in step."""
    operands = [*(n.x(i) for i in range(len(n.inputs))), n.y()]
    terms = axis_names(str(n.attr("equation")), [len(axes) for axes in operands])
    letters: dict[str, Term] = {}
    for labels, axes in zip(terms, operands, strict=True):
        for letter, axis in zip(labels, axes, strict=True):
            if size_of(axis) != UNIT:
                n.eq(letters.setdefault(letter, axis), axis)
    common = [c for c in letters if all(c in t for t in terms)]
    for letter in letters:
        n.together(*(letters[c] for c in dict.fromkeys([*common, letter])))
    n.macs(*letters.values())
    if len(terms) == 3:
        _einsum_linear(n, *terms)


def _einsum_linear(n: NodeView, x: list[str], w: list[str], y: list[str]) -> None:
    """x . W over one letter, rows in the same order: refit may solve for W."""
    inner, outer = [c for c in w if c not in y], [c for c in w if c not in x]
    if len(w) != 2 or len(inner) != 1 or len(outer) != 1 or x.count(inner[0]) != 1:
        return
    if [c for c in x if c != inner[0]] == [c for c in y if c != outer[0]]:
        n.linear(
            0,
            1,
            x_axis=x.index(inner[0]),
            y_axis=y.index(outer[0]),
            w_in=w.index(inner[0]),
            w_out=w.index(outer[0]),
        )
