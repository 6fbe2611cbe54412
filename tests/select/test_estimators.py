"""Estimators of mutual information against closed forms, invariances and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_selection._mutual_info import _compute_mi_cc
from toys import Array

from mipack.select.estimators import (
    ESTIMATORS,
    KNN_ROWS,
    bias,
    binned,
    bins,
    copula,
    joint,
    knn,
    ksg,
    normal_scores,
    pair,
    ranks,
)

ROWS = 4096
ALONE = np.array([[0]])


def normal(covariance: Array, rows: int = ROWS, seed: int = 0) -> Array:
    """Rows of exactly this covariance: what sampling would add is taken out."""
    n = len(covariance)
    x = np.random.default_rng(seed).normal(size=(rows, n))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / rows)).T
    return x @ np.linalg.cholesky(covariance).T


def random_covariance(n: int, seed: int) -> Array:
    root = np.random.default_rng(seed).normal(size=(n, n))
    return root @ root.T / n + 0.2 * np.eye(n)


def bivariate(rho: float, rows: int = ROWS) -> tuple[Array, Array]:
    x = normal(np.array([[1, rho], [rho, 1]]), rows)
    return x[:, :1], x[:, 1:]


def nats(rho: float) -> float:
    return float(-0.5 * np.log(1 - rho**2))


@pytest.mark.parametrize("rho", [0.0, -0.3, 0.6, 0.9])
@pytest.mark.parametrize(("name", "error"), [("pair", 1e-12), ("joint", 5e-3), ("copula", 0.02),
                                             ("binned", 0.15), ("knn", 0.15)])  # fmt: skip
def test_bivariate_normal(name: str, error: float, rho: float) -> None:
    """Histograms lose what happens inside a bin; few neighbours scatter."""
    found = ESTIMATORS[name](*bivariate(rho), ALONE)
    assert found == pytest.approx(nats(rho), abs=error)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_joint_is_exact_for_normal_vectors(n: int, m: int, seed: int) -> None:
    """1/2 (log det C_xx + log det C_zz - log det C)."""
    c = random_covariance(n + m, seed)
    x = normal(c)
    logs = [np.linalg.slogdet(part)[1] for part in (c[:n, :n], c[n:, n:], c)]
    found = joint(x[:, :n], x[:, n:], np.arange(n)[None], noise=0.0)
    assert found + bias(ROWS, n, m) == pytest.approx((logs[0] + logs[1] - logs[2]) / 2, rel=1e-5)


def test_blocks_of_features_are_told_apart() -> None:
    x = normal(random_covariance(9, 3))
    both = np.array([[4, 1], [0, 3]])
    together = joint(x[:, :5], x[:, 5:], both)
    alone = [joint(x[:, block], x[:, 5:], np.array([[0, 1]]))[0] for block in both]
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    for estimator in (pair, binned, knn):
        single = estimator(x[:, :5], x[:, 5:], np.arange(5)[:, None])
        np.testing.assert_allclose(estimator(x[:, :5], x[:, 5:], both), single[both].sum(1))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_independence_is_about_zero(name: str) -> None:
    """Also where 60 columns give chance 60 times."""
    rng = np.random.default_rng(1)
    x, z = rng.normal(size=(ROWS, 3)), rng.normal(size=(ROWS, 60))
    found = ESTIMATORS[name](x, z, np.arange(3)[:, None])
    columns = 32 if name == "knn" else 60
    assert np.abs(found / columns).max() < (0.06 if name == "knn" else 1e-3)


def test_the_bias_of_many_columns_is_taken_out() -> None:
    rng = np.random.default_rng(2)
    found = [
        joint(rng.normal(size=(200, 4)), rng.normal(size=(200, 40)), np.arange(4)[None], noise=0.0)
        for _ in range(30)
    ]
    assert bias(200, 4, 40) > 0.4
    assert abs(np.mean(found)) < 0.03
    assert bias(40, 4, 40) == 0


MONOTONE = (np.exp, np.cbrt, np.arctan, lambda v: 3 * v - 7, lambda v: v + v**3)


@given(st.sampled_from(MONOTONE), st.sampled_from(MONOTONE), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_copula_and_histograms_see_order_alone(first, second, seed: int) -> None:  # type: ignore[no-untyped-def]
    x = normal(random_covariance(5, seed), 300)
    x, z, blocks = x[:, :2], x[:, 2:], np.arange(2)[:, None]
    for estimator in (copula, binned):
        moved = estimator(first(x), second(z), blocks)
        np.testing.assert_array_equal(moved, estimator(x, z, blocks))


def test_a_falling_map_changes_nothing_but_signs() -> None:
    x, z = bivariate(0.7, 501)
    assert copula(-x, z, ALONE) == pytest.approx(copula(x, z, ALONE))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_scale_and_shift_change_nothing(name: str) -> None:
    x = normal(random_covariance(6, 5), 400)
    x, z, blocks = x[:, :3], x[:, 3:], np.arange(3)[:, None]
    plain = ESTIMATORS[name](x, z, blocks)
    moved = ESTIMATORS[name](x * [1e-3, 5, 1e4] + 2, z * [7, 1, 1e-2] - 1, blocks)
    np.testing.assert_allclose(moved, plain, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.4, 0.95])
@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_nearest_neighbours_are_those_of_scikit_learn(rho: float, neighbours: int) -> None:
    x, z = bivariate(rho, 300)
    found = ksg(x[:, 0], np.hstack([z, np.sin(3 * z)]), neighbours)
    for value, column in zip(found, (z[:, 0], np.sin(3 * z[:, 0])), strict=True):
        assert value == pytest.approx(_compute_mi_cc(x[:, 0], column, neighbours), abs=1e-10)


def test_nearest_neighbours_see_what_correlation_does_not() -> None:
    x = np.random.default_rng(0).normal(size=(KNN_ROWS, 1))
    assert pair(x, x**2, ALONE)[0] < 0.1 and knn(x, x**2, ALONE)[0] > 1


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_does_not_vary_tells_nothing(name: str) -> None:
    """Dead and constant units, dead columns, and rows of one value: 0, never NaN."""
    x = normal(random_covariance(6, 7), 200)[:, :3]
    z = x[:, [1, 0, 2]] + 0.5 * np.random.default_rng(0).normal(size=(200, 3))
    x[:, 1], z[:, 0] = 0, 5.0
    found = ESTIMATORS[name](x, z, np.arange(3)[:, None])
    assert np.isfinite(found).all()
    assert found[1] <= 1e-9 and found[[0, 2]].min() > 0.01
    assert np.isfinite(ESTIMATORS[name](x[:1], z[:1], np.arange(3)[:, None])).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_duplicates_tell_the_same(name: str) -> None:
    x = normal(random_covariance(5, 9), 300)
    x, z = x[:, [0, 1, 0]], x[:, [2, 3, 4, 2]]
    found = ESTIMATORS[name](x, z, np.arange(3)[:, None])
    assert found[0] == pytest.approx(found[2], rel=1e-4)
    assert np.isfinite(ESTIMATORS[name](x, z, np.array([[0, 2]]))).all()


def test_a_copy_is_finite() -> None:
    """The information of a continuous variable with itself is infinite; estimates are large."""
    x, _ = bivariate(0.0)
    for name, estimator in ESTIMATORS.items():
        assert 1 < estimator(x, x.copy(), ALONE)[0] < 50, name


def test_ranks_share_ties() -> None:
    x = np.array([[3.0, 0], [0, 0], [0, 0], [7, 0], [0, 1]])
    np.testing.assert_array_equal(ranks(x).T, [[3.5, 1.5, 1.5, 4.5, 1.5], [2, 2, 2, 2, 4.5]])
    assert np.isfinite(normal_scores(x)).all()
    assert len(set(bins(x)[x[:, 0] == 0, 0])) == 1
