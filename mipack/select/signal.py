"""What matters in a consumer's output: Q = W' F W in feature space.

identity   F = I / tr(cov y): every output counts by its variance
logits     Q = 1/2 A' H A with A = S_zx C^-1 and H the curvature of the output's divergence:
           the nats that the features tell, linearly, of the scores (papers.md 5.5, forward only)
mixed      the sum of both, each scaled to lose 1 when everything goes
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mipack.calibrate.moments import Moments
from mipack.calibrate.ridge import regularised, shrinkage
from mipack.calibrate.sites import Array
from mipack.select.eliminate import Stake

Signal = Callable[[Moments, Array, Array, Array], Array]
"""(moments, precision P, weight [n, m], curvature H) -> Q."""


def identity(moments: Moments, precision: Array, weight: Array, curvature: Array) -> Array:
    """Loss 1 is the whole variance of the consumer's output."""
    if not moments.full:
        squares = (weight**2).sum(1)
        return squares / max(float(moments.covariance() @ squares), 1e-30)
    total = float(np.einsum("ij,ij->", moments.covariance() @ weight, weight))
    return weight @ weight.T / max(total, 1e-30)


def logits(moments: Moments, precision: Array, weight: Array, curvature: Array) -> Array:
    """Nats of the output, as far as they are linear in these features."""
    if not moments.full or not has_scores(moments):
        return identity(moments, precision, weight, curvature)
    slope = precision @ moments.cross_covariance()  # [n, columns]
    return 0.5 * slope @ curvature @ slope.T


def mixed(moments: Moments, precision: Array, weight: Array, curvature: Array) -> Array:
    """Both signals, one unit."""
    plain = identity(moments, precision, weight, curvature)
    if not moments.full or not has_scores(moments):
        return plain
    informed = logits(moments, precision, weight, curvature)
    total = float(np.einsum("ij,ij->", moments.covariance(), informed))
    return plain + informed / max(total, 1e-30)


def has_scores(moments: Moments) -> bool:
    """Whether rows could be joined with the output of their sample."""
    return bool(moments.cross.size and moments.cross.any())


SIGNALS: dict[str, Signal] = {"identity": identity, "logits": logits, "mixed": mixed}
DEFAULT_SIGNAL = "identity"


def stake(
    moments: Moments,
    weight: Array,
    blocks: Array,
    curvature: Array,
    signal: Signal,
    outputs: Array | None = None,
) -> Stake:
    """P, Q and blocks of a site; `outputs` are the output columns preserved above."""
    weight = weight if outputs is None else weight[:, outputs]
    ridge = shrinkage(moments.count, len(moments.first))
    covariance = regularised(moments.covariance(), ridge)
    precision = np.linalg.inv(covariance) if moments.full else 1 / covariance
    q = signal(moments, precision, weight, curvature)
    return Stake(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (precision, q, blocks)))
