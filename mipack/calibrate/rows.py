"""Which sample, and which weight, each row of a site belongs to.

Weights (1 for data, 0 for padding) are given per sample, or per sample and position where the
model has a row mask. They reach a site through the layout of its dynamic axes: an axis that *is*
the batch, the sequence or a product of them, wherever it stands; never by equal sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mipack.couple.solve import Coupling
from mipack.layout import Kind, Term, factors, find, is_static, size_of

Array = np.ndarray[Any, Any]


class RowMap:
    """Spreads arrays over (batch) or (batch, position) to the rows of any tensor."""

    def __init__(self, coupling: Coupling, inputs: Sequence[str], mask: str | None) -> None:
        self._coupling, self._mask = coupling, mask
        named = [coupling.axes[n] for n in inputs if coupling.axes.get(n)]
        batch = {find(axes[0]) for axes in named if not is_static(axes[0])}
        self.batch = next(iter(batch)) if len(batch) == 1 else None
        self.atoms: tuple[Term, ...] = (self.batch,) if self.batch is not None else ()
        if mask is not None and len(coupling.axes.get(mask, ())) == 2:
            self.atoms = tuple(map(find, coupling.axes[mask]))

    def weights(self, feeds: Mapping[str, Array], samples: int) -> Array | None:
        """1 for rows of data and 0 for padding, over `atoms`; None where every row counts."""
        if not self.atoms:
            return None
        if len(self.atoms) == 2 and self._mask is not None:
            weights = (np.asarray(feeds[self._mask]) != 0).astype(np.float32)
        else:
            rows = next(np.shape(v)[0] for n, v in feeds.items() if self._leads(n))
            weights = np.ones(rows, np.float32)
        weights[samples:] = 0
        return weights

    def _leads(self, name: str) -> bool:
        axes = self._coupling.axes.get(name)
        return bool(axes) and find(axes[0]) is self.batch  # type: ignore[index]

    def knows(self, axes: Sequence[Term]) -> bool:
        """Whether the rows of a tensor with these axes can be told apart by sample."""
        return bool(self.atoms) and any(self.atoms[0] in factors(term) for term in axes)

    def spread(self, array: Array, axes: Sequence[Term], shape: Sequence[int]) -> Array:
        """`array` (over the leading `atoms`) at every position of a tensor: [shape].

        An atom that the tensor lacks is reduced by max: a pooled row counts if anything under it
        does.
        """
        atoms = list(self.atoms[: array.ndim])
        rows = [self._factors(t, n) for t, n in zip(axes, shape, strict=True)]
        there = [f for row in rows for f, _ in row]
        for k in range(array.ndim - 1, -1, -1):
            if atoms[k] not in there:
                array = array.max(axis=k)
                atoms.pop(k)
        places = [there.index(atom) for atom in atoms]
        order = np.argsort(places)
        grid = [1] * len(there)
        for place, size in zip(places, array.shape, strict=True):
            grid[place] = size
        full = [size for row in rows for _, size in row]
        spread = array.transpose(order).reshape(grid)
        return np.broadcast_to(spread, full).reshape(tuple(shape))

    def _factors(self, term: Term, size: int) -> list[tuple[Term, int]]:
        """The factors of an axis with their sizes in this run (static ones may be cut)."""
        term = find(term)
        row = factors(term) if term.kind is Kind.PROD else [term]
        if len(row) == 1:
            return [(row[0], size)]
        known = {f: size_of(f)[0] if is_static(f) else self._sizes.get(f, 0) for f in row}
        open_ = [f for f in row if not known[f]] or [f for f in row if is_static(f)][-1:]
        if len(open_) == 1:  # at most one factor is told by the others
            others = int(np.prod([known[f] for f in row if f is not open_[0]], dtype=np.int64))
            known[open_[0]] = size // max(1, others)
        return [(f, known[f]) for f in row]

    _sizes: Mapping[Term, int] = {}

    def observe(self, feeds: Mapping[str, Array]) -> None:
        """Remember the sizes of the inputs' dynamic axes in this batch."""
        sizes = {}
        for name, value in feeds.items():
            for term, size in zip(self._coupling.axes.get(name, ()), np.shape(value), strict=False):
                sizes[find(term)] = size
        self._sizes = sizes
