"""Sizes that a Reshape or an Expand is given for an axis that shrinks."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from mipack.graph.along import Op
from mipack.graph.selection import Part, Picks, Selection


class Target(Enum):
    """What to do where no number is to be written."""

    KEEPS = "it follows by itself"
    NEVER = "it cannot be told"


Spelled = Target | tuple[int, int]
"""(element, number) is to be written."""


def target(
    op: Op, part: Part, wanted: Selection, ways: Mapping[int, Part], written: Mapping[int, int]
) -> Spelled:
    """What the operand that spells the result's shape says, when `part` of the result is narrowed
    to `wanted`; `written`: what it says already of other axes."""
    if op.name == "Reshape":
        return _reshape(op, part, wanted, ways[0], written)
    return _expand(op, part, wanted, bool(ways)) if op.name == "Expand" else Target.KEEPS


def _reshape(
    op: Op, part: Part, wanted: Selection, source: Part, written: Mapping[int, int]
) -> Spelled:
    spelled = op.both(1)
    if spelled is None or len(spelled) != len(op.y):
        return Target.NEVER
    zeros = {e for e, pair in enumerate(spelled) if 0 in pair}
    if (op.attr("allowzero", 0) and zeros) or any(spelled[e] != (0, 0) for e in zeros):
        return Target.NEVER
    if source.axis in zeros - {part.axis}:  # another axis copies the size that shrinks
        return Target.NEVER
    own = spelled[part.axis]
    if own == (-1, -1):
        return Target.KEEPS
    if own == (0, 0):
        same = source == part
        return Target.KEEPS if same else Target.NEVER
    number = _number(part, wanted)
    if number is not None:
        return part.axis, number
    free = all(-1 not in pair for pair in spelled) and -1 not in written.values()
    return (part.axis, -1) if free else Target.NEVER


def _number(part: Part, wanted: Selection) -> int | None:
    """The new size of an axis, where the file can hold it."""
    beside = (part.before, part.after)
    if not isinstance(wanted, Picks) or any(size[0] != size[1] for size in beside):
        return None
    return wanted.count * part.before[0] * part.after[0]


def _expand(op: Op, part: Part, wanted: Selection, from_data: bool) -> Spelled:
    """The data brings its own size; where it has size 1, or no such axis, the operand tells it."""
    spelled = op.both(1)
    if spelled is None:
        return Target.NEVER
    element = part.axis - len(op.y) + len(spelled)
    if from_data:
        return (element, 1) if element >= 0 else Target.KEEPS
    if element < 0 or not isinstance(wanted, Picks):
        return Target.NEVER
    return element, wanted.count
