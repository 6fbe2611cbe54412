"""What the loss says of a unit, to first and to second order, from gradients of unit masks.

With a mask m = 1 on every unit and s = d loss / d m of one sample:

taylor   E |s|: the change of the loss without the unit, to first order (Molchanov et al. 2017,
         arXiv 1611.06440)
fisher   E s^2, twice the rise of the loss where its gradient is 0 on average (Theis et al. 2018,
         arXiv 1801.05787; Kwon et al. 2022, arXiv 2204.09656, papers.md 4.1)

The loss is the labels' cross-entropy where labels are given; else -log p(class | x) with classes
by the model's own p, whose gradient is 0 on average. Open, and our choice:

batches  s is that of one sample, as in Theis et al.; Kwon et al. take it of batches of 32
units    of several channels (heads): `fisher` takes the square of the sum of their s where products
         of channels are known, `taylor` the sum of |s|, which is no smaller than |sum of s|
readers  of several the scores are summed
scale    neither is normalised by layer (Molchanov et al. divide by the layer's norm): allocation
         scales every curve by what cutting the group costs
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from mipack.calibrate.moments import GradientMoments
from mipack.calibrate.sites import Array
from mipack.couple.positions import unit_positions
from mipack.couple.solve import Group
from mipack.select.criteria.norms import ascending, magnitude
from mipack.select.eliminate import Ranking
from mipack.select.evidence import Evidence


def taylor(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Mean size of the loss's first-order change without each unit."""
    return _ranked(evidence, group, preserved, _first)


def fisher(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Mean square of the same: the diagonal of the masks' Fisher information."""
    return _ranked(evidence, group, preserved, _square)


def _ranked(
    evidence: Evidence,
    group: Group,
    preserved: Mapping[str, Array],
    scores: Callable[[GradientMoments, Array], Array],
) -> Ranking:
    sites = evidence.readers(group)
    if not sites:
        return magnitude(evidence, group, preserved)
    total = np.zeros(prod(group.shape))
    for site in sites:
        axis = evidence.coupling.axes[site.linear.x][site.linear.x_axis]
        channels = unit_positions(axis, group.atom, group.within)
        total += scores(evidence.gradients(site), channels)
    return ascending(total.reshape(group.shape))


def _first(gradients: GradientMoments, channels: Array) -> Array:
    return gradients.mask_first[channels].sum(1)


def _square(gradients: GradientMoments, channels: Array) -> Array:
    if gradients.mask_second.ndim == 1:
        return gradients.mask_second[channels].sum(1)
    return gradients.mask_second[channels[:, :, None], channels[:, None, :]].sum((1, 2))
