"""Terms of the layout algebra, for reading: sizes, representatives, factors, parts, leaves, marks.

`mipack.layout` makes terms and states equations between them, and re-exports these names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from math import gcd
from math import prod as product

Size = tuple[int, int]
UNIT: Size = (1, 1)
EMPTY: Size = (0, 0)
REASONS_KEPT = 4


class Kind(Enum):
    """What a term is."""

    ATOM, SUM, PROD = range(3)


class Term:
    """A node of the union-find: read it through `find`, change it through a `Layout`."""

    __slots__ = ("frozen", "id", "kind", "link", "parts", "size", "width")

    def __init__(self, number: int, size: Size, kind: Kind, parts: Sequence[Term]) -> None:
        self.id, self.size, self.kind, self.parts = number, size, kind, list(parts)
        self.link: Term | None = None
        self.frozen: dict[str, None] = {}
        self.width: dict[str, None] = {}

    def __repr__(self) -> str:
        return show(self)


# ---------------------------------------------------------------- sizes


def times(sizes: Iterable[Size]) -> Size:
    """Component-wise product."""
    listed = list(sizes)
    return (product(s[0] for s in listed), product(s[1] for s in listed))


def plus(sizes: Iterable[Size]) -> Size:
    """Component-wise sum."""
    listed = list(sizes)
    return (sum(s[0] for s in listed), sum(s[1] for s in listed))


def divides(small: Size, big: Size) -> bool:
    """Whether small divides big in both probes."""
    return min(small) > 0 and big[0] % small[0] == 0 and big[1] % small[1] == 0


def quotient(big: Size, small: Size) -> Size:
    """Component-wise quotient."""
    return (big[0] // small[0], big[1] // small[1])


def runs(a: Sequence[Size], b: Sequence[Size]) -> list[tuple[list[int], list[int]]]:
    """Greedy minimal runs of axes whose products agree in both probes."""
    i = j = 0
    found = []
    while i < len(a) and j < len(b):
        left, right, pa, pb = [i], [j], a[i], b[j]
        i, j = i + 1, j + 1
        while pa != pb:
            if j >= len(b) or (i < len(a) and pa[0] * pa[1] <= pb[0] * pb[1]):
                left.append(i)
                pa, i = times([pa, a[i]]), i + 1
            else:
                right.append(j)
                pb, j = times([pb, b[j]]), j + 1
        found.append((left, right))
    return found


# ---------------------------------------------------------------- terms


def find(term: Term) -> Term:
    """The representative of a term."""
    while term.link is not None:
        if term.link.link is not None:
            term.link = term.link.link
        term = term.link
    return term


def size_of(term: Term) -> Size:
    """The size of a term in both probes."""
    return find(term).size


def is_static(term: Term) -> bool:
    """Whether the size is the same in both probes."""
    size = find(term).size
    return size[0] == size[1]


def shared_by(left: Term, right: Term) -> Size:
    """The largest size that divides both; of what is not a static atom only the whole."""
    if left.size == right.size:
        return left.size
    atoms = left.kind is right.kind is Kind.ATOM and is_static(left) and is_static(right)
    common = gcd(left.size[0], right.size[0]) if atoms else 1
    return (common, common)


def factors(term: Term) -> list[Term]:
    """The factors of a term, flattened, without units; the term itself if it is no product."""
    term = find(term)
    if term.kind is Kind.PROD:
        return [factor for part in term.parts for factor in factors(part)]
    return [] if term.size == UNIT else [term]


def parts(term: Term) -> list[Term]:
    """The parts of a sum or product, none of a sum a sum itself; nothing for an atom.

    Refinement nests sums as deep as an axis is long, so that whoever recurses must do it through
    here: what is left is as deep as products nest, a logarithm of the size. The flat list is
    stored, as `find` stores shorter links.
    """
    term = find(term)
    if term.kind is not Kind.SUM:
        return [find(part) for part in term.parts]
    if any(part.link is not None or part.kind is Kind.SUM for part in term.parts):
        term.parts = _opened(term.parts)
    return list(term.parts)


def _opened(terms: Iterable[Term]) -> list[Term]:
    stack, found = list(terms)[::-1], []
    while stack:
        top = find(stack.pop())
        if top.kind is Kind.SUM:
            stack.extend(reversed(top.parts))
        else:
            found.append(top)
    return found


def leaves(term: Term) -> list[Term]:
    """Every atom of a term, in order, repeated as often as it occurs."""
    stack, found = [term], []
    while stack:
        top = find(stack.pop())
        if top.kind is Kind.ATOM:
            found.append(top)
        else:
            stack.extend(reversed(top.parts))
    return found


def show(term: Term) -> str:
    """A term as text, e.g. `(a3:12 x a4:32)`; a star marks dynamic sizes."""
    term = find(term)
    if term.kind is Kind.ATOM:
        return f"a{term.id}:{term.size[0]}" + ("" if is_static(term) else "*")
    sign = " + " if term.kind is Kind.SUM else " x "
    return "(" + sign.join(show(part) for part in parts(term)) + ")"


# ---------------------------------------------------------------- marks


def note(marks: dict[str, None], reasons: Iterable[str]) -> None:
    """Add reasons, the first few of all."""
    for reason in reasons:
        if len(marks) < REASONS_KEPT:
            marks[reason] = None


def hand_on(marks: Term, heirs: Iterable[Term]) -> None:
    """Marks follow units into whatever the atom became."""
    if not (marks.frozen or marks.width):
        return
    for heir in heirs:
        for leaf in leaves(heir):
            note(leaf.frozen, marks.frozen)
            note(leaf.width, marks.width)
