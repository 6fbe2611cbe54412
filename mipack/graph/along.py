"""Along which axes ops keep positions apart: one small rule per op.

A rule answers, for an axis of the first result: which axis of each operand holds the same
positions? Position p of the result then depends on position p of these operands and on all of the
others. `None`: positions mix along this axis, or nothing is known. What a rule cannot see it must
not say: an operand that is left out is read as a whole, which is always right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.graph.einsum import axis_names
from mipack.graph.pointwise import BROADCASTING, UNARY
from mipack.graph.probe import Probe
from mipack.terms import UNIT, Size

Axes = Mapping[int, int]
"""Operand -> its axis."""
STANDARD = ("", "ai.onnx")


class Op:
    """A node with what two runs showed of it."""

    def __init__(self, node: ir.Node, probe: Probe, opset: int) -> None:
        self.node, self.opset, self._probe = node, opset, probe
        self.inputs = tuple(node.inputs)  # of the node as it is now
        self.name = node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"

    def has(self, index: int) -> bool:
        """Whether the operand is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def x(self, index: int) -> tuple[Size, ...]:
        """The sizes of an operand; none where it is absent."""
        return self._shape(self.inputs[index]) if self.has(index) else ()

    @property
    def y(self) -> tuple[Size, ...]:
        """The sizes of the first result."""
        return self._shape(self.node.outputs[0])

    @property
    def results(self) -> list[tuple[Size, ...]]:
        """The sizes of every result."""
        return [self._shape(value) for value in self.node.outputs]

    def _shape(self, value: ir.Value | None) -> tuple[Size, ...]:
        return (self._probe.shapes.get(value.name or "") or ()) if value is not None else ()

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value."""
        found = self.node.attributes.get(name)
        return default if found is None or found.value is None else found.value

    def axis(self, rank: int, default: int = 0) -> int:
        """The axis attribute, made positive."""
        return int(self.attr("axis", default)) % max(rank, 1)

    def const(self, index: int) -> np.ndarray[Any, Any] | None:
        """The value of an operand that the file holds."""
        value = self.inputs[index] if self.has(index) else None
        if value is None or value.const_value is None or not value.is_initializer():
            return None
        return value.const_value.numpy()

    def both(self, index: int) -> Sequence[tuple[int, int]] | None:
        """A vector of integers in both runs, pair by pair."""
        constant = self.const(index)
        if constant is not None:
            return [(int(n), int(n)) for n in constant.reshape(-1)]
        value = self.inputs[index] if self.has(index) else None
        seen = self._probe.vectors.get(value.name or "") if value is not None else None
        return None if seen is None else [(int(a), int(b)) for a, b in zip(*seen, strict=True)]

    def single(self, *indices: int) -> bool:
        """Whether these operands hold one number each, where they are given."""
        return all(size == UNIT for index in indices for size in self.x(index))

    def listed(self, name: str, index: int, rank: int) -> set[int] | None:
        """Axes from an attribute or an operand; None where they are not in the file."""
        value = self.attr(name)
        if value is None and self.has(index):
            value = self.const(index)
            if value is None:
                return None
        return {int(a) % rank for a in np.reshape(value, -1)} if value is not None else set()


Rule = Callable[[Op, int], Axes | None]
_RULES: dict[str, Rule] = {}


def along(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule."""

    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(ops, function))
        return function

    return register


def axes_along(op: Op, axis: int) -> Axes | None:
    """See above; what a rule says is held against the sizes of both runs."""
    rule = _RULES.get(op.name)
    found = rule(op, axis) if rule is not None and axis < len(op.y) else None
    if found is None or any(op.x(i)[a] != op.y[axis] for i, a in found.items()):
        return None
    return found


def known_ops() -> tuple[str, ...]:
    """Every op with a rule, sorted."""
    return tuple(sorted(_RULES))


def _spread(op: Op, axis: int, *operands: int) -> Axes:
    """Operands that broadcast to the result: where one has size 1, or no such axis, every position
    reads the same of it."""
    found = {}
    for index in operands:
        own = axis - len(op.y) + len(op.x(index))
        if own >= 0 and op.x(index)[own] != UNIT:
            found[index] = own
    return found


# ---------------------------------------------------------------- each number alone


@along(
    *UNARY, *BROADCASTING,
    "com.microsoft::BiasGelu", "com.microsoft::FastGelu", "com.microsoft::Gelu",
    "com.microsoft::QuickGelu",
)  # fmt: skip
def _pointwise(op: Op, axis: int) -> Axes | None:
    return _spread(op, axis, *range(len(op.inputs)))


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


# ---------------------------------------------------------------- products


def _product(op: Op, axis: int, a: int, b: int, flip: tuple[bool, bool] = (False, False)) -> Axes:
    """[.., m, k] x [.., k, n]; a vector has no m or n; `flip`: an operand has its last two axes
    the other way round."""
    ranks, last = (len(op.x(a)), len(op.x(b))), len(op.y) - 1
    rows, columns = ranks[0] > 1, ranks[1] > 1
    if columns and axis == last:
        return {b: ranks[1] - (2 if flip[1] else 1)}
    if rows and axis == last - columns:
        return {a: ranks[0] - (1 if flip[0] else 2)}
    found = {}  # a batch axis
    for operand, rank in zip((a, b), ranks, strict=True):
        own = axis - (last + 1 - rows - columns) + max(rank - 2, 0)
        if rank > 2 and own >= 0 and op.x(operand)[own] != UNIT:
            found[operand] = own
    return found


@along("MatMul", "com.microsoft::FusedMatMul")
def _matmul(op: Op, axis: int) -> Axes | None:
    if op.attr("transBatchA", 0) or op.attr("transBatchB", 0):
        return None
    return _product(op, axis, 0, 1, (bool(op.attr("transA", 0)), bool(op.attr("transB", 0))))


@along("MatMulInteger", "com.microsoft::MatMulIntegerToFloat", "QLinearMatMul")
def _quantised(op: Op, axis: int) -> Axes | None:
    """Rows and columns whose scale and zero point are single numbers."""
    a, b, scales = {
        "MatMulInteger": (0, 1, ((2,), (3,))),
        "QLinearMatMul": (0, 3, ((1, 2), (4, 5))),
    }.get(op.name, (0, 1, ((2, 4), (3, 5, 6))))
    found = _product(op, axis, a, b)
    alike = all(op.single(*scales[side]) for side, at in enumerate((a, b)) if at in found)
    return found if alike else None


@along("com.microsoft::MatMulNBits")
def _rows(op: Op, axis: int) -> Axes | None:
    return {0: axis} if axis < len(op.y) - 1 else None


@along("Gemm", "com.microsoft::FusedGemm")
def _gemm(op: Op, axis: int) -> Axes | None:
    if axis == 0:
        return {0: int(bool(op.attr("transA", 0))), **_spread(op, axis, 2)}
    return {1: 1 - int(bool(op.attr("transB", 0))), **_spread(op, axis, 2)}


@along("Einsum")
def _einsum(op: Op, axis: int) -> Axes | None:
    count = len(op.inputs)
    ranks = [*(len(op.x(i)) for i in range(count)), len(op.y)]
    *operands, result = axis_names(str(op.attr("equation")), ranks)
    letter, found = result[axis], {}
    for index, names in enumerate(operands):
        if names.count(letter) > 1 or result.count(letter) > 1:
            return None
        if letter in names and op.x(index)[names.index(letter)] != UNIT:
            found[index] = names.index(letter)
    return found


@along("Conv", "ConvTranspose", "com.microsoft::FusedConv")
def _conv(op: Op, axis: int) -> Axes | None:
    """Samples; output channels where they are not in groups; places where the kernel sees one."""
    if axis == 0 or (axis > 1 and _sees_one(op, axis)):
        return {0: axis, **({3: axis} if op.has(3) else {})}
    if axis > 1 or op.attr("group", 1) != 1 or op.has(3):
        return None
    return {1: int(op.name == "ConvTranspose"), **({2: 0} if op.has(2) else {})}


def _sees_one(op: Op, axis: int) -> bool:
    """Whether a kernel of size 1 goes step by step along a spatial axis."""
    steps, pads = op.attr("strides"), op.attr("pads")
    place, count = axis - 2, len(op.y) - 2
    padded = pads is not None and (pads[place] or pads[place + count])
    stays = op.x(1)[axis] == UNIT and (steps is None or steps[place] == 1) and not padded
    return stays and op.name != "ConvTranspose" and op.attr("auto_pad", "NOTSET") == "NOTSET"


@along("Attention")
def _attention(op: Op, axis: int) -> Axes | None:
    """Queries, where none is told from another by its place: no causal mask, no cache."""
    if op.attr("is_causal", 0) or op.has(4) or op.has(6) or axis != len(op.y) - 2:
        return None
    mask = len(op.x(3)) - 2
    spread = not op.has(3) or (mask >= 0 and op.x(3)[mask] == UNIT)
    return {0: axis, **({} if spread else {3: mask})}


@along("com.microsoft::MultiHeadAttention")
def _multi_head_attention(op: Op, axis: int) -> Axes | None:
    """Queries [batch, length, width] beside keys and values of their own."""
    apart = op.has(1) and op.has(2) and len(op.x(0)) == 3 and axis == 1
    if not apart or op.attr("unidirectional", 0) or any(map(op.has, range(6, 10))):
        return None
    if len(op.x(4)) > 2:  # a mask of its own for every query
        return None
    spread = not op.has(5) or op.x(5)[2] == UNIT
    return {0: 1, **({} if spread else {5: 2})}


HEAVY = frozenset([
    "Attention", "Conv", "ConvInteger", "ConvTranspose", "Einsum", "Gemm", "MatMul",
    "MatMulInteger", "QLinearMatMul", "com.microsoft::FusedConv", "com.microsoft::FusedGemm",
    "com.microsoft::FusedMatMul", "com.microsoft::MatMulIntegerToFloat",
    "com.microsoft::MatMulNBits", "com.microsoft::MultiHeadAttention",
])  # fmt: skip
"""Ops with a rule that multiply and add."""


# ---------------------------------------------------------------- statistics over other axes


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
    return None if inside else {0: axis, **_spread(op, axis, 1, 2)}


@along("com.microsoft::SkipLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization")
def _skip_norm(op: Op, axis: int) -> Axes | None:
    return None if axis == len(op.y) - 1 else {0: axis, **_spread(op, axis, 1)}


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


# ---------------------------------------------------------------- moves


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
    return _spread(op, axis, 0)


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
