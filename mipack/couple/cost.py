"""Exact cost of a graph as a function of its groups' widths.

Every contraction is a product of axis sizes and every axis a term over atoms, so MACs and
parameters of any cut are known without cutting. Dynamic sizes count as in the first probe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mipack.layout import Kind, Term, find, leaves

Widths = Mapping[Term, int]


def width_of(term: Term, widths: Widths) -> int:
    """The size of a term when atoms have these widths (unlisted atoms keep theirs)."""
    term = find(term)
    if term.kind is Kind.ATOM:
        return widths.get(term, term.size[0])
    if term.kind is Kind.SUM:
        return sum(width_of(part, widths) for part in term.parts)
    total = 1
    for part in term.parts:
        total *= width_of(part, widths)
    return total


class Cost:
    """MACs of `products` (a product of axis sizes each) and elements of `weights`."""

    def __init__(
        self, products: Iterable[Sequence[Term]], weights: Iterable[Sequence[Term]]
    ) -> None:
        self._macs, self._params = _Sum(products), _Sum(weights)

    def macs(self, widths: Widths) -> int:
        """Multiply-adds of one run of the first probe."""
        return self._macs.at(widths)

    def params(self, widths: Widths) -> int:
        """Elements of the weights."""
        return self._params.at(widths)


class _Sum:
    """A sum of products, evaluated by what changed: products without a listed atom are cached."""

    def __init__(self, products: Iterable[Sequence[Term]]) -> None:
        self._products = [tuple(product) for product in products]
        self._full = [self._one(product, {}) for product in self._products]
        self._of: dict[Term, list[int]] = {}
        for index, product in enumerate(self._products):
            for atom in dict.fromkeys(leaf for term in product for leaf in leaves(term)):
                self._of.setdefault(atom, []).append(index)
        self._total = sum(self._full)

    def at(self, widths: Widths) -> int:
        touched = dict.fromkeys(i for atom in widths for i in self._of.get(atom, ()))
        change = (self._one(self._products[i], widths) - self._full[i] for i in touched)
        return self._total + sum(change)

    @staticmethod
    def _one(product: Sequence[Term], widths: Widths) -> int:
        total = 1
        for term in product:
            total *= width_of(term, widths)
        return total
