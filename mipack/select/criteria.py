"""Criteria: how the units of a group are ranked. Adding one is a function and a table entry."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mipack.calibrate.moments import Calibration
from mipack.calibrate.sites import Array, Site, blocks_at, unit_positions
from mipack.couple.solve import Coupling, Group
from mipack.layout import find, leaves
from mipack.select.eliminate import Ranking, eliminate
from mipack.select.signal import SIGNALS, stake


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a criterion may use of a model and its data."""

    coupling: Coupling
    sites: tuple[Site, ...]
    calibration: Calibration
    signal: str = "identity"
    seed: int = 0

    def readers(self, group: Group) -> list[Site]:
        """The sites that absorb a group."""
        return [
            site
            for site in self.sites
            if group.atom in leaves(self.coupling.axes[site.linear.x][site.linear.x_axis])
        ]

    def weight(self, site: Site) -> Array:
        """A site's weight, [features, outputs]."""
        return site.matrix(self.coupling.constants[site.linear.w])


Criterion = Callable[[Evidence, Group, Mapping[str, Array]], Ranking]
"""(evidence, group, output columns preserved above per site) -> ranking."""


def mi(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Gaussian conditional mutual information by backward elimination (design.md 6).

    A group that no weight reads (only products of activations do) is ranked by magnitude.
    """
    stakes = [
        stake(
            evidence.calibration.moments[site.name],
            evidence.weight(site),
            blocks_at(evidence.coupling, site, group),
            evidence.calibration.curvature,
            SIGNALS[evidence.signal],
            preserved.get(site.name),
        )
        for site in evidence.readers(group)
    ]
    return eliminate(stakes, group.size) if stakes else magnitude(evidence, group, preserved)


def magnitude(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """L2 norm of all weights that belong to a unit."""
    total = np.zeros(group.size)
    for name, axis in group.touches:
        array = evidence.coupling.constants[name]
        if array.ndim >= 2 and array.dtype.name not in ("int64", "int32", "bool"):
            squares = np.moveaxis(array.astype(np.float64) ** 2, axis, 0)
            along = squares.reshape(len(squares), -1).sum(1)
            total += _per_unit(evidence, group, name, axis, along)
    return _ascending(total)


def wanda(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Weight times the norm of what flows through it (Sun et al. 2023), over all readers."""
    total = np.zeros(group.size)
    for site in evidence.readers(group):
        moments = evidence.calibration.moments[site.name]
        second = np.diagonal(moments.second) if moments.full else moments.second
        energy = second / max(moments.count, 1) * (evidence.weight(site) ** 2).sum(1)
        total += energy[blocks_at(evidence.coupling, site, group)].sum(1)
    return _ascending(total) if total.any() else magnitude(evidence, group, preserved)


def random(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Seeded noise: the floor that any criterion must beat."""
    rng = np.random.default_rng([evidence.seed, zlib.crc32(group.name.encode())])
    return Ranking(rng.permutation(group.size), np.linspace(1, 0, group.size + 1))


CRITERIA: dict[str, Criterion] = {
    "mi": mi,
    "magnitude": magnitude,
    "wanda": wanda,
    "random": random,
}


def _per_unit(evidence: Evidence, group: Group, name: str, axis: int, along: Array) -> Array:
    positions = unit_positions(evidence.coupling.axes[name][axis], find(group.atom))
    return np.asarray(along[positions].sum(1))


def _ascending(scores: Array) -> Ranking:
    order = np.argsort(scores, kind="stable")
    share = scores[order] / max(float(scores.sum()), 1e-30)
    return Ranking(order, np.concatenate([[0.0], np.cumsum(share)])[::-1])
