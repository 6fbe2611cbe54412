"""Reductions and pools: kept axes pass, the reduced axis is a width, exact or frozen."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.ops.registry import rule

EXACT = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
"""Zeros do not change these, so a cut axis may be reduced by them."""
AVERAGING = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp")


@rule(*EXACT, *AVERAGING, "ArgMax", "ArgMin")
def reduce(n: NodeView) -> None:
    """Which axes are reduced comes from the attribute or the operand."""
    data, y = n.x(0), n.y()
    reduced = _reduced(n, len(data))
    if reduced is None:
        n.freeze_all("axes chosen at run time")
        return
    kept = [t for k, t in enumerate(data) if k not in reduced]
    results = [t for k, t in enumerate(y) if k not in reduced] if n.attr("keepdims", 1) else y
    for own, result in zip(kept, results, strict=False):
        n.eq(own, result)
    for axis in reduced:
        if n.op.startswith("Arg"):
            n.freeze(data[axis], "positions of this axis become data")
        elif n.op in AVERAGING:
            n.normalise(data[axis], n.op)


def _reduced(n: NodeView, rank: int) -> list[int] | None:
    if n.op.startswith("Arg"):
        return [n.axis(rank)]
    given = n.axes_param(rank, 1)
    if given:
        return given
    if given is None and n.has(1):
        return None
    return [] if n.attr("noop_with_empty_axes", 0) else list(range(rank))


@rule("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def pool(n: NodeView) -> None:
    """Channels pass, spatial axes are frozen; MaxPool's second result numbers all positions."""
    data = n.x(0)
    n.freeze(data[2:], "spatial axis")
    n.mixed(data, range(2, len(data)))
    for j in range(len(n.outputs)):
        n.freeze(n.y(j)[2:], "spatial axis")
        n.same(data[:2], n.y(j)[:2])
        if j:
            n.freeze(n.y(j), "positions become data")
