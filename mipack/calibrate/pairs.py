"""Second moments of both operands of a product of activations: q'k of an attention.

Of dims that no weight reads, all that counts is which products they contribute to: for each context
(head) E[q q'] and E[k k'], of which `select` takes the dims that the product can spare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mipack.calibrate.rows import RowMap
from mipack.couple.basis import pairs_of
from mipack.couple.solve import Coupling, Group
from mipack.layout import Term, factors, leaves, size_of

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Operand:
    """One side of a product: a value, the axis that is contracted, and the group on it."""

    name: str
    axis: int
    group: Group

    @property
    def key(self) -> str:
        """Its name in a moments file; two groups of one axis may have other contexts."""
        return f"{self.name}:{self.axis}:{self.group.name}"


@dataclass(frozen=True, slots=True)
class PairMoments:
    """Sums over the rows of each context: first [contexts, f], second [contexts, f, f]; `count` is
    the same for all."""

    count: float
    first: Array
    second: Array

    def merge(self, other: PairMoments) -> PairMoments:
        """The sums over both sets of rows."""
        return PairMoments(
            self.count + other.count, self.first + other.first, self.second + other.second
        )

    def mean_square(self) -> Array:
        """E[x x'] of each context."""
        return self.second / max(self.count, 1.0)

    def covariance(self) -> Array:
        """cov x of each context."""
        mean = self.first / max(self.count, 1.0)
        return self.mean_square() - mean[:, :, None] * mean[:, None, :]


def operands_of(coupling: Coupling, groups: Sequence[Group]) -> tuple[Operand, ...]:
    """Both sides of every product over these groups that no weight takes part in."""
    found: dict[str, Operand] = {}
    for group in groups:
        for pair in pairs_of(coupling, group):
            for name, axis in ((pair.left, pair.left_axis), (pair.right, pair.right_axis)):
                operand = Operand(name, axis, group)
                if _told(coupling, operand):
                    found.setdefault(operand.key, operand)
    return tuple(found.values())


def _told(coupling: Coupling, operand: Operand) -> bool:
    """Whether the contexts of the group are whole factors of the value's axes."""
    axes = coupling.axes[operand.name]
    here = [f for k, term in enumerate(axes) if k != operand.axis for f in factors(term)]
    return all(c in here or c in leaves(axes[operand.axis]) for c in operand.group.within)


class PairSums:
    """Collects the moments of an operand."""

    def __init__(self, coupling: Coupling, operand: Operand) -> None:
        self._coupling, self._operand = coupling, operand
        self._sums: PairMoments | None = None

    def add(self, x: torch.Tensor, rows: RowMap, feeds: Mapping[str, Array], samples: int) -> None:
        """One batch; rows of padding are left out."""
        import torch

        weights = self._weights(x, rows, feeds, samples)
        axes = list(self._coupling.axes[self._operand.name])
        features, grid, beside = _by_context(axes, self._operand, list(x.shape))
        flat = x.float().movedim(self._operand.axis, -1).reshape(grid)
        marked = [1 if k in beside else n for k, n in enumerate(grid[:-1])]
        mask = torch.from_numpy(weights).movedim(self._operand.axis, -1).reshape(*marked, 1)
        mask = mask.to(flat).expand(*grid[:-1], 1)
        order = [*features, *(k for k in range(len(grid)) if k not in features)]
        contexts = prod(grid[k] for k in features)
        flat = (flat * mask).permute(order).reshape(contexts, -1, grid[-1])
        second = (flat.mT @ flat).double().cpu().numpy()
        first = flat.sum(1).double().cpu().numpy()
        found = PairMoments(float(mask.sum()) / contexts, first, second)
        self._sums = found if self._sums is None else self._sums.merge(found)

    def _weights(
        self, x: torch.Tensor, rows: RowMap, feeds: Mapping[str, Array], samples: int
    ) -> Array:
        """1 where a row carries data, over x with one feature."""
        axis, axes = self._operand.axis, self._coupling.axes[self._operand.name]
        others = [t for k, t in enumerate(axes) if k != axis]
        sizes = [n for k, n in enumerate(x.shape) if k != axis]
        weights = rows.weights(feeds, samples)
        if weights is None or not rows.knows(others):
            return np.ones([*sizes[:axis], 1, *sizes[axis:]], np.float32)
        rows.observe(feeds)
        spread = rows.spread(weights, others, sizes)
        return np.expand_dims(np.ascontiguousarray(spread, np.float32), axis)

    def result(self) -> PairMoments:
        """The sums so far."""
        assert self._sums is not None, "no batch was added"
        return self._sums


def _by_context(
    axes: Sequence[Term], operand: Operand, shape: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """Where the contexts stand in the grid of every axis but the feature axis, split at its
    factors, the features last; that grid; and which contexts share the feature axis."""
    grid: list[int] = []
    at: dict[Term, int] = {}
    for k, term in enumerate(axes):
        if k == operand.axis:
            continue
        row = factors(term) if any(c in leaves(term) for c in operand.group.within) else [term]
        known = [size_of(f)[0] if f in operand.group.within or len(row) > 1 else 0 for f in row]
        free = [j for j, f in enumerate(row) if f not in operand.group.within]
        if len(row) == 1:
            known = [shape[k]]
        elif len(free) == 1:
            others = prod(n for j, n in enumerate(known) if j != free[0])
            known[free[0]] = shape[k] // max(1, others)
        for f, n in zip(row, known, strict=True):
            at.setdefault(f, len(grid))
            grid.append(n)
    beside = [c for c in operand.group.within if c not in at]
    inner = shape[operand.axis]
    for context in beside:  # in the product of the feature axis itself, outermost first
        at[context] = len(grid)
        grid.append(size_of(context)[0])
        inner //= size_of(context)[0]
    places = [at[c] for c in operand.group.within]
    return places, [*grid, inner], [at[c] for c in beside]


def pair_moments(
    sums: Iterable[tuple[Operand, PairSums]],
) -> dict[str, PairMoments]:
    """The results of some collectors by key."""
    return {operand.key: collector.result() for operand, collector in sums}
