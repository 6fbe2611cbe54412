"""Concatenation and its inverses: the axis is a sum."""

from __future__ import annotations

from collections.abc import Sequence

from mipack.graph.view import NodeView, without
from mipack.layout import EMPTY, Inexpressible, Term, is_static, size_of
from mipack.ops.registry import rule


@rule("Concat")
def concat(n: NodeView) -> None:
    """The axis is the sum of the operands', the others are equal."""
    y = n.y()
    axis = n.axis(len(y))
    parts = []
    for i in range(len(n.inputs)):
        own = n.x(i)
        parts.append(own[axis])
        if size_of(own[axis]) != EMPTY:
            n.same(own[:axis] + own[axis + 1 :], y[:axis] + y[axis + 1 :])
    n.eq(n.sum(*parts), y[axis])


@rule("Split")
def split(n: NodeView) -> None:
    """The axis is the sum of the results'; the sizes are written down."""
    data = n.x(0)
    axis = n.axis(len(data))
    results = [n.y(j) for j in range(len(n.outputs))]
    for y in results:
        n.same(data[:axis] + data[axis + 1 :], y[:axis] + y[axis + 1 :])
    n.eq(data[axis], n.sum(*(y[axis] for y in results)))
    slot: int | str = 1 if n.has(1) else "split"
    n.const(1)
    for j, y in enumerate(results):
        n.encode(slot, j, y[axis])


@rule("Pad", "com.microsoft::Pad")
def pad(n: NodeView) -> None:
    """Constant padding adds positions of its own, amounts below zero take some away; other modes
    copy neighbours and freeze."""
    data, y = n.x(0), n.y()
    rank = len(data)
    slot: int | str = 1 if n.has(1) else "pads"
    amounts = n.const(1) if n.has(1) else n.attr("pads")
    axes = n.axes_param(rank, 3) if n.has(3) else list(range(rank))
    n.ignore(2)
    if amounts is None or axes is None:
        n.freeze([*data, *y], "padding computed at run time")
        return
    padded = set(axes)
    n.same(without(data, padded), without(y, padded))
    for j, axis in enumerate(axes):
        places = ((slot, j), (slot, j + len(axes)))
        if not _padded(n, data[axis], y[axis], [int(amounts[e]) for _, e in places], places):
            n.freeze([data[axis], y[axis]], "padded axis")
            n.mixed(data, [axis])


def _padded(
    n: NodeView,
    own: Term,
    result: Term,
    amounts: Sequence[int],
    places: Sequence[tuple[int | str, int]],
) -> bool:
    """What is left of an axis between what is added at its ends; False where that is no sum."""
    if not any(amounts):
        n.eq(own, result)
        return True
    copies = n.attr("mode", "constant") != "constant" and max(amounts) > 0
    if copies or not is_static(own):
        return False
    try:
        low, high = max(0, -amounts[0]), size_of(own)[0] - max(0, -amounts[1])
        rest = n.layout.piece(own, low, high)
        taken = n.layout.piece(own, 0, low), n.layout.piece(own, high, size_of(own)[0])
    except Inexpressible:
        return False
    ends = [n.atom(max(0, amount)) for amount in amounts]
    n.eq(n.sum(ends[0], rest, ends[1]), result)
    for amount, end, gone, place in zip(amounts, ends, taken, places, strict=True):
        if amount:
            n.encode(*place, gone if amount < 0 else end, taken=amount < 0)
    return True


@rule("CenterCropPad")
def center_crop_pad(n: NodeView) -> None:
    """The operand lists sizes; what is cut off or added is counted from the middle."""
    data, y = n.x(0), n.y()
    listed = n.axes_param(len(data), None) or list(range(len(data)))
    n.x(1)
    n.same(data, y, "cropped or padded axis")
    for j, axis in enumerate(listed):
        n.encode(1, j, y[axis])
    n.mixed(data, [k for k in listed if size_of(data[k]) != size_of(y[k])])
