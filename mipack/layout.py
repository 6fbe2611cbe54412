"""The layout algebra: what the positions along an axis stand for. Knows no ONNX.

    L ::= atom(n) | L1 + .. + Lk (concatenation) | L1 x .. x Lk (row-major, last factor fastest)

Sizes are pairs, one number per probe: equal numbers are a static size, different ones a dynamic
size. Equations between terms are solved by union-find with common refinement: an atom that meets
a composite becomes it; two composites are cut into the coarsest pieces that both consist of.

    A6 + B10 = C10 + D6    ->  A = P6, C = P6 + Q4, B = Q4 + R6, D = R6
    H12 x D32 = H6 x D64   ->  H6 x E2 x D32 on both sides

An equation that cannot be expressed yet waits in a queue (`settle`); what is left at the end
freezes both its sides. Refinement done on the way stays: it only makes pieces smaller, so it is
sound. Normal form: no sum directly in a sum, no product in a product, no unit in a product; a
unit in a sum stays (3 = 1 + 1 + 1). No occurs check is needed: a proper part is strictly smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from math import prod as product

Size = tuple[int, int]
UNIT: Size = (1, 1)
EMPTY: Size = (0, 0)
REASONS_KEPT = 4


class Kind(Enum):
    """What a term is."""

    ATOM, SUM, PROD = range(3)


class Inexpressible(Exception):
    """An equation that the algebra cannot write down (yet)."""


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


# ---------------------------------------------------------------- reading terms


def find(term: Term) -> Term:
    """The representative of a term."""
    while term.link is not None:
        if term.link.link is not None:
            term.link = term.link.link
        term = term.link
    return term


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


def size_of(term: Term) -> Size:
    """The size of a term in both probes."""
    return find(term).size


def is_static(term: Term) -> bool:
    """Whether the size is the same in both probes."""
    size = find(term).size
    return size[0] == size[1]


def factors(term: Term) -> list[Term]:
    """The factors of a term, flattened, without units; the term itself if it is no product."""
    term = find(term)
    if term.kind is Kind.PROD:
        return [factor for part in term.parts for factor in factors(part)]
    return [] if term.size == UNIT else [term]


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
    return "(" + sign.join(show(part) for part in term.parts) + ")"


# ---------------------------------------------------------------- the solver


class Layout:
    """A set of terms and the equations between them."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[tuple[Term, Term, str, str]] = []
        self.failed: list[str] = []

    # -- building

    def atom(self, size: Size | int) -> Term:
        """A new atom; an int is a static size."""
        return self._term((size, size) if isinstance(size, int) else size, Kind.ATOM, ())

    def prod(self, parts: Iterable[Term]) -> Term:
        """The row-major product, in normal form."""
        kept = [part for part in map(find, parts) if part.size != UNIT]
        if not kept:
            return self.atom(UNIT)
        if len(kept) == 1:
            return kept[0]
        return self._term(times(part.size for part in kept), Kind.PROD, kept)

    def sum(self, parts: Iterable[Term]) -> Term:
        """The concatenation, in normal form; empty parts vanish."""
        flat: list[Term] = []
        for part in map(find, parts):
            flat += map(find, part.parts) if part.kind is Kind.SUM else [part]
        flat = [part for part in flat if part.size != EMPTY]
        if not flat:
            return self.atom(EMPTY)
        if len(flat) == 1:
            return flat[0]
        return self._term(plus(part.size for part in flat), Kind.SUM, flat)

    def _term(self, size: Size, kind: Kind, parts: Sequence[Term]) -> Term:
        self._count += 1
        return Term(self._count, size, kind, parts)

    # -- marks

    def freeze(self, term: Term, reason: str) -> None:
        """No unit of this term may be cut."""
        for leaf in leaves(term):
            _note(leaf.frozen, [reason])

    def normalise(self, term: Term, reason: str) -> None:
        """Something averages over this term: a `width`, cut only with masked statistics."""
        for leaf in leaves(term):
            _note(leaf.width, [reason])

    # -- equations

    def equal(self, left: Term, right: Term, reason: str = "") -> None:
        """State that two layouts are the same; queued where not expressible yet."""
        left, right = find(left), find(right)
        if left is right or (left.size == UNIT and right.size == UNIT):
            return
        try:
            self._unify(left, right)
        except Inexpressible as error:
            self._waiting.append((left, right, reason, str(error)))

    def settle(self) -> None:
        """Retry what waits until nothing moves; then freeze both sides of the rest."""
        before = -1
        while self._waiting and len(self._waiting) != before:
            todo, self._waiting = self._waiting, []
            before = len(todo)
            for left, right, reason, _ in todo:
                self.equal(left, right, reason)
        for left, right, reason, problem in self._waiting:
            text = f"{problem} [{reason}]" if reason else problem
            self.failed.append(text)
            self.freeze(left, text)
            self.freeze(right, text)
        self._waiting = []

    def piece(self, term: Term, low: int, high: int) -> Term:
        """The layout of positions low..high of a static term, which is split there."""
        total = size_of(term)[0]
        for bound in (low, high):
            if 0 < bound < total:
                self._bound(term, (bound, bound))
        inside, at = [], 0
        for part in self.summands(term):
            if low <= at and at + size_of(part)[0] <= high:
                inside.append(part)
            at += size_of(part)[0]
        return self.sum(inside)

    def divide(self, term: Term, inner: Size) -> tuple[Term, Term]:
        """Read term as outer x inner with the given inner size."""
        term = find(term)
        if not divides(inner, term.size):
            raise Inexpressible(f"{term.size[0]} is not a multiple of {inner[0]}")
        if inner == UNIT:
            return term, self.atom(UNIT)
        if inner == term.size:
            return self.atom(UNIT), term
        return {Kind.ATOM: self._divide_atom, Kind.PROD: self._divide_prod}.get(
            term.kind, self._divide_sum
        )(term, inner)

    def summands(self, term: Term) -> list[Term]:
        """Top-level summands; only a leading factor distributes: (A+B) x C is AxC + BxC."""
        stack: list[tuple[Term, list[Term]]] = [(find(term), [])]
        found = []
        while stack:
            top, tail = stack.pop()
            listed = factors(top) if top.kind is Kind.PROD else []
            if top.kind is Kind.SUM:
                stack.extend((find(part), tail) for part in reversed(top.parts))
            elif listed and listed[0].kind is Kind.SUM:
                rest = listed[1:] + tail
                stack.extend((find(part), rest) for part in reversed(listed[0].parts))
            else:
                found.append(self.prod([top, *tail]) if tail else top)
        return found

    def _unify(self, left: Term, right: Term) -> None:
        if left.size != right.size:
            raise Inexpressible(f"sizes {left.size} and {right.size} differ")
        if left.kind is Kind.ATOM:
            return _link(left, right)
        if right.kind is Kind.ATOM:
            return _link(right, left)
        fl, fr = factors(left), factors(right)
        if len(fl) > 1 and len(fr) > 1:
            self._unify_prods(fl, fr)
        else:
            self._unify_sums(self.summands(left), self.summands(right))
        left, right = find(left), find(right)
        if left is not right and left.kind is not Kind.ATOM:
            left.link = right

    def _unify_prods(self, left: list[Term], right: list[Term]) -> None:
        """From the fastest factor: the larger is divided by the smaller."""
        left, right = list(left), list(right)
        while left and right:
            x, y = factors(left.pop()), factors(right.pop())
            if len(x) != 1 or len(y) != 1:  # refined meanwhile: expand and look again
                left += x
                right += y
                continue
            (a,), (b,) = x, y
            if a.size == b.size:
                self.equal(a, b)
            elif divides(b.size, a.size):
                outer, inner = self.divide(a, b.size)
                left.append(outer)
                self.equal(inner, b)
            elif divides(a.size, b.size):
                outer, inner = self.divide(b, a.size)
                right.append(outer)
                self.equal(a, inner)
            else:
                raise Inexpressible(f"no common refinement of factors {a.size[0]}, {b.size[0]}")
        if times(size_of(rest) for rest in left + right) != UNIT:
            raise Inexpressible("products of different length")

    def _unify_sums(self, left: list[Term], right: list[Term]) -> None:
        """From the first summand: the longer is split at the shorter."""
        left, right = left[::-1], right[::-1]
        while left and right:
            xs, ys = self.summands(left.pop()), self.summands(right.pop())
            if len(xs) > 1 or len(ys) > 1:  # refined meanwhile: expand and look again
                left.extend(reversed(xs))
                right.extend(reversed(ys))
                continue
            x, y = find(xs[0]), find(ys[0])
            if x.size == y.size:
                self.equal(x, y)
            elif x.size[0] < y.size[0]:
                first, second = self._split(y, x.size)
                right.extend((second, first))
                left.append(x)
            else:
                first, second = self._split(x, y.size)
                left.extend((second, first))
                right.append(y)

    def _split(self, term: Term, at: Size) -> tuple[Term, Term]:
        """term = first + second with |first| = at; term is no sum at top level."""
        term = find(term)
        rest = (term.size[0] - at[0], term.size[1] - at[1])
        if min(at) <= 0 or min(rest) <= 0:
            raise Inexpressible("the order of the parts depends on the sizes")
        if term.kind is Kind.ATOM:
            first, second = self.atom(at), self.atom(rest)
            _refine(term, Kind.SUM, [first, second])
            return first, second
        head, *tail = factors(term)
        inner = times(size_of(factor) for factor in tail)
        if not divides(inner, at):
            raise Inexpressible(f"a cut at {at[0]} inside a block of {inner[0]}")
        bound = quotient(at, inner)
        self._bound(head, bound)
        lead, taken, done = self.summands(head), [], EMPTY
        while done != bound:
            taken.append(lead.pop(0))
            done = plus([done, size_of(taken[-1])])
        return self.prod([self.sum(taken), *tail]), self.prod([self.sum(lead), *tail])

    def _bound(self, term: Term, at: Size) -> None:
        """Make `at` a boundary between two summands of term."""
        start = EMPTY
        for part in self.summands(term):
            if start == at:
                return
            end = plus([start, size_of(part)])
            if end[0] > at[0] and end[1] > at[1]:
                self._split(part, (at[0] - start[0], at[1] - start[1]))
                return
            start = end
        if start != at:
            raise Inexpressible(f"no boundary at {at[0]}")

    def _divide_atom(self, term: Term, inner: Size) -> tuple[Term, Term]:
        pair = self.atom(quotient(term.size, inner)), self.atom(inner)
        _refine(term, Kind.PROD, pair)
        return pair

    def _divide_prod(self, term: Term, inner: Size) -> tuple[Term, Term]:
        outer, taken, need = factors(term), [], inner
        while need != UNIT:
            last = outer.pop()
            if divides(last.size, need):
                taken.insert(0, last)
                need = quotient(need, last.size)
            elif divides(need, last.size):
                big, small = self.divide(last, need)
                outer.append(big)
                taken.insert(0, small)
                need = UNIT
            else:
                raise Inexpressible(f"no common refinement of factors {last.size[0]}, {need[0]}")
        return self.prod(outer), self.prod(taken)

    def _divide_sum(self, term: Term, inner: Size) -> tuple[Term, Term]:
        parts = self.summands(term)
        if not all(divides(inner, size_of(part)) for part in parts):
            raise Inexpressible(f"a block of {inner[0]} crosses a seam of a concatenation")
        outers, shared = [], None
        for part in parts:
            outer, block = self.divide(part, inner)
            outers.append(outer)
            if shared is not None:
                self.equal(shared, block)
            shared = block
        assert shared is not None
        # not self.sum: the outers of equal parts are units, and a sum of units keeps them
        total = plus(size_of(outer) for outer in outers)
        outer = outers[0] if len(outers) == 1 else self._term(total, Kind.SUM, outers)
        term = find(term)
        if term.kind is Kind.SUM:
            term.kind, term.parts = Kind.PROD, [outer, shared]
        return outer, shared


def _note(marks: dict[str, None], reasons: Iterable[str]) -> None:
    for reason in reasons:
        if len(marks) < REASONS_KEPT:
            marks[reason] = None


def _hand_on(marks: Term, heirs: Iterable[Term]) -> None:
    """Marks follow units into whatever the atom became."""
    for heir in heirs:
        for leaf in leaves(heir):
            _note(leaf.frozen, marks.frozen)
            _note(leaf.width, marks.width)


def _refine(atom: Term, kind: Kind, parts: Sequence[Term]) -> None:
    atom.kind, atom.parts = kind, list(parts)
    _hand_on(atom, parts)


def _link(atom: Term, term: Term) -> None:
    atom.link = term
    _hand_on(atom, [term])
