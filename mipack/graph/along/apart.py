"""Ops that treat each number alone, and statistics over other axes."""

from __future__ import annotations

from mipack.graph.along.rule import Axes, Op, along, spread
from mipack.graph.pointwise import BROADCASTING, UNARY


@along(
    *UNARY, *BROADCASTING,
    "com.microsoft::BiasGelu", "com.microsoft::FastGelu", "com.microsoft::Gelu",
    "com.microsoft::QuickGelu",
)  # fmt: skip
def _pointwise(op: Op, axis: int) -> Axes | None:
    return spread(op, axis, *range(len(op.inputs)))


@along("Clip", "CastLike")
def _first(op: Op, axis: int) -> Axes | None:
    return {0: axis}


@along("QuantizeLinear", "DequantizeLinear",
       "com.microsoft::QuantizeLinear", "com.microsoft::DequantizeLinear")  # fmt: skip
def _quantize(op: Op, axis: int) -> Axes | None:
    """One scale for all, or one for each position of an axis."""
    if op.attr("block_size", 0) or len(op.x(1)) > 1:
        return None
    scales = not op.single(1) and op.axis(len(op.y), 1) == axis
    return {0: axis, **({i: 0 for i in (1, 2) if op.x(i)} if scales else {})}


@along("Softmax", "LogSoftmax", "Hardmax")
def _softmax(op: Op, axis: int) -> Axes | None:
    """Before opset 13 over an axis and all behind it."""
    old = op.opset < 13
    over = op.axis(len(op.y), 1 if old else -1)
    return {0: axis} if (axis < over if old else axis != over) else None


@along("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization",
       "com.microsoft::SimplifiedLayerNormalization")  # fmt: skip
def _layer_norm(op: Op, axis: int) -> Axes | None:
    inside = axis >= op.axis(len(op.y), -1)
    return None if inside else {0: axis, **spread(op, axis, 1, 2)}


@along("com.microsoft::SkipLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization")
def _skip_norm(op: Op, axis: int) -> Axes | None:
    return None if axis == len(op.y) - 1 else {0: axis, **spread(op, axis, 1)}


@along("BatchNormalization")
def _batch_norm(op: Op, axis: int) -> Axes | None:
    if op.attr("training_mode", 0):
        return None
    return {0: axis, **(dict.fromkeys(range(1, 5), 0) if axis == 1 else {})}


@along("InstanceNormalization", "GroupNormalization", "LRN", "ConvInteger")
def _samples(op: Op, axis: int) -> Axes | None:
    return {0: 0} if axis == 0 else None


@along("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool")
def _pool(op: Op, axis: int) -> Axes | None:
    return {0: axis} if axis < 2 else None


@along("LpNormalization")
def _other_axes(op: Op, axis: int) -> Axes | None:
    return {0: axis} if axis != op.axis(len(op.y), -1) else None


@along("CumSum")
def _cumulated(op: Op, axis: int) -> Axes | None:
    over = op.const(1)
    apart = over is not None and int(over.reshape(-1)[0]) % len(op.y) != axis
    return {0: axis} if apart else None


@along(
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
def _reduced(op: Op, axis: int) -> Axes | None:
    rank = len(op.x(0))
    over = op.listed("axes", 1, rank)
    return None if not over else _left(op, axis, over)


@along("ArgMax", "ArgMin")
def _best(op: Op, axis: int) -> Axes | None:
    return _left(op, axis, {op.axis(len(op.x(0)))})


def _left(op: Op, axis: int, over: set[int]) -> Axes | None:
    """Axes beside those that are reduced, which stay as 1 or go."""
    if op.attr("keepdims", 1):
        return None if axis in over else {0: axis}
    return {0: [k for k in range(len(op.x(0))) if k not in over][axis]}
