"""The layout algebra: what the positions along an axis stand for. Knows no ONNX.

    L ::= atom(n) | L1 + .. + Lk (concatenation) | L1 x .. x Lk (row-major, last factor fastest)

Sizes are pairs, one number per probe: equal numbers are a static size, different ones a dynamic
size. Equations between terms are solved by union-find with common refinement: an atom that meets
a composite becomes it; two composites are cut into the coarsest pieces that both consist of.

    A6 + B10 = C10 + D6    ->  A = P6, C = P6 + Q4, B = Q4 + R6, D = R6
    H12 x D32 = H6 x D64   ->  H6 x E2 x D32 on both sides

An equation that cannot be expressed yet waits in a queue (`settle`). What still waits when nothing
moves is met halfway, last of all because it costs freedom: a head that is not cut is *unrolled*
into units where a seam lies inside its blocks (G x C is C + .. + C, and the C stay alike), and
products without common refinement are divided by what they share at both ends; their coprime
middle is frozen (uncut it is the same positions however it is written, and a row of 2 repeated
that is a row of 3 repeated has but one kind of position to cut).

    A8 + B16 = G4 x C6     ->  C = Q2 + R4, A = Q + R + Q, B = R + Q + R + Q + R
    H12 x D32 = H8 x D48   ->  4 x (3 x 2) x 16 = 4 x (2 x 3) x 16

Both sides of what is left even then are frozen. Refinement done on the way stays: it only makes
pieces smaller, so it is sound.

Normal form: no sum directly in a sum, no product in a product, no unit in a product; a unit in a
sum stays (3 = 1 + 1 + 1). No occurs check is needed: a proper part is strictly smaller (which is
why terms that are empty in a probe are never bound).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from mipack.terms import (
    EMPTY,
    REASONS_KEPT,
    UNIT,
    Kind,
    Size,
    Term,
    divides,
    factors,
    find,
    hand_on,
    is_static,
    leaves,
    note,
    parts,
    plus,
    quotient,
    shared_by,
    show,
    size_of,
    times,
)

__all__ = [
    "EMPTY",
    "REASONS_KEPT",
    "UNIT",
    "Inexpressible",
    "Kind",
    "Layout",
    "Size",
    "Term",
    "divides",
    "factors",
    "find",
    "is_static",
    "leaves",
    "parts",
    "plus",
    "quotient",
    "show",
    "size_of",
    "times",
]


class Inexpressible(Exception):
    """An equation that the algebra cannot write down (yet)."""


class Layout:
    """A set of terms and the equations between them."""

    def __init__(self) -> None:
        self._count = self._moves = 0
        self._halfway = False
        self._waiting: list[tuple[Term, Term, str, str]] = []
        self.failed: list[str] = []

    # -- building

    def atom(self, size: Size | int) -> Term:
        """A new atom; an int is a static size."""
        return self._term((size, size) if isinstance(size, int) else size, Kind.ATOM, ())

    def prod(self, terms: Iterable[Term]) -> Term:
        """The row-major product, in normal form."""
        kept = [term for term in map(find, terms) if term.size != UNIT]
        if not kept:
            return self.atom(UNIT)
        if len(kept) == 1:
            return kept[0]
        return self._term(times(term.size for term in kept), Kind.PROD, kept)

    def sum(self, terms: Iterable[Term]) -> Term:
        """The concatenation, in normal form; empty parts vanish."""
        flat: list[Term] = []
        for term in map(find, terms):
            flat += parts(term) if term.kind is Kind.SUM else [term]
        flat = [part for part in flat if part.size != EMPTY]
        if not flat:
            return self.atom(EMPTY)
        if len(flat) == 1:
            return flat[0]
        return self._term(plus(part.size for part in flat), Kind.SUM, flat)

    def _term(self, size: Size, kind: Kind, terms: Sequence[Term]) -> Term:
        self._count += 1
        return Term(self._count, size, kind, terms)

    # -- marks

    def freeze(self, term: Term, reason: str) -> None:
        """No unit of this term may be cut."""
        for leaf in leaves(term):
            note(leaf.frozen, [reason])

    def normalise(self, term: Term, reason: str) -> None:
        """Something averages over this term: a `width`, cut only with masked statistics."""
        for leaf in leaves(term):
            note(leaf.width, [reason])

    # -- equations

    def equal(self, left: Term, right: Term, reason: str = "") -> None:
        """State that two layouts are the same; queued where not expressible yet."""
        left, right = find(left), find(right)
        if left is right or left.size == right.size == UNIT or left.size == right.size == EMPTY:
            return
        try:
            self._unify(left, right, reason)
        except Inexpressible as error:
            self._waiting.append((left, right, reason, str(error)))

    def settle(self) -> None:
        """Retry what waits until nothing moves, then halfway; freeze both sides of the rest."""
        for self._halfway in (False, True):
            self._retry()
        self._halfway = False
        for left, right, reason, problem in self._waiting:
            self._give_up([left, right], problem, reason)
        self._waiting = []

    def _retry(self) -> None:
        """What counts is whether atoms moved: a retry may refine some and still wait, and may wait
        as several smaller equations."""
        progress = True
        while self._waiting and progress:
            moves, todo, self._waiting = self._moves, self._waiting, []
            for left, right, reason, _ in todo:
                self.equal(left, right, reason)
            progress = self._moves > moves
            if self._halfway:  # whose retries make new atoms without end: fewer must wait
                progress = len(self._waiting) < len(todo)

    def _give_up(self, terms: Iterable[Term], problem: str, reason: str) -> None:
        text = f"{problem} [{reason}]" if reason else problem
        self.failed += [] if text in self.failed else [text]
        for term in terms:
            self.freeze(term, text)

    def piece(self, term: Term, low: int, high: int) -> Term:
        """The layout of positions low..high of a static term, which is split there.

        Raises Inexpressible where a bound falls inside a block.
        """
        total = size_of(term)[0]
        if (low, high) == (0, total):
            return find(term)
        for bound in (low, high):
            if 0 < bound < total:
                self._bound(term, (bound, bound))
        listed = self.summands(term)
        starts = [0, *accumulate(part.size[0] for part in listed)]
        return self.sum(listed[bisect_left(starts, low) : bisect_left(starts, high)])

    def divide(self, term: Term, inner: Size, reason: str = "") -> tuple[Term, Term]:
        """Read term as outer x inner with the given inner size, or raise Inexpressible."""
        term = find(term)
        if not divides(inner, term.size):
            raise Inexpressible(f"{term.size[0]} is not a multiple of {inner[0]}")
        if inner == UNIT:
            return term, self.atom(UNIT)
        if inner == term.size:
            return self.atom(UNIT), term
        if term.kind is Kind.ATOM:
            pair = self.atom(quotient(term.size, inner)), self.atom(inner)
            self._refine(term, Kind.PROD, pair)
            return pair
        by_kind = self._divide_prod if term.kind is Kind.PROD else self._divide_sum
        try:
            return by_kind(term, inner, reason)
        except Inexpressible:
            if not self._halfway:
                raise
        pair = self.atom(quotient(term.size, inner)), self.atom(inner)
        self._unify(term, self.prod(pair), reason)
        return pair

    def summands(self, term: Term) -> list[Term]:
        """Top-level summands; only a leading factor distributes: (A+B) x C is AxC + BxC."""
        term = find(term)
        if term.kind is Kind.ATOM:
            return [term]
        if term.kind is Kind.SUM:
            found: list[Term] = []
            for part in parts(term):
                found += [part] if part.kind is Kind.ATOM else self.summands(part)
            return found
        head, *tail = factors(term)
        if head.kind is not Kind.SUM:
            return [term]
        found = []
        for part in self.summands(head):
            whole = self.prod([part, *tail])  # a unit vanishes, and the next factor leads
            found += self.summands(whole) if part.size == UNIT else [whole]
        return found

    def _unify(self, left: Term, right: Term, reason: str) -> None:
        if left.size != right.size:
            raise Inexpressible(f"sizes {left.size} and {right.size} differ")
        if 0 in left.size:
            raise Inexpressible(f"size {left.size} is empty in one probe")
        if left.kind is Kind.ATOM:
            return self._link(left, right)
        if right.kind is Kind.ATOM:
            return self._link(right, left)
        fl, fr = factors(left), factors(right)
        if len(fl) > 1 and len(fr) > 1:
            self._unify_prods(fl, fr, reason)
        else:
            self._unify_sums(self.summands(left), self.summands(right), reason)
        left, right = find(left), find(right)
        if left is not right:
            left.link = right

    def _unify_prods(self, left: list[Term], right: list[Term], reason: str) -> None:
        """From the fastest factor: the larger is divided by the smaller."""
        while left and right:
            x, y = factors(left.pop()), factors(right.pop())
            if len(x) != 1 or len(y) != 1:  # refined meanwhile: expand and look again
                left += x
                right += y
                continue
            (a,), (b,) = x, y
            if a.size == b.size:
                self.equal(a, b, reason)
            elif divides(b.size, a.size):
                outer, inner = self.divide(a, b.size, reason)
                left.append(outer)
                self.equal(inner, b, reason)
            elif divides(a.size, b.size):
                outer, inner = self.divide(b, a.size, reason)
                right.append(outer)
                self.equal(a, inner, reason)
            else:
                problem = f"no common refinement of factors {a.size[0]}, {b.size[0]}"
                if not self._halfway:
                    raise Inexpressible(problem)
                self._meet([*left, a], [*right, b], problem, reason)
                return

    def _meet(self, left: list[Term], right: list[Term], problem: str, reason: str) -> None:
        """Divide off what the last factors share, or the first ones; else freeze all of them."""
        for last in (True, False):
            a, b = (find(side.pop(-1 if last else 0)) for side in (left, right))
            shared = shared_by(a, b)
            if shared != UNIT:
                (a, x), (b, y) = (
                    self.divide(t, shared if last else quotient(t.size, shared)) for t in (a, b)
                )
                self.equal(*((x, y) if last else (a, b)), reason)
                ends = ([*left, a], [*right, b]) if last else ([x, *left], [y, *right])
                return self._unify_prods(*ends, reason)
            for side, end in ((left, a), (right, b)):
                side.insert(len(side) if last else 0, end)
        self._give_up([*left, *right], problem, reason)

    def _unify_sums(self, left: list[Term], right: list[Term], reason: str) -> None:
        """From the first summand: the longer is split at the shorter."""
        left, right = left[::-1], right[::-1]
        while left and right:
            xs, ys = self.summands(left.pop()), self.summands(right.pop())
            if len(xs) > 1 or len(ys) > 1:  # refined meanwhile: expand and look again
                left.extend(reversed(xs))
                right.extend(reversed(ys))
                continue
            x, y = xs[0], ys[0]
            if x.size == y.size:
                self.equal(x, y, reason)
            elif x.size[0] < y.size[0]:
                first, second = self._split(y, x.size)
                right.extend((second, first))
                left.append(x)
            else:
                first, second = self._split(x, y.size)
                left.extend((second, first))
                right.append(y)

    def _split(self, term: Term, at: Size) -> tuple[Term, Term]:
        """term = first + second with |first| = at; term is one of `summands`, so an atom leads."""
        term = find(term)
        rest = (term.size[0] - at[0], term.size[1] - at[1])
        if min(at) <= 0 or min(rest) <= 0:
            raise Inexpressible("the order of the parts depends on the sizes")
        if term.kind is Kind.ATOM:
            first, second = self.atom(at), self.atom(rest)
            self._refine(term, Kind.SUM, [first, second])
            return first, second
        head, *tail = factors(term)
        inner = times(factor.size for factor in tail)
        if not divides(inner, at):
            if not (self._halfway and at[0] == at[1] and self._unroll(head, tail)):
                raise Inexpressible(f"a cut at {at[0]} inside a block of {inner[0]}")
            return self.piece(term, 0, at[0]), self.piece(term, at[0], term.size[0])
        first, second = self._split(head, quotient(at, inner))
        return self.prod([first, *tail]), self.prod([second, *tail])

    def _unroll(self, head: Term, tail: Sequence[Term]) -> bool:
        """Make head a sum of units, where it helps: not for blocks that are not cut anyway."""
        static = all(map(is_static, [head, *tail]))
        useful = static and any(not leaf.frozen for part in tail for leaf in leaves(part))
        if useful:
            self._refine(head, Kind.SUM, [self.atom(UNIT) for _ in range(head.size[0])])
        return useful

    def _bound(self, term: Term, at: Size) -> None:
        """Make `at` a boundary between two summands of term."""
        listed = self.summands(term)
        ends = list(accumulate(part.size[0] for part in listed))
        place = bisect_left(ends, at[0])
        before = plus(part.size for part in listed[:place])
        inside = (at[0] - before[0], at[1] - before[1])
        if inside != listed[place].size:
            self._split(listed[place], inside)

    def _divide_prod(self, term: Term, inner: Size, reason: str) -> tuple[Term, Term]:
        outer, need = factors(term), inner
        taken: list[Term] = []
        while need != UNIT:
            last = outer.pop()
            if divides(last.size, need):
                taken.insert(0, last)
                need = quotient(need, last.size)
            elif divides(need, last.size):
                big, small = self.divide(last, need, reason)
                outer.append(big)
                taken.insert(0, small)
                need = UNIT
            else:
                raise Inexpressible(f"no common refinement of factors {last.size[0]}, {need[0]}")
        return self.prod(outer), self.prod(taken)

    def _divide_sum(self, term: Term, inner: Size, reason: str) -> tuple[Term, Term]:
        listed = self.summands(term)
        if not all(divides(inner, part.size) for part in listed):
            raise Inexpressible(f"a block of {inner[0]} crosses a seam of a concatenation")
        pairs = [self.divide(part, inner, reason) for part in listed]
        shared = pairs[-1][1]
        for _, block in pairs:
            self.equal(block, shared, reason)
        # not self.sum: the outers of equal parts are units, and a sum of units keeps them
        outers = [outer for outer, _ in pairs]
        outer = self._term(plus(size_of(outer) for outer in outers), Kind.SUM, outers)
        term = find(term)
        if term.kind is Kind.SUM:
            term.kind, term.parts = Kind.PROD, [outer, shared]
        return outer, shared

    # -- binding atoms

    def _refine(self, atom: Term, kind: Kind, pieces: Sequence[Term]) -> None:
        self._moves += 1
        atom.kind, atom.parts = kind, list(pieces)
        hand_on(atom, pieces)

    def _link(self, atom: Term, term: Term) -> None:
        self._moves += 1
        atom.link = term
        hand_on(atom, [term])
