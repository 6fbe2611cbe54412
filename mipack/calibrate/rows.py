"""Which sample, and which weight, each row of a site belongs to.

Weights (1 for data, 0 for padding) are given per sample, or per sample and position where the
model has a row mask. They reach a site through the layout of its axes: an axis that *is* the batch,
the sequence or a product of their factors, wherever it stands; never by equal sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.solve import Coupling
from mipack.layout import UNIT, Kind, Term, factors, find, is_static, size_of

Array = np.ndarray[Any, Any]


class RowMap:
    """Spreads arrays over (batch) or (batch, position) to the rows of any tensor."""

    def __init__(self, coupling: Coupling, inputs: Sequence[str], mask: str | None) -> None:
        self._coupling, self._mask = coupling, mask
        self._sizes: Mapping[Term, int] = {}
        self._same = _declared_same(coupling, mask)
        outputs = [value.name or "" for value in coupling.model.graph.outputs]
        self.batch = _batch(*([self._leader(n) for n in names] for names in (inputs, outputs)))
        self.atoms: tuple[Term, ...] = (self.batch,) if self.batch is not None else ()
        if mask is not None and len(coupling.axes.get(mask, ())) == 2:
            self.atoms = tuple(map(self._axis, coupling.axes[mask]))

    def _axis(self, term: Term) -> Term:
        """One term for all axes that are declared the same."""
        return self._same.get(find(term), find(term))

    def _leader(self, name: str) -> Term | None:
        axes = self._coupling.axes.get(name)
        return self._axis(axes[0]) if axes else None

    def weights(self, feeds: Mapping[str, Array], samples: int) -> Array | None:
        """1 for rows of data and 0 for padding, over `atoms`; None where every row counts."""
        if not self.atoms:
            return None
        if len(self.atoms) == 2 and self._mask is not None:
            weights = (np.asarray(feeds[self._mask]) != 0).astype(np.float32)
        else:
            rows = next(np.shape(v)[0] for n, v in feeds.items() if self._leader(n) is self.batch)
            weights = np.ones(rows, np.float32)
        weights[samples:] = 0
        return weights

    def knows(self, axes: Sequence[Term]) -> bool:
        """Whether the rows of a tensor with these axes can be told apart by sample."""
        if not self.atoms:
            return False
        # none where the model runs one sample at a time
        batch = {self._axis(factor) for factor in factors(self.atoms[0])}
        return batch.issubset(self._axis(factor) for term in axes for factor in factors(term))

    def reaches(self, axes: Sequence[Term]) -> bool:
        """Whether the positions that a mask marks are among these axes."""
        rows = [self._axis(factor) for term in axes for factor in factors(term)]
        return len(self.atoms) == 2 and self.atoms[1] in rows

    def spread(self, array: Array, axes: Sequence[Term], shape: Sequence[int]) -> Array:
        """`array` (over the leading `atoms`) at every position of a tensor: [shape].

        A factor that the tensor lacks is reduced by max: a pooled row counts if anything under it
        does.
        """
        own = [
            factor
            for term, size in zip(self.atoms, array.shape, strict=False)
            for factor in self._factors(term, size)
        ]
        atoms, array = [f for f, _ in own], array.reshape([size for _, size in own])
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
        row = [self._axis(f) for f in (factors(term) if term.kind is Kind.PROD else [term])]
        if len(row) == 1:
            return [(row[0], size)]
        known = {f: size_of(f)[0] if is_static(f) else self._sizes.get(f, 0) for f in row}
        open_ = [f for f in row if not known[f]] or [f for f in row if is_static(f)][-1:]
        if len(open_) == 1:  # at most one factor is told by the others
            others = int(np.prod([known[f] for f in row if f is not open_[0]], dtype=np.int64))
            known[open_[0]] = size // max(1, others)
        return [(f, known[f]) for f in row]

    def observe(self, feeds: Mapping[str, Array]) -> None:
        """Remember the sizes of the inputs' dynamic axes in this batch."""
        sizes = {}
        for name, value in feeds.items():
            for term, size in zip(self._coupling.axes.get(name, ()), np.shape(value), strict=False):
                sizes[self._axis(term)] = size
        self._sizes = sizes


def _batch(inputs: Sequence[Term | None], outputs: Sequence[Term | None]) -> Term | None:
    """The leading axis that counts samples: the dynamic one of the inputs. Where none is, that of
    a model for single samples, or of a fixed number of them if the outputs count the same."""
    leading = [term for term in inputs if term is not None]
    dynamic = {term for term in leading if not is_static(term)}
    if dynamic:
        return next(iter(dynamic)) if len(dynamic) == 1 else None
    if all(size_of(term) == UNIT for term in leading):
        return leading[0] if leading else None
    return leading[0] if {*leading, *outputs} == {leading[0]} else None


def _declared_same(coupling: Coupling, mask: str | None) -> dict[Term, Term]:
    """Input axes that are one by declaration, and what the graph ties them to: axis -> leader."""
    leader: dict[tuple[str, object], Term] = {}
    same: dict[Term, Term] = {}
    inputs = {value.name or "": value for value in coupling.model.graph.inputs}
    marked = _dims(inputs[mask]) if mask in inputs else ()
    for name, value in inputs.items():
        tokens = len(marked) == 2 and _dims(value) == marked and _is_integer(coupling, name)
        for k, (dim, term) in enumerate(
            zip(_dims(value), coupling.axes.get(name, ()), strict=False)
        ):
            named = isinstance(dim, str) and not is_static(term)
            if size_of(term) == UNIT or not (named or tokens):
                continue
            term, key = find(term), ("mask axis", k) if tokens else ("dim", dim)
            first = leader.setdefault(key, same.get(term, term))
            old = same.get(term, term)
            same = {axis: first if to is old else to for axis, to in same.items()} | {term: first}
            leader = {key: first if to is old else to for key, to in leader.items()}
    return same


def _dims(value: ir.Value) -> tuple[object, ...]:
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape or ())


def _is_integer(coupling: Coupling, name: str) -> bool:
    return coupling.probe.dtypes.get(name, "").startswith(("int", "uint", "bool"))
