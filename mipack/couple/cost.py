"""Exact cost of a graph as a function of its groups' widths.

Every contraction is a product of axis sizes and every axis a term over atoms, so MACs, parameters
and bytes of any cut are known without cutting. Dynamic sizes count as in the first probe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from math import prod as product
from typing import Any, Protocol

import numpy as np

from mipack.layout import Kind, Term, find, leaves, parts

Widths = Mapping[Term, int]
Numbers = np.ndarray[Any, np.dtype[Any]]


def width_of(term: Term, widths: Mapping[Term, Any]) -> Any:
    """The size of a term when atoms (by their representative) have these widths, others theirs;
    where a width is an array of candidates, so is the size."""
    term = find(term)
    if term.kind is Kind.ATOM:
        return widths.get(term, term.size[0])
    inner = (width_of(part, widths) for part in parts(term))
    return sum(inner) if term.kind is Kind.SUM else product(inner)


def lost_of(terms: Sequence[Term]) -> dict[Term, int]:
    """For every atom how much of the product of some terms goes when the atom goes, at full size;
    in one pass, for a concatenation may be as long as the graph."""
    listed = [(width_of(term, {}), _lost(find(term))) for term in terms]
    whole = product(size for size, _ in listed)
    found: dict[Term, int] = {}
    for atom in dict.fromkeys(atom for _, lost in listed for atom in lost):
        found[atom] = whole - product(size - lost.get(atom, 0) for size, lost in listed)
    return found


def _lost(term: Term) -> dict[Term, int]:
    if term.kind is Kind.ATOM:
        return {term: term.size[0]}
    if term.kind is Kind.PROD:
        return lost_of(parts(term))
    found: dict[Term, int] = {}
    for part in parts(term):
        for atom, size in _lost(part).items():
            found[atom] = found.get(atom, 0) + size
    return found


class Measure(Protocol):
    """What the whole graph costs in one unit, as a function of widths."""

    @property
    def full(self) -> int:
        """The same of the original."""

    def total(self, widths: Widths) -> int:
        """The exact cost of these widths."""

    def curve(self, atom: Term, widths: Widths, candidates: Numbers) -> Numbers:
        """For each candidate width of an atom, others as given, the cost of all that the atom
        takes part in."""


class Cost:
    """Measures by name: `macs` of `products` (a product of axis sizes each), `params` and `bytes`
    of `weights`, each of so many bits an element (32 by default); others may be added.

    `shares`: of every product the share that counts, where not all of each does; `idle` and
    `unread`: of every product and weight the atoms without which nobody needs it.
    """

    def __init__(
        self,
        products: Iterable[Sequence[Term]],
        weights: Iterable[Sequence[Term]],
        bits: Sequence[int] | None = None,
        shares: Sequence[Fraction] = (),
        *,
        idle: Sequence[Collection[Term]] = (),
        unread: Sequence[Collection[Term]] = (),
    ) -> None:
        products = [tuple(axes) for axes in products]
        weights = [tuple(axes) for axes in weights]
        self._measures: dict[str, Measure] = {
            "macs": _Sum(products, shares, idle),
            "params": _Sum(weights, (), unread),
            "bytes": _Bytes(weights, [32] * len(weights) if bits is None else bits, unread),
        }
        self._alone = Alone(products, idle)
        self._held: Widths = {}

    def holding(self, held: Widths) -> Cost:
        """The same where these atoms have these widths unless another is asked for."""
        return self._like(self._measures, held)

    def adding(self, name: str, measure: Measure) -> Cost:
        """The same with one more measure."""
        return self._like({**self._measures, name: measure}, self._held)

    def _like(self, measures: Mapping[str, Measure], held: Widths) -> Cost:
        other = Cost((), ())
        other._measures, other._held, other._alone = dict(measures), dict(held), self._alone
        return other

    def measure(self, of: str) -> Measure:
        """One of them."""
        return self._measures[of]

    def full(self, of: str) -> int:
        """The original's cost."""
        return self._measures[of].full

    def total(self, of: str, widths: Widths) -> int:
        """See `Measure.total`."""
        return self._measures[of].total({**self._held, **widths})

    def curve(self, of: str, atom: Term, widths: Widths, candidates: Numbers) -> Numbers:
        """See `Measure.curve`."""
        return self._measures[of].curve(atom, {**self._held, **widths}, candidates)

    def without(self, atom: Term) -> set[Term]:
        """The other atoms whose contractions all go with this one: they cost nothing then."""
        return self._alone.without(atom)

    def macs(self, widths: Widths) -> int:
        """Multiply-adds of one run of the first probe."""
        return self.total("macs", widths)

    def params(self, widths: Widths) -> int:
        """Elements of the weights."""
        return self.total("params", widths)


class Beside:
    """A measure with something beside it that no cut changes: `fixed` in the cut graph, `full` in
    all of the original."""

    def __init__(self, part: Measure, fixed: int, full: int) -> None:
        self.full, self._part, self._fixed = full, part, fixed

    def total(self, widths: Widths) -> int:
        return self._part.total(widths) + self._fixed

    def curve(self, atom: Term, widths: Widths, candidates: Numbers) -> Numbers:
        return self._part.curve(atom, widths, candidates)


class Alone:
    """Which atoms cost nothing once another is gone."""

    def __init__(
        self, products: Sequence[Sequence[Term]], needs: Sequence[Collection[Term]] = ()
    ) -> None:
        self._products, self._needs = products, needs or [()] * len(products)

    def without(self, atom: Term) -> set[Term]:
        """Those of which every product goes with this atom."""
        lost = Counter(leaf for i in self._all_of.get(find(atom), ()) for leaf in self._leaves[i])
        return {other for other, n in lost.items() if n == self._count[other]} - {find(atom)}

    @cached_property
    def _leaves(self) -> list[set[Term]]:
        return [{leaf for term in axes for leaf in leaves(term)} for axes in self._products]

    @cached_property
    def _count(self) -> Counter[Term]:
        return Counter(leaf for found in self._leaves for leaf in found)

    @cached_property
    def _all_of(self) -> dict[Term, list[int]]:
        """Atom -> the products of which nothing is left without it."""
        found: dict[Term, list[int]] = {}
        for index, axes in enumerate(self._products):
            whole = product(width_of(term, {}) for term in axes)
            total = {atom for atom, lost in lost_of(axes).items() if lost == whole}
            for atom in total.union(map(find, self._needs[index])):
                found.setdefault(atom, []).append(index)
        return found


class _Sum:
    """A sum of products, evaluated by what changed: products without a listed atom are cached."""

    def __init__(
        self,
        products: Iterable[Sequence[Term]],
        scales: Sequence[int | Fraction] = (),
        needs: Sequence[Collection[Term]] = (),
    ) -> None:
        """`needs`: of every product the atoms without which it is not there."""
        self._products = [tuple(axes) for axes in products]
        self._scales = list(scales) or [1] * len(self._products)
        self._needs = [tuple(map(find, atoms)) for atoms in needs or [()] * len(self._products)]
        self._each = [int(self._one(index, {})) for index in range(len(self._products))]
        self._of: dict[Term, list[int]] = {}
        for index, axes in enumerate(self._products):
            inside = (leaf for term in axes for leaf in leaves(term))
            for atom in dict.fromkeys((*inside, *self._needs[index])):
                self._of.setdefault(atom, []).append(index)
        self.full = sum(self._each)

    def total(self, widths: Widths) -> int:
        widths = _by_representative(widths)
        touched = dict.fromkeys(i for atom in widths for i in self._of.get(atom, ()))
        return self.full + sum(int(self._one(i, widths)) - self._each[i] for i in touched)

    def curve(self, atom: Term, widths: Widths, candidates: Numbers) -> Numbers:
        atom, found = find(atom), np.zeros(len(candidates))
        varied: dict[Term, Any] = {**_by_representative(widths), atom: candidates.astype(float)}
        for index in self._of.get(atom, ()):  # the products are polynomials: all at once
            found += float(self._scales[index]) * self._size(index, varied)
        return found

    def _one(self, index: int, widths: Widths) -> int | Fraction:
        return self._scales[index] * int(self._size(index, widths))

    def _size(self, index: int, widths: Mapping[Term, Any]) -> Any:
        there = product(np.asarray(widths.get(a, 1)) > 0 for a in self._needs[index])
        return product(width_of(term, widths) for term in self._products[index]) * there


class _Bytes:
    """Bytes of weights, of which each element takes so many bits."""

    def __init__(
        self,
        weights: Iterable[Sequence[Term]],
        bits: Sequence[int],
        needs: Sequence[Collection[Term]],
    ) -> None:
        self._bits = _Sum(weights, bits, needs)
        self.full = -(-self._bits.full // 8)

    def total(self, widths: Widths) -> int:
        return -(-self._bits.total(widths) // 8)

    def curve(self, atom: Term, widths: Widths, candidates: Numbers) -> Numbers:
        return self._bits.curve(atom, widths, candidates) / 8


def _by_representative(widths: Widths) -> Widths:
    return {find(atom): width for atom, width in widths.items()}
