"""Closed-form ridge regression on moments: what survivors must do to stand in for the cut.

papers.md 5.3, 5.4: x_R ~ B x_S + c, so W_S += B' W_R and the bias gains (mu_R - B mu_S) W_R.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch

from mipack.calibrate.moments import Moments

Array = np.ndarray[Any, Any]


def shrinkage(count: float, features: int) -> float:
    """Ridge as a share of the mean variance: more features per row, more shrinkage."""
    return float(np.clip(features / max(count, 1.0) * 0.2, 1e-3, 1.0))


def regularised(covariance: Array, ridge: float) -> Array:
    """covariance + ridge * mean variance * I; units of no variance stay invertible."""
    if covariance.ndim == 1:
        return covariance + ridge * max(float(covariance.mean()), 1e-12)
    level = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    return covariance + ridge * level * np.eye(len(covariance))


def inverse(matrix: Array) -> Array:
    """Of a symmetric matrix; of a positive definite one by its Cholesky factor, half the work."""
    lower, failed = torch.linalg.cholesky_ex(torch.from_numpy(matrix))
    return np.linalg.inv(matrix) if failed else torch.cholesky_inverse(lower).numpy()


def absorb(moments: Moments, weight: Array, kept: Array) -> tuple[Array, Array]:
    """The refitted weight of the kept features and the change of the bias.

    weight [n, m], kept: indices; returns [kept, m] and [m]. Sites known by squares only keep
    their weights; their cut features' means go into the bias.
    """
    cut = np.setdiff1d(np.arange(len(weight)), kept)
    lost = moments.mean[cut] @ weight[cut]
    if not moments.full or not len(cut) or not len(kept):
        return weight[kept], lost
    covariance = moments.covariance()
    inner = regularised(covariance[np.ix_(kept, kept)], shrinkage(moments.count, len(kept)))
    gain = np.linalg.solve(inner, covariance[np.ix_(kept, cut)] @ weight[cut])
    return weight[kept] + gain, lost - moments.mean[kept] @ gain


def repaired(moments: Moments, weight: Array, kept: Array, new: Array) -> Array:
    """A refitted weight whose every output has the variance of the original's: least squares leaves
    less, by what survivors cannot tell. weight [n, m], new [kept, m]."""
    if not moments.full or not len(kept):
        return new
    covariance = moments.covariance()
    before = np.einsum("im,ij,jm->m", weight, covariance, weight, optimize=True)
    inner = covariance[np.ix_(kept, kept)]
    after = np.einsum("im,ij,jm->m", new, inner, new, optimize=True)
    told = after > 1e-6 * np.maximum(before, 1e-30)
    return new * np.sqrt(np.where(told, before, 1.0) / np.where(told, after, 1.0))


def absorb_together(
    own: Sequence[Moments], weight: Array, kept: Array, *, repair: bool = False
) -> tuple[Array, list[Array]]:
    """`absorb` for readers that share a weight: one regression over the rows of all, and for each
    a change of the bias by its own means; with `repair` outputs keep their variance."""
    every = reduce(Moments.merge, own)
    new, _ = absorb(every, weight, kept)
    if repair:
        new = repaired(every, weight, kept, new)
    cut = np.setdiff1d(np.arange(len(weight)), kept)
    gain = new - weight[kept]
    return new, [m.mean[cut] @ weight[cut] - m.mean[kept] @ gain for m in own]
