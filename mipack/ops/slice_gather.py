"""Selections: contiguous slices are pieces of a sum, indices freeze what they count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mipack.graph.view import NodeView, without
from mipack.layout import Inexpressible, Term, is_static, size_of
from mipack.ops.registry import rule


@dataclass(frozen=True, slots=True)
class Cut:
    """One sliced axis; bounds are None where they are computed at run time."""

    element: int
    axis: int
    low: int | None
    high: int | None
    step: int


@rule("Slice")
def slice_(n: NodeView) -> None:
    """x[low:high] is a piece; x[s::k] picks one unit of every block of k."""
    data, y = n.x(0), n.y()
    cuts = list(_cuts(n, data))
    n.ignore(3, 4)
    if any(n.has(slot) and n.const(slot) is None for slot in (3, 4)):
        n.freeze_all("axes or steps chosen at run time")
        return
    for cut in cuts:
        _cut(n, cut, data[cut.axis], y[cut.axis])
        if cut.step < 0:
            n.mixed(data, [cut.axis])
    done = {cut.axis for cut in cuts}
    n.same(without(data, done), without(y, done))


def _cut(n: NodeView, cut: Cut, own: Term, result: Term) -> None:
    slots: tuple[int | str, int | str] = ("starts", "ends") if len(n.inputs) == 1 else (1, 2)
    low, high = cut.low, cut.high
    if size_of(own) == size_of(result) and cut.step == 1:
        n.eq(own, result)  # bounds beyond the end are clamped: nothing to rewrite
        if low is None and is_static(own):
            n.freeze(own, "slice with run-time bounds")  # which other runs may not exceed
    elif cut.step < 0:
        n.freeze([own, result], "order matters")
    elif low is None or high is None or not (is_static(own) and is_static(result)):
        n.freeze([own, result], "slice with run-time bounds")
    else:
        try:
            end = _picked(n, own, result, low, cut.step)
        except Inexpressible as error:
            n.freeze([own, result], f"slice: {error}")
            return
        n.encode(slots[0], cut.element, own, low)
        n.encode(slots[1], cut.element, own, end)


def _picked(n: NodeView, own: Term, result: Term, low: int, step: int) -> int:
    """Blocks of `step` units, one of each picked; where the last block does not end before the
    axis does, its one unit is picked alone. Returns where the slice may end."""
    total, count = size_of(own)[0], size_of(result)[0]
    first = low - low % step
    whole = min(count, (total - first) // step)
    first = first if whole else low
    end = first + whole * step
    inner = n.atom(step)
    n.freeze(inner, "stride of a slice")
    if whole == count:
        n.eq(n.layout.piece(own, first, end), n.prod(result, inner))
        return end
    last = low + whole * step + 1
    n.freeze(n.layout.piece(own, end, last), "stride of a slice")
    blocks = n.atom(whole)
    n.eq(n.layout.piece(own, first, end), n.prod(blocks, inner))
    n.eq(n.sum(blocks, n.atom(1)), result)
    return last


def _cuts(n: NodeView, data: list[Term]) -> Iterator[Cut]:
    old = len(n.inputs) == 1
    starts = n.attr("starts") if old else n.const(1)
    ends = n.attr("ends") if old else n.const(2)
    some = starts if starts is not None else ends
    axes = n.attr("axes") if old else n.const(3)
    steps = None if old else n.const(4)
    if axes is None:
        axes = range(len(some)) if some is not None else range(len(data))
    for j, axis in enumerate(int(a) % len(data) for a in axes):
        step = int(steps[j]) if steps is not None else 1
        if starts is None or ends is None or step < 0 or not is_static(data[axis]):
            yield Cut(j, axis, None, None, step)
            continue
        total = size_of(data[axis])[0]
        low, high, _ = slice(int(starts[j]), int(ends[j]), step).indices(total)
        yield Cut(j, axis, low, high, step)


@rule("Gather")
def gather(n: NodeView) -> None:
    """The axes of the indices replace one axis; one constant index selects a piece of size 1."""
    data, indices, y = n.x(0), n.x(1), n.y()
    axis, rank = n.axis(len(data)), len(indices)
    passed = zip(data[:axis] + data[axis + 1 :], y[:axis] + y[axis + rank :], strict=True)
    for own, result in [*passed, *zip(indices, y[axis : axis + rank], strict=True)]:
        n.eq(own, result)
    known = n.const(1)
    if known is not None and known.size == 1 and rank < 2 and is_static(data[axis]):
        at = int(np.reshape(known, -1)[0]) % size_of(data[axis])[0]
        try:
            n.layout.piece(data[axis], at, at + 1)  # one unit: nothing to cut in it
            n.encode(1, 0 if rank else None, data[axis], at)
            return
        except Inexpressible:
            pass
    if known is not None and n.is_weight(1) and _moves_runs(n, data[axis], indices, known):
        return
    n.freeze(data[axis], "indexed by data" if known is None else "indexed by a list")
    n.mixed(data, [axis])


def _moves_runs(n: NodeView, own: Term, indices: list[Term], known: np.ndarray[Any, Any]) -> bool:
    """A constant list of runs (halves exchanged, a roll, some blocks, some of them twice) is a
    sum of pieces. False where a run is a single unit (which, being one, could not be cut any more:
    better the list gets shorter and its axis stays) or begins inside a block."""
    if not is_static(own):
        return False
    runs = _runs([int(i) % size_of(own)[0] for i in np.reshape(known, -1)])
    if min(high - low for low, high in runs) == 1:
        return False
    try:
        pieces = [n.layout.piece(own, low, high) for low, high in runs]
    except Inexpressible:
        return False
    n.eq(n.sum(*pieces), n.prod(*indices))
    n.encode(1, None, own, runs=runs)
    return True


def _runs(listed: list[int]) -> list[tuple[int, int]]:
    """The maximal runs of consecutive positions, each from a low bound to a high one."""
    starts = [k for k, at in enumerate(listed) if not k or at != listed[k - 1] + 1]
    ends = [*starts[1:], len(listed)]
    return [(listed[a], listed[b - 1] + 1) for a, b in zip(starts, ends, strict=True)]


@rule("GatherElements", "ScatterElements", "Scatter")
def elements(n: NodeView) -> None:
    """Indexed along one axis; the others pass. Dropping a write is not writing zero."""
    data, axis = n.x(0), n.axis(len(n.x(0)))
    others = [n.x(i) for i in range(1, len(n.inputs))] + [n.y()]
    for other in others:
        n.same(without(data, {axis}), without(other, {axis}))
        n.freeze(other[axis], "indexed")
    n.freeze(data[axis], "indexed")
    n.mixed(data, [axis])
    if n.op.startswith("Scatter"):
        n.freeze(n.x(1), "scattered")


@rule("GatherND", "ScatterND", "com.microsoft::GatherND")
def nd(n: NodeView) -> None:
    """The last axis of the indices counts the indexed axes; trailing axes pass."""
    data, indices, y = n.x(0), n.x(1), n.y()
    batch, depth = int(n.attr("batch_dims", 0)), size_of(indices[-1])[0]
    n.freeze([*data[batch : batch + depth], indices[-1]], "indexed")
    n.mixed(data, range(batch, batch + depth))
    if n.op == "GatherND":
        pairs = zip(indices[:-1] + data[batch + depth :], y, strict=True)
        n.same(data[:batch], indices[:batch])
    else:
        n.same(data, y)
        n.freeze(indices, "scattered")
        pairs = zip(indices[:-1] + data[depth:], n.x(2), strict=True)
    for own, result in pairs:
        n.eq(own, result)


@rule("TensorScatter")
def tensor_scatter(n: NodeView) -> None:
    """A cache written at places of one axis, [batch] of them; the others pass."""
    cache, update, y = n.x(0), n.x(1), n.y()
    axis = n.axis(len(cache), default=-2)
    n.freeze([cache[axis], update[axis]], "scattered")
    n.same(cache, y)
    n.same(without(cache, {axis}), without(update, {axis}))
    for batch in n.x(2):
        n.eq(batch, cache[0])
    n.mixed(cache, [axis])


@rule("CumSum", "CumProd", "TopK", "ReverseSequence", "LRN")
def along(n: NodeView) -> None:
    """The order of one axis matters."""
    data = n.x(0)
    axis: int | None = n.axis(len(data), default=-1)
    if n.op == "LRN":  # sums over neighbouring channels
        axis = 1
    if n.op in ("CumSum", "CumProd"):
        known = n.const(1)
        axis = None if known is None else int(np.reshape(known, -1)[0]) % len(data)
    if n.op == "ReverseSequence":
        axis = n.axis(len(data), "time_axis")
        n.eq(n.x(1)[0], data[n.axis(len(data), "batch_axis", 1)])
    n.ignore(1)
    frozen = range(len(data)) if axis is None else [axis]
    for j in range(len(n.outputs)):
        n.same(data, n.y(j))
    n.freeze([data[k] for k in frozen], "order matters")
    n.mixed(data, frozen)


@rule("Trilu", "com.microsoft::Trilu")
def trilu(n: NodeView) -> None:
    """A triangle ties both axes to their positions."""
    n.same(n.x(0), n.y())
    n.freeze(n.x(0)[-2:], "triangle")
    n.ignore(1)
