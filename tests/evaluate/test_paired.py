"""The paired intervals cover the true difference as often as they say (simulated, seeded)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mipack.evaluate import paired
from mipack.evaluate.metrics import macro_f1, mean

Array = np.ndarray[Any, np.dtype[Any]]
Draw = Callable[[np.random.Generator, int], tuple[Array, Array]]
TRIALS = 1500


def coverage(interval: paired.Interval, draw: Draw, truth: float, *, n: int) -> float:
    rng, hits = np.random.default_rng(11), 0
    for _ in range(TRIALS):
        first, second = draw(rng, n)
        bounds = interval(first, second, mean)
        assert bounds is not None
        hits += bounds[0] <= truth <= bounds[1]
    return hits / TRIALS


def correlated_answers(lost: float, gained: float) -> Draw:
    """0/1 answers, 90 % right; a right one is lost or a wrong one gained with these shares."""

    def draw(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        kind = rng.random(n)
        first = (kind < 0.9).astype(float)
        second = first.copy()
        second[kind < lost] = 0.0
        second[kind > 1 - gained] = 1.0
        return first[:, None], second[:, None]

    return draw


@pytest.mark.parametrize(
    ("lost", "gained", "n"), [(0.03, 0.02, 50), (0.03, 0.02, 872), (0.2, 0.05, 200), (0.0, 0.0, 30)]
)
def test_interval_of_shares_covers(lost: float, gained: float, n: int) -> None:
    found = coverage(paired.of_shares, correlated_answers(lost, gained), gained - lost, n=n)
    assert found >= 0.94  # 95 % less two standard errors (0.56 points each)


def test_interval_of_shares_follows_its_formula() -> None:
    """Bonett and Price: n = 98, 9 gained, 3 lost give (10 - 4) / 100 +- z sqrt(.1364 / 100)."""
    first = np.array([0.0] * 9 + [1.0] * 3 + [1.0] * 86)[:, None]
    second = np.array([1.0] * 9 + [0.0] * 3 + [1.0] * 86)[:, None]
    reach = 1.959964 * np.sqrt((0.14 - 0.06**2) / 100)
    assert paired.of_shares(first, second, mean) == pytest.approx((0.06 - reach, 0.06 + reach))


def test_equal_answers_are_not_certainty() -> None:
    rows = np.ones((100, 1))
    bounds = paired.of_shares(rows, rows, mean)
    assert bounds is not None
    assert -0.06 < bounds[0] < 0 < bounds[1] < 0.06


def test_interval_of_means_covers() -> None:
    def draw(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        first = rng.gamma(2.0, size=(n, 1))
        return first, first + 0.3 + rng.normal(0, 0.5, (n, 1))

    assert coverage(paired.of_means, draw, 0.3, n=100) == pytest.approx(0.95, abs=0.02)


def test_resampling_agrees_with_the_formula_for_a_mean() -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(size=(400, 1))
    second = first + rng.normal(0.1, 1.0, (400, 1))
    drawn = paired.by_resampling(first, second, mean)
    assert drawn == pytest.approx(paired.of_means(first, second, mean), abs=0.02)
    assert drawn == paired.by_resampling(first, second, mean)  # seeded


def test_resampling_of_equal_models_is_a_point() -> None:
    rows = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    assert paired.by_resampling(rows, rows, macro_f1) == (0.0, 0.0)


@pytest.mark.parametrize("interval", [paired.of_means, paired.by_resampling])
def test_one_sample_has_no_interval(interval: paired.Interval) -> None:
    assert interval(np.ones((1, 1)), np.zeros((1, 1)), mean) is None
