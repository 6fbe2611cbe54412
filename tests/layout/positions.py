"""What a term means, written down position by position: the model that the algebra is held to.

A position of an axis is a path: the (atom, unit) pairs that it consists of, outermost first. Atoms
of size 1 are left out: nothing can be cut from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from mipack.layout import Kind, Size, Term, find, plus, times

Path = tuple[tuple[Term, int], ...]


def paths(term: Term, probe: int = 0) -> list[Path]:
    """One path per position of the axis, in the given probe."""
    term = find(term)
    if term.kind is Kind.ATOM:
        return [() if term.size == (1, 1) else ((term, i),) for i in range(term.size[probe])]
    listed = [paths(part, probe) for part in term.parts]
    if term.kind is Kind.SUM:
        return [path for part in listed for path in part]
    return [sum(choice, ()) for choice in product(*listed)]


def free(listed: Sequence[Path]) -> list[Path]:
    """The same without frozen atoms: what the cut of a position can depend on."""
    return [tuple((a, i) for a, i in path if not a.frozen) for path in listed]


def pattern(axes: Sequence[Term]) -> list[list[tuple[tuple[int, int], ...]]]:
    """The positions of several axes with atoms numbered as met: equal for equal partitions."""
    numbers: dict[Term, int] = {}
    return [
        [tuple((numbers.setdefault(a, len(numbers)), i) for a, i in path) for path in paths(axis)]
        for axis in axes
    ]


def measured(term: Term) -> Size:
    """The size of a term, counted from its atoms."""
    term = find(term)
    if term.kind is Kind.ATOM:
        return term.size
    return (plus if term.kind is Kind.SUM else times)(map(measured, term.parts))
