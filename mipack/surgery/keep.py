"""Which old positions of an axis survive: keep tables over atoms, spelled out for any layout.

A keep table of an independent atom is a sorted vector of its old unit indices. A dependent atom
(head dims kept differently in every head) has one row per *original* unit of each context.

    sum      old positions are offset by the parts before them
    product  mixed radix, last factor fastest
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mipack.couple.solve import Group
from mipack.layout import UNIT, Kind, Term, find, is_static, leaves, parts, size_of

Ints = np.ndarray[Any, np.dtype[np.int64]]


class Keep:
    """The kept units of some atoms; all other atoms stay whole.

    `tables[atom]` has shape [contexts.., kept], `within[atom]` names the contexts in that order.
    """

    def __init__(
        self, tables: Mapping[Term, Ints], within: Mapping[Term, Sequence[Term]] | None = None
    ) -> None:
        self.tables = {find(atom): np.asarray(t, np.int64) for atom, t in tables.items()}
        self.within = {find(a): tuple(map(find, c)) for a, c in (within or {}).items() if c}

    @classmethod
    def of(cls, tables: Mapping[Group, Ints]) -> Keep:
        """The kept units of groups; of a family [contexts.., kept]."""
        return cls(
            {group.atom: table for group, table in tables.items()},
            {group.atom: group.within for group in tables},
        )

    @classmethod
    def leading(cls, widths: Mapping[Group, int]) -> Keep:
        """The first units of groups, in all contexts the same: what a cut of these widths looks
        like where it does not matter which units stay."""
        return cls.of(
            {
                group: np.broadcast_to(np.arange(width), (*group.shape[:-1], width))
                for group, width in widths.items()
                if width < group.size
            }
        )

    def only(self, atoms: Collection[Term]) -> Keep:
        """The same choice for some atoms; all others stay whole, contexts too."""
        tables = {atom: table for atom, table in self.tables.items() if atom in atoms}
        return Keep(tables, {atom: self.within.get(atom, ()) for atom in tables})

    def cuts(self, term: Term) -> bool:
        """Whether any unit of the axis goes."""
        return any(leaf in self.tables for leaf in leaves(term))

    @property
    def gone(self) -> tuple[Term, ...]:
        """The atoms of which no unit stays."""
        return tuple(atom for atom, table in self.tables.items() if not table.shape[-1])

    def size(self, term: Term, probe: int = 0) -> int:
        """The new size of an axis (dynamic parts as in the given probe)."""
        term = find(term)
        if term.kind is Kind.ATOM:
            return int(self.tables[term].shape[-1]) if term in self.tables else term.size[probe]
        sizes = [self.size(part, probe) for part in parts(term)]
        return sum(sizes) if term.kind is Kind.SUM else int(np.prod(sizes))

    def position(self, term: Term, low: int) -> int:
        """Where the boundary at old position `low` moves to."""
        term = find(term)
        if low <= 0 or low >= size_of(term)[0]:
            return 0 if low <= 0 else self.size(term)
        if term.kind is Kind.ATOM:
            return int(np.searchsorted(self.flat(term), low)) if self.cuts(term) else low
        if term.kind is Kind.PROD:
            return self._within_product(parts(term), low)
        new = old = 0
        for part in parts(term):
            if low < old + size_of(part)[0]:
                return new + self.position(part, low - old)
            new, old = new + self.size(part), old + size_of(part)[0]
        return new

    def _within_product(self, factors: Sequence[Term], low: int) -> int:
        """A boundary between units of the leading factor, or inside one that is a part by itself:
        (1 + 1) x A is A + A, and each A has boundaries of its own."""
        head, *tail = factors
        if not tail:
            return self.position(head, low)
        unit, rest = divmod(low, int(np.prod([size_of(part)[0] for part in tail])))
        before = self.position(head, unit) * int(np.prod([self.size(part) for part in tail]))
        return before + (self._within_product(tail, rest) if rest else 0)

    def flat(self, term: Term) -> Ints:
        """Old positions of an axis without families, ascending."""
        return self.index([term])[0].reshape(-1)

    def index(self, axes: Sequence[Term]) -> tuple[Ints, ...]:
        """Old positions per axis, each broadcastable over the whole new tensor.

        `weight[index(axes)]` is the cut weight. Dynamic axes count as one position.
        """
        rank = len(axes)
        axes = [find(term) for term in axes]
        positions = []
        for k, term in enumerate(axes):
            length = self.size(term) if is_static(term) else 1
            shape = [1] * rank
            shape[k] = length
            positions.append(np.arange(length, dtype=np.int64).reshape(shape))
        known: dict[Term, Ints] = {}
        for term, at in zip(axes, positions, strict=True):
            self._contexts(term, at, known)
        return tuple(
            self._old(term, at, known) if is_static(term) else at
            for term, at in zip(axes, positions, strict=True)
        )

    def _contexts(self, term: Term, at: Ints, known: dict[Term, Ints]) -> None:
        """Old indices of independent atoms that stand beside others, for families to look up."""
        if term.kind is Kind.ATOM and term not in self.within:
            known.setdefault(term, self._old(term, at, known))
        elif term.kind is Kind.PROD:
            for factor, place in self._digits(term, at):
                self._contexts(factor, place, known)

    def _digits(self, term: Term, at: Ints) -> list[tuple[Term, Ints]]:
        found, rest = [], at
        for part in reversed(parts(term)):
            length = self.size(part)
            found.append((part, rest % length))
            rest = rest // length
        return found[::-1]

    def _old(self, term: Term, at: Ints, known: Mapping[Term, Ints]) -> Ints:
        if not self.cuts(term):
            return at
        if term.kind is Kind.ATOM:
            table = self.tables[term]
            return table[(*(known[c] for c in self.within.get(term, ())), at)]
        if term.kind is Kind.PROD:
            here: dict[Term, Ints] = {}  # contexts beside a family in its own product come first
            self._contexts(term, at, here)
            known = {**known, **here}
            total: Ints = np.zeros((), np.int64)
            for factor, place in self._digits(term, at):
                total = total * size_of(factor)[0] + self._old(factor, place, known)
            return total
        return self._old_sum(term, at, known)

    def _old_sum(self, term: Term, at: Ints, known: Mapping[Term, Ints]) -> Ints:
        result: Ints = np.zeros_like(at)
        new = old = 0
        for part in parts(term):
            length = self.size(part)
            if length:
                inside = (at >= new) & (at < new + length)
                place = np.clip(at - new, 0, length - 1)
                result = np.where(inside, self._old(part, place, known) + old, result)
            new, old = new + length, old + size_of(part)[0]
        return result

    def mask(self, axes: Sequence[Term]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """True at kept positions of a tensor; axes that do not matter have length 1 in it."""
        matter = set(self.tables).union(*self.within.values())
        one = Term(0, UNIT, Kind.ATOM, ())
        axes = [t if is_static(t) and matter.intersection(leaves(t)) else one for t in axes]
        kept = np.zeros([size_of(term)[0] for term in axes], np.bool_)
        kept[self.index(axes)] = True
        return kept
