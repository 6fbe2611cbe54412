"""A seeded sample of rows, for estimators that sums are not enough for.

Every row has a priority, a hash of (seed, its sample, its place among the rows of that sample), and
the rows of lowest priority stay: the same ones whatever the batches, their order and the shards,
and the same positions at all sites that have the same rows. Padding is never drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mipack.calibrate.sites import Array, Site
from mipack.couple.solve import Coupling
from mipack.layout import find

if TYPE_CHECKING:
    import torch

ROWS_MOST = 4_096
BYTES_MOST = 64 << 20
"""What the rows of one site may take; wide sites keep fewer."""


@dataclass(frozen=True, slots=True)
class RowSample:
    """Rows x [r, features] of a site and what stands above them [r, outputs], float32, in the
    order of their priorities [r]."""

    priority: Array
    x: Array
    above: Array

    def merge(self, other: RowSample) -> RowSample:
        """The sample of both sets of rows."""
        pairs = zip(self._parts(), other._parts(), strict=True)
        priority, x, above = (np.concatenate(pair) for pair in pairs)
        order = np.argsort(priority, kind="stable")[: rows_most(x.shape[1], above.shape[1])]
        return RowSample(priority[order], x[order], above[order])

    def _parts(self) -> tuple[Array, Array, Array]:
        return self.priority, self.x, self.above


def rows_most(features: int, outputs: int) -> int:
    """How many rows a site keeps."""
    return max(1, min(ROWS_MOST, BYTES_MOST // (4 * (features + outputs))))


class Sampler:
    """Draws the rows of one site as they stream by."""

    def __init__(self, site: Site, seed: int) -> None:
        self._seed, self._strangers = seed, 0
        sizes = ((0, site.features), (0, site.outputs))
        self._kept = RowSample(
            np.zeros(0, np.uint64), *(np.zeros(size, np.float32) for size in sizes)
        )
        self._most = rows_most(site.features, site.outputs)

    def add(self, x: torch.Tensor, above: torch.Tensor, owner: Array | None, origin: Array) -> None:
        """Rows [r, features] and [r, outputs], the sample of each in the batch (None: unknown) and
        the origin of each sample in the data. Unknown ones are numbered as they come."""
        import torch

        if owner is None:
            keys = np.arange(self._strangers, self._strangers + len(x))
            self._strangers += len(x)
            priority = priorities(self._seed, keys, np.zeros(len(x)))
        else:
            priority = priorities(self._seed, origin[owner], places(owner))
        kept = self._kept.priority
        drawn = (
            np.flatnonzero(priority < kept[-1]) if len(kept) == self._most else np.arange(len(x))
        )
        drawn = drawn[np.argsort(priority[drawn], kind="stable")[: self._most]]
        if not len(drawn):
            return
        at = torch.from_numpy(drawn).to(x.device)
        rows = (t[at].float().cpu().numpy() for t in (x, above))
        self._kept = self._kept.merge(RowSample(priority[drawn], *rows))

    def result(self) -> RowSample:
        """The sample so far."""
        return self._kept


def places(owner: Array) -> Array:
    """The number of every row among the rows of its owner: [r]."""
    order = np.argsort(owner, kind="stable")
    ordered = owner[order]
    first = np.searchsorted(ordered, ordered)
    found = np.empty(len(owner), np.int64)
    found[order] = np.arange(len(owner)) - first
    return found


def priorities(seed: int, sample: Array, place: Array) -> Array:
    """A number that looks random for every (sample, place): uint64."""
    state = _mixed(np.full(len(sample), seed, np.uint64))
    for part in (sample, place):
        state = _mixed(state ^ part.astype(np.uint64))
    return state


def _mixed(x: Array) -> Array:
    """One step of splitmix64 (Steele, Lea, Flood 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def above_of(coupling: Coupling, site: Site) -> str:
    """The tensor that holds a site's outputs as the layer above has them, row by row.

    From y through everything that keeps its axes (bias, residual addition, norm, activation), to
    the first tensor that a contraction reads along the same axis; where there is none (scores, a
    pooled map) to the last one.
    """
    axes, linear = coupling.axes, site.linear
    own = [find(term) for term in axes[linear.y]]
    read = {other.x for other in coupling.said.linears if other.x_axis == linear.y_axis}
    last, seen = linear.y, {linear.y}
    for node in coupling.model.graph:
        if seen.isdisjoint(value.name for value in node.inputs if value is not None):
            continue
        for value in node.outputs:
            name = value.name or ""
            if not coupling.probe.dtypes.get(name, "").startswith("float"):
                continue
            if [find(term) for term in axes.get(name, ())] != own:
                continue
            if name in read:
                return name
            seen.add(name)
            last = name
    return last
