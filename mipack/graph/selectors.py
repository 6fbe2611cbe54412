"""Nodes that read some positions of a tensor and no others: Gather, Slice, Split."""

from __future__ import annotations

from collections.abc import Sequence

from mipack.graph.along import Op
from mipack.graph.selection import Narrowing, Part, Picks, Selection, Told, picks
from mipack.terms import Size

MOST = 65_536
"""Longer lists of positions are not looked at."""
SELECTORS = ("Gather", "Slice", "Split")


def selected(op: Op) -> Narrowing:
    """What the node reads of its first operand; nothing where it is no selection."""
    data = op.inputs[0] if op.has(0) else None
    if op.name not in SELECTORS or data is None or data.is_initializer() or not op.x(0):
        return {}
    return {"Gather": _gathered, "Slice": _sliced, "Split": _parted}[op.name](op)


def _gathered(op: Op) -> Narrowing:
    axis = op.axis(len(op.x(0)))
    size, indices = op.x(0)[axis], op.const(1)
    if indices is not None:
        found = picks(map(int, indices.reshape(-1)), size) if indices.size <= MOST else None
        return {Part(axis, size): found} if found is not None else {}
    told = op.inputs[1] if op.has(1) else None
    shape = op.x(1)
    if told is None or len(shape) > 1 or (shape and shape[0][0] >= size[0]):
        return {}
    return {Part(axis, size): Told("Gather", (told,), shape[0][0] if shape else 1)}


def _sliced(op: Op) -> Narrowing:
    """Every sliced axis, or none: a Slice is replaced as a whole."""
    bounds = _bounds(op)
    found: Narrowing = {}
    for axis, bound in (bounds or {}).items():
        size = op.x(0)[axis]
        chosen = _run(bound, size, op.y[axis])
        if chosen is None:
            return {}
        if isinstance(chosen, Told) or chosen.count < size[0]:
            if isinstance(chosen, Told) and op.opset < 10:
                return {}
            found[Part(axis, size)] = chosen
    return found


Bound = tuple[object, ...]


def _bounds(op: Op) -> dict[int, Bound] | None:
    """axis -> (start, end, step): numbers of the file, or values that hold one number."""
    rank = len(op.x(0))
    if op.opset < 10:
        listed = [list(op.attr(name, ())) for name in ("starts", "ends")]
        axes, steps = list(op.attr("axes", range(len(listed[0])))), [1] * len(listed[0])
        columns: list[Sequence[object]] = [*listed, steps]
    else:
        known = [op.const(k) for k in (3, 4)]
        if any(op.has(k) and known[k - 3] is None for k in (3, 4)):
            return None
        shape = op.x(1)
        count = shape[0][0] if len(shape) == 1 else 0
        axes = [int(a) for a in known[0].reshape(-1)] if known[0] is not None else [*range(count)]
        steps = [int(s) for s in known[1].reshape(-1)] if known[1] is not None else [1] * count
        columns = [_numbers(op, 1), _numbers(op, 2), steps]
    if any(len(column) != len(axes) for column in columns) or len(op.y) != rank:
        return None
    return {int(a) % rank: bound for a, bound in zip(axes, zip(*columns, strict=True), strict=True)}


def _numbers(op: Op, index: int) -> list[object]:
    """The numbers of a vector; the value itself where a run tells one."""
    constant = op.const(index)
    if constant is not None:
        return [int(n) for n in constant.reshape(-1)]
    told = op.x(index) == ((1, 1),) and op.both(index) is not None  # of int64, as axes will be
    return [op.inputs[index]] if told else []


def _run(bound: Bound, size: Size, result: Size) -> Selection | None:
    start, end, step = bound
    if not isinstance(step, int) or step < 1:
        return None
    if isinstance(start, int) and isinstance(end, int) and size[0] == size[1]:
        return Picks(tuple(range(*slice(start, end, step).indices(size[0])))) if result[0] else None
    return Told("Slice", bound, result[0])  # type: ignore[arg-type]


def _parted(op: Op) -> Narrowing:
    """A Split of which one part is read."""
    node, axis = op.node, op.axis(len(op.x(0)))
    read = [k for k, v in enumerate(node.outputs) if v.uses() or v.is_graph_output()]
    sizes = [shape[axis] for shape in op.results if len(shape) > axis]
    if len(read) != 1 or len(sizes) != len(node.outputs) or any(a != b for a, b in sizes):
        return {}
    size, start = op.x(0)[axis], sum(a for a, _ in sizes[: read[0]])
    found = picks(range(start, start + sizes[read[0]][0]), size)
    return {Part(axis, size): found} if found is not None else {}
