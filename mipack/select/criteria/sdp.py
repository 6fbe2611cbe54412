"""Self-distilled pruning (O'Neill, Dutta, Assem 2021, arXiv 2109.15014; papers.md 3), in closed
form.

The paper prunes while training and keeps the cross-correlation C between the outputs of the pruned
and of the original network near the identity. Without training: a refitted output of which the cut
leaves the error e_j of the variance v_j correlates with the original by C_jj = sqrt(1 - e_j / v_j),
so units are eliminated backwards that lose least of

    sum_j C_jj^2 = m - sum_j e_j / v_j        over the outputs j that are kept above

which is least squares with F = diag(1 / v). What is open, and our choice:

diagonal    off-diagonal terms of C are those of the original, which is not to be changed; they are
            left out (the paper's weight for them is unknown)
layer       the outputs of the readers, not only those of the last layer
objective   squares of C_jj instead of (1 - C_jj)^2, whose slope is 0 where nothing is cut yet
refit       least squares, then every output gets the original's variance back, which least squares
            takes from it (`calibrate.ridge.repaired`); no walk through the layers after that, for
            it is least squares again
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mipack.calibrate.sites import Array, blocks_at
from mipack.couple.solve import Group
from mipack.select.criteria.norms import magnitude
from mipack.select.criteria.products import products
from mipack.select.eliminate import Ranking, eliminate
from mipack.select.evidence import Evidence
from mipack.select.local import local_stake

FLOOR = 1e-6
"""Of the mean variance of outputs: one that varies less counts as if it did not."""


def sdp(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Least loss of correlation between outputs before and after."""
    stakes = []
    for site in evidence.readers(group):
        weight, kept = evidence.weight(site), preserved.get(site.name)
        weight = weight if kept is None else weight[:, kept]
        moments = evidence.calibration.moments[site.name]
        blocks = blocks_at(evidence.coupling, site, group)
        stakes.append(local_stake(moments, weight, blocks, shares))
    if not stakes:
        return products(evidence, group) or magnitude(evidence, group, preserved)
    return eliminate(stakes, group.size, group.shape[:-1])


def shares(variance: Array) -> Array:
    """What an error in each output counts: loss 1 is all correlation of all outputs."""
    varies = variance > FLOOR * max(float(variance.mean()), 1e-30)
    return np.where(varies, 1 / np.where(varies, variance, 1.0), 0.0) / max(len(variance), 1)
