"""What matters in a consumer's output: Q = W' F W in feature space.

identity   F = I / tr(cov y): every output counts by its variance
logits     Q = 1/2 A' H A with A = S_zx C^-1 and H the curvature of the output's divergence:
           the nats that the features tell, linearly, of the scores (papers.md 5.5, forward only)
mixed      the sum of both, each scaled to lose 1 when everything goes
fisher     F = 1/2 E g g' per sample, g = d log p(class | x) / d y by the model's own p: nats to
           second order (papers.md 5.5), with a tenth of its mean eigenvalue on every output: what
           the gradients of these samples do not see may still matter
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mipack.calibrate.moments import Moments
from mipack.calibrate.ridge import inverse
from mipack.calibrate.sites import Array
from mipack.select.eliminate import Stake
from mipack.select.local import damped

BEYOND = 0.1
"""Share of the mean eigenvalue of F that every output matters at least."""
Signal = Callable[[Moments, Array, Array, Array, Array | None], Array]
"""(moments, precision P, weight [n, m], curvature H, F per sample [m, m] or [m]) -> Q."""


def identity(
    moments: Moments, precision: Array, weight: Array, curvature: Array, fisher: Array | None = None
) -> Array:
    """Loss 1 is the whole variance of the consumer's output."""
    if not moments.full:
        squares = (weight**2).sum(1)
        return squares / max(float(moments.covariance() @ squares), 1e-30)
    total = float(np.einsum("ij,ij->", moments.covariance() @ weight, weight))
    return weight @ weight.T / max(total, 1e-30)


def logits(
    moments: Moments, precision: Array, weight: Array, curvature: Array, fisher: Array | None = None
) -> Array:
    """Nats of the output, as far as they are linear in these features."""
    if not moments.full or not has_scores(moments):
        return identity(moments, precision, weight, curvature)
    slope = precision @ moments.cross_covariance()  # [n, columns]
    return 0.5 * slope @ curvature @ slope.T


def mixed(
    moments: Moments, precision: Array, weight: Array, curvature: Array, fisher: Array | None = None
) -> Array:
    """Both signals, one unit."""
    plain = identity(moments, precision, weight, curvature)
    if not moments.full or not has_scores(moments):
        return plain
    informed = logits(moments, precision, weight, curvature)
    total = float(np.einsum("ij,ij->", moments.covariance(), informed))
    return plain + informed / max(total, 1e-30)


def exact(
    moments: Moments, precision: Array, weight: Array, curvature: Array, fisher: Array | None = None
) -> Array:
    """Nats per sample, from gradients; `identity` where there are none."""
    if fisher is None or not fisher.any():
        return identity(moments, precision, weight, curvature)
    diagonal = np.diagonal(fisher) if fisher.ndim == 2 else fisher
    floor = BEYOND * float(diagonal.mean())
    if not moments.full:
        return 0.5 * (weight**2) @ (diagonal + floor)
    if fisher.ndim == 1:
        return 0.5 * (weight * (fisher + floor)) @ weight.T
    return 0.5 * (weight @ fisher @ weight.T + floor * weight @ weight.T)


def has_scores(moments: Moments) -> bool:
    """Whether rows could be joined with the output of their sample."""
    return bool(moments.cross.size and moments.cross.any())


SIGNALS: dict[str, Signal] = {
    "identity": identity,
    "logits": logits,
    "mixed": mixed,
    "fisher": exact,
}


def stake(
    moments: Moments,
    weight: Array,
    blocks: Array,
    curvature: Array,
    signal: Signal,
    outputs: Array | None = None,
    fisher: Array | None = None,
) -> Stake:
    """P, Q and blocks of a site; `outputs` are the output columns preserved above."""
    if fisher is not None and outputs is not None:
        fisher = fisher[np.ix_(*[outputs] * fisher.ndim)]
    weight = weight if outputs is None else weight[:, outputs]
    covariance = damped(moments)
    precision = inverse(covariance) if moments.full else 1 / covariance
    q = signal(moments, precision, weight, curvature, fisher)
    return Stake(precision, q, blocks)
