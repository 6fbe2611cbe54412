"""Layer-wise mutual information (Fan et al. 2021, "Layer-wise Model Pruning based on Mutual
Information", EMNLP; papers.md 1).

From the output down, the units are kept that tell most of the units ALREADY KEPT in the layer
above. What the paper leaves open (its text gives neither estimator nor details), and our choice:

estimator   five, `select.estimators`; default `joint`, the exact Gaussian value for all kept units
            above together, seen through noise, for without noise it would be infinite
above       what the next layer reads (behind bias, residual addition, norm and activation), where
            the output has the same rows; at the end of the model its scores. Not y = W x itself: a
            linear map of at least as many outputs tells everything of every unit
kept above  of every reader the output columns that stay; before anything is kept, all
several     readers, and several features of a unit (a head, the window of a convolution): sums of
            readers; the vector of a unit's features where the estimator is one of vectors
widths      the loss of a width is the share of information given up; `--allocate uniform` gives
            every layer the same share, as the paper is said to
tokens      all that are not padding
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from mipack.calibrate.sites import Array, blocks_at
from mipack.couple.solve import Group
from mipack.select.criteria.norms import ascending, magnitude
from mipack.select.criteria.products import products
from mipack.select.eliminate import Ranking
from mipack.select.estimators import ESTIMATORS, standardised
from mipack.select.evidence import Evidence


def mi_layerwise(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Units by what they tell, each alone, of the units kept above; no refit in mind."""
    if not evidence.readers(group):
        return products(evidence, group) or magnitude(evidence, group, preserved)
    return ascending(relevance(evidence, group, preserved))


def relevance(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Array:
    """Nats that every unit tells of what is kept above, summed over readers: [contexts.., units];
    -inf for units that never change.

    Raises PlanMismatch where the calibration drew no rows.
    """
    estimator = ESTIMATORS[evidence.options.estimator]
    total, moves = np.zeros(prod(group.shape)), np.zeros(prod(group.shape), np.bool_)
    for site in evidence.readers(group):
        rows, blocks = evidence.rows(site), blocks_at(evidence.coupling, site, group)
        x = rows.x[:, blocks.reshape(-1)]
        above = rows.above[:, preserved[site.name]] if site.name in preserved else rows.above
        places = np.arange(blocks.size).reshape(blocks.shape)
        total += estimator(x, above, places)
        moves |= (np.abs(standardised(x)).max(0, initial=0)[places] > 0).any(axis=1)
    return np.where(moves, total, -np.inf).reshape(group.shape)
