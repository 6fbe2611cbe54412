"""Closed-form absorption against least squares on the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Array

from mipack.calibrate import ridge
from mipack.calibrate.moments import Moments
from mipack.calibrate.ridge import absorb, absorb_together, regularised, shrinkage


def moments_of(x: Array, *, full: bool = True) -> Moments:
    x = x.astype(float)
    second = x.T @ x if full else (x**2).sum(0)
    return Moments(float(len(x)), x.sum(0), second, np.zeros(0), np.zeros((x.shape[1], 0)))


def rows(seed: int, count: int = 300, features: int = 8) -> Array:
    """Correlated rows with means."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, features)) @ rng.normal(size=(features, features))
    return np.asarray(mixed + rng.normal(size=features))


@given(st.integers(0, 999), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_absorb_is_least_squares_where_the_ridge_vanishes(seed: int, width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ridge, "shrinkage", lambda count, features: 1e-13)
        rng = np.random.default_rng(seed)
        x, weight = rows(seed), rng.normal(size=(8, 3))
        kept = np.sort(rng.permutation(8)[:width])
        new, shift = absorb(moments_of(x), weight, kept)
    design = np.concatenate([x[:, kept], np.ones((len(x), 1))], 1)
    best = np.linalg.lstsq(design, x @ weight, rcond=None)[0]
    np.testing.assert_allclose(new, best[:-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(shift, best[-1], rtol=1e-5, atol=1e-5)


@given(st.integers(0, 999), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_absorb_is_ridge_regression_towards_the_old_weights(seed: int, width: int) -> None:
    """argmin over W, b of |x W0 - x_S W - b|^2 + n ridge level |W - W0_S|^2, on augmented rows."""
    rng = np.random.default_rng(seed)
    x, weight = rows(seed), rng.normal(size=(8, 3))
    kept = np.sort(rng.permutation(8)[:width])
    new, shift = absorb(moments_of(x), weight, kept)
    level = x[:, kept].var(0).mean() * shrinkage(len(x), width) * len(x)
    centred = x - x.mean(0)
    design = np.concatenate([centred[:, kept], np.sqrt(level) * np.eye(width)])
    target = np.concatenate([centred @ weight, np.sqrt(level) * weight[kept]])
    best = np.linalg.lstsq(design, target, rcond=None)[0]
    np.testing.assert_allclose(new, best, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(shift, x.mean(0) @ weight - x[:, kept].mean(0) @ new, atol=1e-8)


def test_the_mean_of_the_output_never_moves() -> None:
    x, weight = rows(1), np.random.default_rng(2).normal(size=(8, 3))
    for full in (True, False):
        new, shift = absorb(moments_of(x, full=full), weight, np.array([0, 3]))
        moved = x.mean(0)[[0, 3]] @ new + shift
        np.testing.assert_allclose(moved, x.mean(0) @ weight, rtol=1e-6)


def test_squares_only_keep_the_weights() -> None:
    x, weight = rows(1), np.random.default_rng(2).normal(size=(8, 3))
    kept = np.array([1, 2, 6])
    new, _ = absorb(moments_of(x, full=False), weight, kept)
    np.testing.assert_array_equal(new, weight[kept])


def test_keeping_everything_changes_nothing() -> None:
    x, weight = rows(1), np.random.default_rng(2).normal(size=(8, 3))
    new, shift = absorb(moments_of(x), weight, np.arange(8))
    np.testing.assert_array_equal(new, weight)
    assert not shift.any()


def test_what_survivors_determine_is_absorbed_whole() -> None:
    """The cut half is a linear function of the kept half: nothing is lost but for the ridge."""
    half = rows(3, 4000, 5)
    x = np.concatenate([half, half @ np.random.default_rng(4).normal(size=(5, 5)) + 2], 1)
    weight = np.random.default_rng(5).normal(size=(10, 3))
    new, shift = absorb(moments_of(x), weight, np.arange(5))
    lost = x @ weight - half @ new - shift
    assert lost.var() < 1e-4 * (x @ weight).var()


@pytest.mark.parametrize("rank", [1, 2])
def test_dead_units_stay_invertible(rank: int) -> None:
    variance = np.array([0.0, 1.0, 0.0])
    found = regularised(np.diag(variance) if rank == 2 else variance, 1e-3)
    assert (np.linalg.eigvalsh(np.diag(found) if rank == 1 else found) > 0).all()
    nothing = regularised(np.zeros((3, 3)), 1e-3)
    assert np.isfinite(np.linalg.inv(nothing)).all()


@given(st.floats(0, 1e6), st.integers(1, 10_000))
@settings(deadline=None)
def test_shrinkage_grows_with_features_per_row(count: float, features: int) -> None:
    here = shrinkage(count, features)
    assert 1e-3 <= here <= 1.0
    assert shrinkage(count, 2 * features) >= here >= shrinkage(2 * count, features)


def test_a_site_without_rows_survives() -> None:
    new, shift = absorb(moments_of(np.zeros((0, 4))), np.ones((4, 2)), np.array([1]))
    assert np.isfinite(new).all() and np.isfinite(shift).all()


@pytest.mark.parametrize("width", [1, 4, 7])
def test_repair_gives_every_output_its_mean_and_variance_back(width: int) -> None:
    x = rows(3)
    weight, kept = np.random.default_rng(4).standard_normal((8, 5)), np.arange(width)
    weight[:, 2] = 0.0  # an output of no variance stays one
    (new, (shift,)) = absorb_together([moments_of(x)], weight, kept, repair=True)
    (least, _) = absorb_together([moments_of(x)], weight, kept)
    y, ours = x @ weight, x[:, kept] @ new + shift
    np.testing.assert_allclose(ours.mean(0), y.mean(0), atol=1e-9)
    np.testing.assert_allclose(ours.var(0), y.var(0), atol=1e-9)
    assert ((x[:, kept] @ least).var(0) <= y.var(0) + 1e-9).all()
