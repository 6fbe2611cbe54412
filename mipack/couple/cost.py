"""Exact cost of a graph as a function of its groups' widths.

Every contraction is a product of axis sizes and every axis a term over atoms, so MACs and
parameters of any cut are known without cutting. Dynamic sizes count as in the first probe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import prod as product

from mipack.layout import Kind, Term, find, leaves, parts

Widths = Mapping[Term, int]


def width_of(term: Term, widths: Widths) -> int:
    """The size of a term when atoms (by their representative) have these widths, others theirs."""
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


class Cost:
    """MACs of `products` (a product of axis sizes each) and elements of `weights`.

    `shares`: of every product the share that counts, where not all of each does.
    """

    def __init__(
        self,
        products: Iterable[Sequence[Term]],
        weights: Iterable[Sequence[Term]],
        shares: Sequence[Fraction] = (),
    ) -> None:
        self._macs, self._params = _Sum(products, shares), _Sum(weights)
        self._held: Widths = {}

    def holding(self, held: Widths) -> Cost:
        """The same where these atoms have these widths unless another is asked for."""
        other = Cost((), ())
        other._macs, other._params, other._held = self._macs, self._params, dict(held)
        return other

    def macs(self, widths: Widths) -> int:
        """Multiply-adds of one run of the first probe."""
        return self._macs.at({**self._held, **widths})

    def macs_of(self, atom: Term, widths: Widths) -> int:
        """Multiply-adds of the contractions that an atom takes part in."""
        return self._macs.of(atom, {**self._held, **widths})

    def params_of(self, atom: Term, widths: Widths) -> int:
        """Elements of the weights that an atom takes part in."""
        return self._params.of(atom, {**self._held, **widths})

    def params(self, widths: Widths) -> int:
        """Elements of the weights."""
        return self._params.at({**self._held, **widths})


class _Sum:
    """A sum of products, evaluated by what changed: products without a listed atom are cached."""

    def __init__(self, products: Iterable[Sequence[Term]], shares: Sequence[Fraction] = ()) -> None:
        self._products = [tuple(axes) for axes in products]
        self._shares = shares
        self._full = [self._one(i, {}) for i in range(len(self._products))]
        self._of: dict[Term, list[int]] = {}
        for index, axes in enumerate(self._products):
            for atom in dict.fromkeys(leaf for term in axes for leaf in leaves(term)):
                self._of.setdefault(atom, []).append(index)
        self._total = sum(self._full)

    def at(self, widths: Widths) -> int:
        widths = _by_representative(widths)
        touched = dict.fromkeys(i for atom in widths for i in self._of.get(atom, ()))
        change = (self._one(i, widths) - self._full[i] for i in touched)
        return self._total + sum(change)

    def of(self, atom: Term, widths: Widths) -> int:
        widths = _by_representative(widths)
        return sum(self._one(i, widths) for i in self._of.get(find(atom), ()))

    def _one(self, index: int, widths: Widths) -> int:
        whole = product(width_of(term, widths) for term in self._products[index])
        return int(whole * self._shares[index]) if self._shares else whole


def _by_representative(widths: Widths) -> Widths:
    return {find(atom): width for atom, width in widths.items()}
