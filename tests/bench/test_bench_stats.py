"""The interval of a ratio against known distributions and against the laws it must obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipack.bench import stats

times = st.lists(st.floats(0.5, 100.0), min_size=6, max_size=60)


@pytest.mark.parametrize(
    ("count", "low", "high"), [(6, 1, 6), (10, 2, 9), (20, 6, 15), (30, 10, 21), (100, 40, 61)]
)
def test_interval_ranks_are_those_of_the_sign_test_tables(count: int, low: int, high: int) -> None:
    assert stats.median_interval(list(range(1, count + 1))) == (low, high)


def test_median_and_p95() -> None:
    assert stats.median([3.0, 1.0, 2.0]) == 2.0
    assert stats.p95([float(value) for value in range(101)]) == 95.0


@pytest.mark.parametrize("true_ratio", [1.0, 0.7])
@pytest.mark.parametrize("rounds", [8, 30])
def test_interval_covers_the_true_ratio_under_shared_drift(rounds: int, true_ratio: float) -> None:
    rng, hits, races = np.random.default_rng(5), 0, 1000
    for _ in range(races):
        drift = np.exp(np.cumsum(rng.normal(0, 0.2, rounds)))  # a neighbour comes and goes
        base = drift * rng.gamma(20.0, size=rounds)
        other = true_ratio * drift * rng.gamma(20.0, size=rounds)
        found = stats.ratio(base.tolist(), other.tolist())
        hits += found.low <= true_ratio <= found.high
    # at least 95 % by theory; three standard errors of 1000 races are 2.1 points
    assert hits / races >= 0.95 - 0.021


@given(times)
def test_a_model_equals_itself(samples: list[float]) -> None:
    found = stats.ratio(samples, samples)
    assert (found.value, found.low, found.high, found.noise) == (1.0, 1.0, 1.0, 0.0)
    assert not found.noisy and not found.decided


@given(times, st.floats(0.1, 10.0))
def test_ratio_scales_and_swaps(samples: list[float], factor: float) -> None:
    other = list(reversed(samples))
    plain = stats.ratio(samples, other)
    scaled = stats.ratio(samples, [factor * value for value in other])
    swapped = stats.ratio(other, samples)
    assert scaled.value == pytest.approx(factor * plain.value)
    assert scaled.noise == pytest.approx(plain.noise)
    assert (swapped.low, swapped.high) == pytest.approx((1 / plain.high, 1 / plain.low))
    assert plain.low <= plain.value <= plain.high


def test_expected_noise_is_the_half_width_of_normal_scatter() -> None:
    rng = np.random.default_rng(2)
    base = np.ones(4000)
    other = np.exp(rng.normal(0, 0.1, 4000))
    found = stats.ratio(base.tolist(), other.tolist())
    half = (np.log(found.high) - np.log(found.low)) / 2
    assert stats.expected_noise(base.tolist(), other.tolist()) == pytest.approx(half, rel=0.2)


@pytest.mark.parametrize("doubling", [0, 4])
def test_stopping_when_precise_leaves_the_interval_honest(doubling: int) -> None:
    rng, hits, races, rounds = np.random.default_rng(4), 0, 600, 30
    for _ in range(races):
        scatter = np.exp(rng.normal(0, 0.04, rounds << 4))
        looks = [rounds << step for step in range(doubling + 1)]
        calm = [
            n
            for n in looks
            if stats.expected_noise(np.ones(n).tolist(), scatter[:n].tolist()) <= 0.01
        ]
        done = min(calm, default=looks[-1])
        found = stats.ratio(np.ones(done).tolist(), scatter[:done].tolist())
        hits += found.low <= 1.0 <= found.high
    assert hits / races >= 0.95 - 3 * (0.05 * 0.95 / races) ** 0.5


def test_wide_scatter_is_noisy_and_undecided() -> None:
    rng = np.random.default_rng(0)
    found = stats.ratio(rng.gamma(2.0, size=30).tolist(), rng.gamma(2.0, size=30).tolist())
    assert found.noisy and not found.decided


def test_a_change_in_the_middle_of_the_race_is_noise_though_each_half_is_calm() -> None:
    other = [1.0] * 15 + [1.3] * 15
    assert stats.ratio([1.0] * 30, other).noisy


def test_small_steady_scatter_is_not_noisy() -> None:
    rng = np.random.default_rng(1)
    base, other = rng.normal(10, 0.1, 30), rng.normal(6, 0.1, 30)
    found = stats.ratio(base.tolist(), other.tolist())
    assert not found.noisy and found.decided
    assert found.value == pytest.approx(0.6, rel=0.02)


@pytest.mark.parametrize(("first", "second"), [(5, 5), (8, 7)])
def test_samples_that_do_not_pair_are_refused(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="do not pair"):
        stats.ratio([1.0] * first, [1.0] * second)
