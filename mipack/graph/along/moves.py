"""Ops that move numbers."""

from __future__ import annotations

from mipack.graph.along.rule import Axes, Op, along, spread


@along("Transpose")
def _transpose(op: Op, axis: int) -> Axes | None:
    order = op.attr("perm") or list(range(len(op.y)))[::-1]
    return {0: int(order[axis])}


@along("Unsqueeze")
def _unsqueeze(op: Op, axis: int) -> Axes | None:
    new = op.listed("axes", 1, len(op.y))
    return {0: axis - sum(k < axis for k in new)} if new and axis not in new else None


@along("Squeeze")
def _squeeze(op: Op, axis: int) -> Axes | None:
    gone = op.listed("axes", 1, len(op.x(0)))
    if not gone:  # every axis of size 1: another run may have more of them
        return None
    return {0: [k for k in range(len(op.x(0))) if k not in gone][axis]}


@along("Concat")
def _concat(op: Op, axis: int) -> Axes | None:
    apart = axis != op.axis(len(op.y))
    return dict.fromkeys(range(len(op.inputs)), axis) if apart else None


@along("Split")
def _split(op: Op, axis: int) -> Axes | None:
    return {0: axis} if axis != op.axis(len(op.y)) else None


@along("Expand")
def _expand(op: Op, axis: int) -> Axes | None:
    return spread(op, axis, 0)


@along("Trilu", "com.microsoft::Trilu")
def _trilu(op: Op, axis: int) -> Axes | None:
    return {0: axis} if axis < len(op.y) - 2 else None


@along("Slice")
def _slice(op: Op, axis: int) -> Axes | None:
    sliced = op.listed("axes", 3, len(op.y)) if op.has(3) or op.opset < 10 else None
    return {0: axis} if sliced and axis not in sliced else None


@along("Gather")
def _gather(op: Op, axis: int) -> Axes | None:
    """Axes of the indices stand in the place of the gathered one."""
    own, rank = op.axis(len(op.x(0))), len(op.x(1))
    if own <= axis < own + rank:
        return {1: axis - own}
    return {0: axis if axis < own else axis - rank + 1}


@along("GatherElements")
def _gather_elements(op: Op, axis: int) -> Axes | None:
    return {0: axis, 1: axis} if axis != op.axis(len(op.y)) else None
