"""Concatenation and its inverses: the axis is a sum."""

from __future__ import annotations

from mipack.graph.view import NodeView, without
from mipack.layout import EMPTY, is_static, size_of
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
    """Constant padding adds positions of its own; other modes copy neighbours and freeze."""
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
        low, high = int(amounts[j]), int(amounts[j + len(axes)])
        if (low, high) == (0, 0):
            n.eq(data[axis], y[axis])
        elif (
            min(low, high) < 0
            or n.attr("mode", "constant") != "constant"
            or not is_static(data[axis])
        ):
            n.freeze([data[axis], y[axis]], "padded axis")
            n.mixed(data, [axis])
        else:
            before, after = n.atom(low), n.atom(high)
            n.eq(n.sum(before, data[axis], after), y[axis])
            if low:
                n.encode(slot, j, before)
            if high:
                n.encode(slot, j + len(axes), after)


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
