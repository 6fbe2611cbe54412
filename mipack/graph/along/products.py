"""Rows and columns of products, places of convolutions, queries of attention."""

from __future__ import annotations

from mipack.graph.along.rule import Axes, Op, along, spread
from mipack.graph.einsum import axis_names
from mipack.terms import UNIT


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
        return {0: int(bool(op.attr("transA", 0))), **spread(op, axis, 2)}
    return {1: 1 - int(bool(op.attr("transB", 0))), **spread(op, axis, 2)}


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
