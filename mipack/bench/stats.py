"""The statistics of a race: median, 95th percentile, and a ratio with its 95 % interval.

Models that run alternately share what disturbs the machine in a round, so the ratio is taken
within each round:

    ratio = median over rounds of other_i / base_i

Its interval is that of the sign test: with n rounds the k-th smallest and k-th largest ratio
enclose the true median with probability 1 - 2 P(Binomial(n, 1/2) < k), whatever the distribution.
Six rounds are the fewest for which that reaches 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, log, pi, sqrt

import numpy as np

FEWEST_ROUNDS = 6
ODDS = 40
"""1 in 40 on either side: an interval of 95 %."""
TOLERANCE = 0.05
"""A ratio known no better than to within 5 % is called noisy."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of one model as a share of the base's: below 1 is faster.

    `low` and `high` bound it with 95 % confidence; `noise` is how far off it may be, relative.
    """

    value: float
    low: float
    high: float
    noise: float

    @property
    def noisy(self) -> bool:
        """Whether the machine was too restless to trust the ratio to within `TOLERANCE`."""
        return self.noise > TOLERANCE

    @property
    def decided(self) -> bool:
        """Whether the interval says which of the two is faster."""
        return not self.low <= 1.0 <= self.high


def median(samples: Sequence[float]) -> float:
    """The middle sample."""
    return float(np.median(samples))


def p95(samples: Sequence[float]) -> float:
    """The value that 95 % of the samples do not exceed (interpolated)."""
    return float(np.quantile(samples, 0.95))


def ratio(base: Sequence[float], other: Sequence[float]) -> Ratio:
    """How `other` compares with `base`, sample i of both from the same round.

    ValueError for unequal lengths or fewer than `FEWEST_ROUNDS` rounds.
    """
    if len(base) != len(other) or len(base) < FEWEST_ROUNDS:
        raise ValueError(f"{len(base)} and {len(other)} samples do not pair into 6 or more rounds")
    by_round = np.asarray(other, np.float64) / np.asarray(base, np.float64)
    low, high = median_interval(by_round)
    return Ratio(median(by_round.tolist()), low, high, _noise(by_round, low, high))


def expected_noise(base: Sequence[float], other: Sequence[float]) -> float:
    """The noise that rounds with this much scatter should leave in the ratio.

    From the median absolute deviation d of the log ratios, which for normal scatter of deviation
    s is s / 1.4826; a median of n has deviation s sqrt(pi / 2n). Unlike the interval itself this
    does not know where the rounds lie, so stopping on it leaves the interval honest.
    """
    logs = np.log(np.asarray(other, np.float64) / np.asarray(base, np.float64))
    deviation = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    return 1.96 * deviation * sqrt(pi / (2 * len(logs)))


def median_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The order statistics that enclose the median with at least 95 % confidence."""
    ordered = np.sort(np.asarray(values, np.float64))
    rank = _sign_rank(len(ordered))
    return float(ordered[rank - 1]), float(ordered[-rank])


def _sign_rank(count: int) -> int:
    """The largest k with P(Binomial(count, 1/2) < k) <= 1 / ODDS, in exact integers."""
    tail, rank = 0, 0
    while True:
        tail += comb(count, rank)
        if ODDS * tail > 2**count:
            return max(rank, 1)
        rank += 1


def _noise(by_round: np.ndarray, low: float, high: float) -> float:
    """Relative half-width of the interval, or half the change between early and late rounds.

    The interval believes that rounds are alike. On steady noise the second term is the smaller
    one; where a neighbour came or went during the race it exposes what the interval hides.
    """
    half = len(by_round) // 2
    early, late = np.median(by_round[:half]), np.median(by_round[half:])
    return max(log(high / low), abs(log(late / early))) / 2
