"""Positions of an axis that are read: listed in the file (`Picks`) or told by a run (`Told`).

An axis may hold several factors after a Reshape ([b, s, d] -> [b * s, d]); a `Part` names one of
them, so that positions of s are followed through b * s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import onnx_ir as ir

from mipack.terms import UNIT, Size


class Part(NamedTuple):
    """A factor of an axis: the axis holds `before` x `size` x `after` positions (both probes)."""

    axis: int
    size: Size
    before: Size = UNIT
    after: Size = UNIT

    @property
    def whole(self) -> bool:
        """Whether it is all of the axis."""
        return self.before == self.after == UNIT


@dataclass(frozen=True, slots=True)
class Picks:
    """Distinct ascending positions, all from the front or (below zero) all from the back."""

    at: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.at)


@dataclass(frozen=True, slots=True)
class Told:
    """What a Gather takes by the indices, or a Slice by (start, end, step), in `operands`: each a
    number of the file or a value of the graph. `count`: how many it was in the first probe."""

    op: str
    operands: tuple[int | ir.Value, ...]
    count: int = field(compare=False)


Selection = Picks | Told
Narrowing = dict[Part, Selection]
"""What is read of a tensor; of an axis that is not listed everything is."""


def picks(positions: Iterable[int], size: Size) -> Picks | None:
    """Positions of an axis; None where they are all, or count from both ends of an axis whose
    length differs from run to run."""
    listed, fixed = list(positions), size[0] == size[1]
    if fixed:
        listed = [at % size[0] for at in listed]
    found = tuple(sorted(set(listed)))
    if not found or (fixed and len(found) == size[0]) or (found[0] < 0 <= found[-1]):
        return None
    return Picks(found)


def union(a: Selection, b: Selection, size: Size) -> Selection | None:
    """Both; None where that is everything, or cannot be told."""
    if a == b:
        return a
    if isinstance(a, Picks) and isinstance(b, Picks):
        return picks((*a.at, *b.at), size)
    return None


def join(a: Narrowing, b: Narrowing) -> Narrowing:
    """What two readers read together."""
    both = {part: union(a[part], b[part], part.size) for part in a if part in b}
    return {part: found for part, found in both.items() if found is not None}


def places(want: Picks, have: Picks) -> tuple[int, ...]:
    """Where the positions `want` are among the positions `have`, which hold them."""
    return tuple(have.at.index(at) for at in want.at)
