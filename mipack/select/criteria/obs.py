"""Optimal brain surgeon on layers (OSSCAR: Meng, Ibrahim, Behdin, Hazimeh, Ponomareva, Mazumder,
ICML 2024; papers.md 4.3).

min || X W - X_S W_S ||^2 over kept units S and their weights: backward elimination with closed-form
updates, then a local search at the width that is kept: of the kept units the t least missed are
exchanged for the t of the others that would help most, as long as that lowers the error; else t is
halved. Nothing looks beyond the layer: outputs count as they are (F = I), also those that are cut
above, and nothing compares layers. What the paper leaves open, and our choice:

readers     errors of several are summed as they are; the paper's layers have one
damping     the ridge of the refit (`calibrate.ridge`); the paper's is a constant
blocks      the elimination is the blocked one of `select.eliminate`; the paper drops several a step
heads       dims inside heads and sites too wide for products are eliminated without the search
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipack.calibrate.sites import Array, blocks_at
from mipack.couple.solve import Group
from mipack.select.criteria.norms import magnitude
from mipack.select.criteria.products import products
from mipack.select.eliminate import Ranking, eliminate
from mipack.select.evidence import Evidence
from mipack.select.local import damped, local_stake

SWAPS, ROUNDS = 8, 20
"""Units exchanged at first, and the most rounds."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A site's covariance C [n, n], C W [n, m], the features of each unit [units, b], and the
    features that stay whatever the units."""

    covariance: Array
    cross: Array
    blocks: Array
    beside: Array

    def missed(self, kept: Array) -> tuple[float, Array]:
        """What the kept units explain of the output, and how much less without each of them."""
        at = self._features(kept)
        precision = np.linalg.inv(self.covariance[np.ix_(at, at)])
        slope = precision @ self.cross[at]
        places = np.arange(self.blocks[kept].size).reshape(len(kept), -1)
        inner = precision[places[:, :, None], places[:, None, :]]
        lost = (np.linalg.solve(inner, slope[places]) * slope[places]).sum((1, 2))
        return float((slope * self.cross[at]).sum()), lost

    def gained(self, kept: Array, others: Array) -> Array:
        """How much more would be explained with each of the others."""
        at, blocks = self._features(kept), self.blocks[others]
        told = self.covariance[at][:, blocks.reshape(-1)]
        rest = np.linalg.solve(self.covariance[np.ix_(at, at)], told)
        left = self.cross[blocks.reshape(-1)] - rest.T @ self.cross[at]
        own = left.reshape(*blocks.shape, -1)
        told, rest = (a.reshape(-1, *blocks.shape) for a in (told, rest))
        inner = self.covariance[blocks[:, :, None], blocks[:, None, :]]
        inner = inner - np.einsum("kub,kuc->ubc", told, rest)
        return (np.linalg.solve(inner, own) * own).sum((1, 2))

    def _features(self, units: Array) -> Array:
        return np.concatenate([self.blocks[units].reshape(-1), self.beside])


@dataclass(frozen=True, slots=True)
class Searched(Ranking):
    """A ranking whose every width is improved by exchanges."""

    layers: Sequence[Layer] = ()

    def keep(self, width: int) -> Array:
        """The units that stay at this width, ascending."""
        return exchanged(self.layers, Ranking.keep(self, width))


def obs(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Least rise of the layer's squared output error, survivors refitted."""
    sites = evidence.readers(group)
    if not sites:
        return products(evidence, group) or magnitude(evidence, group, preserved)
    moments = [evidence.calibration.moments[site.name] for site in sites]
    blocks = [blocks_at(evidence.coupling, site, group) for site in sites]
    weights = [evidence.weight(site) for site in sites]
    stakes = [
        local_stake(m, w, b, np.ones_like) for m, w, b in zip(moments, weights, blocks, strict=True)
    ]
    ranking = eliminate(stakes, group.size, group.shape[:-1])
    if group.within or not all(m.full for m in moments):
        return ranking
    layers = []
    for m, w, b in zip(moments, weights, blocks, strict=True):
        covariance = damped(m)
        beside = np.setdiff1d(np.arange(len(w)), b)
        layers.append(Layer(covariance, covariance @ w, b, beside))
    return Searched(ranking.order, ranking.loss, layers=layers)


def exchanged(layers: Sequence[Layer], kept: Array) -> Array:
    """The local search: as many kept units, ascending, of no larger error."""
    units = np.arange(len(layers[0].blocks))
    if min(len(kept) - 1, len(units) - len(kept)) < 1:
        return kept
    swaps, seen = SWAPS, [layer.missed(kept) for layer in layers]
    for _ in range(ROUNDS):
        others = np.setdiff1d(units, kept)
        swaps = min(swaps, len(kept) - 1, len(others))
        if swaps < 1:
            break
        least = np.argsort(sum(lost for _, lost in seen), kind="stable")[swaps:]
        stay = kept[np.sort(least)]
        gains = sum(layer.gained(stay, others) for layer in layers)
        new = np.sort([*stay, *others[np.argsort(-gains, kind="stable")[:swaps]]])
        found = [layer.missed(new) for layer in layers]
        if sum(e for e, _ in found) > sum(e for e, _ in seen) * (1 + 1e-12):
            kept, seen = new, found
        else:
            swaps //= 2
    return kept
