"""The stake of a site by its own sums alone: P from its covariance, Q as a criterion says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mipack.calibrate.moments import Moments
from mipack.calibrate.ridge import inverse, regularised, shrinkage
from mipack.calibrate.sites import Array
from mipack.select.eliminate import Stake


def damped(moments: Moments) -> Array:
    """The covariance with the ridge of the refit: [n, n], or [n] where only squares are known."""
    return regularised(moments.covariance(), shrinkage(moments.count, len(moments.first)))


def local_stake(
    moments: Moments, weight: Array, blocks: Array, scale: Callable[[Array], Array]
) -> Stake:
    """Q = W diag(scale) W' (of squares alone its diagonal); `scale` sees the variances of the
    outputs. weight [n, outputs], blocks [units, features]."""
    covariance, known = damped(moments), moments.covariance()
    if moments.full:
        variance = np.einsum("ij,ij->j", known @ weight, weight)
        scaled = weight * np.sqrt(scale(variance))
        parts = inverse(covariance), scaled @ scaled.T, blocks
    else:
        variance = known @ weight**2
        parts = 1 / covariance, weight**2 @ scale(variance), blocks
    return Stake(*parts)
