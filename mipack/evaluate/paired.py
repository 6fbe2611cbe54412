"""95 % intervals for the difference of two scores on the same samples.

Both models see every sample, so the samples' own difficulty cancels; what is left is where the
models differ. Each function takes what the samples contribute to each score, `first` and `second`
of [n, k], and returns bounds of second - first, or None where n is too small for any.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Total = Callable[[Array, Array], float]
"""(rows [n, k], weights [n]) -> the score of the samples, each counted `weight` times."""
Interval = Callable[[Array, Array, Total], tuple[float, float] | None]

Z95 = 1.959964
DRAWS = 2000
SEED = 0


def of_shares(first: Array, second: Array, total: Total) -> tuple[float, float] | None:
    """Where every sample is 0 or 1: the adjusted interval of Bonett and Price (2012).

    One made-up loss and one made-up gain keep it honest where few answers differ: with none at
    all, the plain interval would claim certainty.
    """
    del total  # the mean, by construction
    n = len(first)
    gained = (int(np.sum(second > first)) + 1) / (n + 2)
    lost = (int(np.sum(second < first)) + 1) / (n + 2)
    centre = gained - lost
    reach = Z95 * sqrt((gained + lost - centre**2) / (n + 2))
    return max(-1.0, centre - reach), min(1.0, centre + reach)


def of_means(first: Array, second: Array, total: Total) -> tuple[float, float] | None:
    """Where the score is a mean of real numbers: normal approximation of the paired differences."""
    del total
    gaps = (second - first).ravel()
    if len(gaps) < 2:
        return None
    centre, reach = float(gaps.mean()), Z95 * float(gaps.std(ddof=1)) / sqrt(len(gaps))
    return centre - reach, centre + reach


def by_resampling(first: Array, second: Array, total: Total) -> tuple[float, float] | None:
    """Where the score is no mean over samples: seeded percentile bootstrap over the samples."""
    n = len(first)
    if n < 2:
        return None
    rng = np.random.default_rng(SEED)
    gaps = [_gap(first, second, total, rng) for _ in range(DRAWS)]
    low, high = np.quantile(gaps, [0.025, 0.975])
    return float(low), float(high)


def _gap(first: Array, second: Array, total: Total, rng: np.random.Generator) -> float:
    n = len(first)
    weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
    return total(second, weights) - total(first, weights)
