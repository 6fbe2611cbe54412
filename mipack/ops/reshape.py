"""Ops that only rename positions: reshapes, transposes, broadcasts to a shape."""

from __future__ import annotations

from collections.abc import Sequence

from mipack.graph.view import NodeView
from mipack.layout import UNIT, Term, divides, quotient, size_of
from mipack.ops.registry import rule
from mipack.terms import runs


@rule("Reshape", "Flatten")
def reshape(n: NodeView) -> None:
    """Row-major order stays: smallest runs of axes with equal products, in both probes."""
    data, y = _no_units(n.x(0)), _no_units(n.y())
    for left, right in runs([size_of(t) for t in data], [size_of(t) for t in y]):
        n.eq(n.prod(*(data[i] for i in left)), n.prod(*(y[j] for j in right)))
    if n.op == "Reshape":
        spell_shape(n, 1)


def _no_units(terms: Sequence[Term]) -> list[Term]:
    return [t for t in terms if size_of(t) != UNIT]


def spell_shape(n: NodeView, slot: int | str) -> None:
    """An operand or attribute that lists the sizes of the result's last axes."""
    y = n.y()
    listed = n.x(slot) if isinstance(slot, int) else None
    count = size_of(listed[0])[0] if listed else len(y)
    for j in range(count):
        n.encode(slot, j, y[len(y) - count + j])


@rule("Squeeze", "Unsqueeze", "com.microsoft::ExpandDims")
def squeeze(n: NodeView) -> None:
    """Axes of size 1 come and go; the others keep their order."""
    for own, result in zip(_no_units(n.x(0)), _no_units(n.y()), strict=False):
        n.eq(own, result)
    n.ignore(1)


@rule("Transpose")
def transpose(n: NodeView) -> None:
    """Axes permuted."""
    data, y = n.x(0), n.y()
    for result, source in enumerate(n.attr("perm") or range(len(data))[::-1]):
        n.eq(data[source], y[result])


@rule("Expand")
def expand(n: NodeView) -> None:
    """Axes that are there stay; broadcast axes are new."""
    n.align(0)
    spell_shape(n, 1)


@rule("Tile")
def tile(n: NodeView) -> None:
    """An axis repeated as a whole: result = repeats x axis."""
    n.ignore(1)
    for axis, (own, result) in enumerate(zip(n.x(0), n.y(), strict=False)):
        if size_of(own) == size_of(result):
            n.eq(own, result)
        elif size_of(own) != UNIT and divides(size_of(own), size_of(result)):
            repeats = n.atom(quotient(size_of(result), size_of(own)))
            n.eq(result, n.prod(repeats, own))
            n.encode(1, axis, repeats)
        elif size_of(own) == UNIT:
            n.encode(1, axis, result)


@rule("ConstantOfShape")
def constant_of_shape(n: NodeView) -> None:
    """Every axis is new, its size comes from the operand."""
    spell_shape(n, 0)


@rule("Shape")
def shape(n: NodeView) -> None:
    """Sizes leave the algebra here: surgery converts them back to original sizes."""
    n.x(0)
