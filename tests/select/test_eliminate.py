"""Backward elimination against its definition: remove the unit whose loss, after the survivors
were refitted, is least; recompute everything; repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Array

from mipack.select.eliminate import Ranking, Stake, eliminate

RIDGE = 1e-6


@dataclass(frozen=True)
class Problem:
    """A site by its definition: covariance C, weights W of what matters, features of each unit."""

    c: Array
    w: Array
    blocks: Array

    def loss(self, gone: Sequence[int]) -> float:
        """L(S) = tr(W' (C - C_:S C_SS^-1 C_S:) W) for the survivors S of some units."""
        kept = np.setdiff1d(np.arange(len(self.c)), self.blocks[list(gone)])
        explained = self.c[:, kept] @ np.linalg.solve(self.c[np.ix_(kept, kept)], self.c[kept])
        return float(np.einsum("ij,im,jm->", self.c - explained, self.w, self.w))

    def stake(self) -> Stake:
        return Stake(np.linalg.inv(self.c), self.w @ self.w.T, self.blocks)


def problem(seed: int, units: int, block: int = 1, others: int = 0) -> Problem:
    """A random site whose units own `block` features each; `others` belong to no unit."""
    rng = np.random.default_rng(seed)
    n = units * block + others
    x = rng.normal(size=(4 * n, n)) @ (np.eye(n) + rng.normal(size=(n, n)) / np.sqrt(n))
    place = rng.permutation(n)[: units * block]
    return Problem(with_ridge(np.cov(x.T)), rng.normal(size=(n, 4)), place.reshape(units, block))


def with_ridge(c: Array) -> Array:
    c = np.atleast_2d(c)
    return np.asarray(c + RIDGE * np.trace(c) / len(c) * np.eye(len(c)))


def by_definition(problems: Sequence[Problem], units: int) -> Ranking:
    gone: list[int] = []
    loss = [0.0]
    while len(gone) < units:
        left = [u for u in range(units) if u not in gone]
        after = [sum(p.loss([*gone, unit]) for p in problems) for unit in left]
        gone.append(left[int(np.argmin(after))])
        loss.append(min(after))
    return Ranking(np.array(gone), np.array(loss[::-1]))


def losses(problems: Sequence[Problem], ranking: Ranking) -> Array:
    """L(S) for every width of a ranking."""
    order = ranking.order
    widths = range(len(order) + 1)
    return np.array([sum(p.loss(order[: len(order) - k]) for p in problems) for k in widths])


def found(problems: Sequence[Problem], units: int) -> Ranking:
    return eliminate([p.stake() for p in problems], units)


@given(st.integers(0, 9999), st.integers(1, 10), st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_one_site_is_eliminated_by_the_definition(
    seed: int, units: int, block: int, others: int
) -> None:
    problems = [problem(seed, units, block, others)]
    want, got = by_definition(problems, units), found(problems, units)
    assert got.order.tolist() == want.order.tolist()
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-6, atol=1e-9)


@given(st.integers(0, 9999), st.lists(st.integers(1, 3), min_size=2, max_size=3))
@settings(max_examples=15, deadline=None)
def test_costs_of_several_sites_add_up(seed: int, blocks: list[int]) -> None:
    problems = [problem(seed + k, 8, block, k) for k, block in enumerate(blocks)]
    want, got = by_definition(problems, 8), found(problems, 8)
    assert got.order.tolist() == want.order.tolist()
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("units", "block"), [(200, 1), (140, 3), (130, 4)])
def test_rounds_of_several_units_lose_what_they_say(units: int, block: int) -> None:
    """More than 128 units: a round removes several, and the sums of their costs stay exact."""
    problems = [problem(units, units, block, others=5)]
    got = found(problems, units)
    widths = np.unique(np.linspace(0, units, 7).astype(int))
    gone = [got.order[: units - k].tolist() for k in widths]
    want = [problems[0].loss(units_gone) for units_gone in gone]
    np.testing.assert_allclose(got.loss[widths], want, rtol=1e-5, atol=1e-8)


def test_rounds_of_several_units_come_close_to_one_by_one() -> None:
    """A plain rank-1 elimination of 256 units is the measure."""
    made = problem(7, 256)
    p, q = np.linalg.inv(made.c), made.w @ made.w.T
    gone, total, want = np.zeros(256, bool), 0.0, [0.0]
    for _ in range(256):
        cost = np.where(gone, np.inf, q.diagonal() / np.where(gone, 1, p.diagonal()))
        unit = int(cost.argmin())
        rest = p[unit] / p[unit, unit]
        half = np.outer(q[:, unit] - 0.5 * rest * q[unit, unit], rest)
        q = q - half - half.T
        p = p - np.outer(p[:, unit], rest)
        gone[unit] = True
        total += cost[unit]
        want.append(total)
    got = found([made], 256).loss
    assert (got <= 1.04 * np.array(want[::-1]) + 1e-4 * got[0]).all()


# ---------------------------------------------------------------- redundant units


def duplicated(seed: int, units: int) -> Problem:
    """Every unit occurs twice, in a random order."""
    rng = np.random.default_rng(seed)
    half = units // 2
    x = rng.normal(size=(8 * half, half)) @ (np.eye(half) + rng.normal(size=(half, half)) / half)
    place = rng.permutation(units)
    x, w = np.tile(x, 2)[:, place], np.tile(rng.normal(size=(half, 6)), (2, 1))[place]
    return Problem(with_ridge(np.cov(x.T)), w, np.arange(units)[:, None])


def lowest_at_once(made: Problem, keep: int) -> list[int]:
    """The naive blocked form: each round drops the units that are cheapest alone, together."""
    gone: list[int] = []
    units = len(made.blocks)
    while units - len(gone) > keep:
        left = np.setdiff1d(np.arange(units), gone)
        p = np.linalg.inv(made.c[np.ix_(left, left)])
        whole = made.c[left] @ made.w
        best = p @ whole  # refitted weights of the survivors
        cost = (best**2).sum(1) / p.diagonal()
        count = min(max(1, len(left) // 16), units - len(gone) - keep)
        gone += left[np.argsort(cost, kind="stable")[:count]].tolist()
    return gone


@pytest.mark.parametrize("units", [64, 256])
def test_duplicated_units_cost_nothing_until_one_of_a_pair_is_gone(units: int) -> None:
    made = duplicated(1, units)
    got, whole = found([made], units), made.loss(range(units))
    assert got.loss[units // 2] < 1e-5 * whole
    assert got.loss[units // 2 - 1] > 1e-4 * whole  # from here on every unit counts


def test_the_naive_blocked_form_loses_both_of_a_pair() -> None:
    made = duplicated(1, 256)
    whole = made.loss(range(256))
    naive = made.loss(lowest_at_once(made, 128)) / whole
    ours = found([made], 256).loss[128] / whole
    assert naive > 0.2 and ours < 1e-5


def test_constant_and_dead_units_go_first() -> None:
    """A unit that never varies, and one that nobody reads and that explains nobody."""
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(2000, 12)), rng.normal(size=(12, 4))
    x[:, 4], x[:, 9] = 3.0, 0.0
    w[7] = 0.0
    made = Problem(with_ridge(np.cov(x.T)), w, np.arange(12)[:, None])
    got = found([made], 12)
    assert set(got.order[:3].tolist()) == {4, 7, 9}
    assert got.loss[9] < 1e-4 * made.loss(range(12))
    assert np.isfinite(got.loss).all()


def test_a_group_of_dead_units_is_eliminated_all_the_same() -> None:
    zero = Problem(1e-12 * np.eye(200), np.zeros((200, 2)), np.arange(200)[:, None])
    got = found([zero], 200)
    assert sorted(got.order.tolist()) == list(range(200)) and not got.loss.any()


# ---------------------------------------------------------------- squares only, and the curve


def squares(seed: int, units: int, block: int) -> Stake:
    rng = np.random.default_rng(seed)
    p, q = rng.uniform(0.1, 2, units * block), rng.uniform(0, 3, units * block)
    place = rng.permutation(units * block).reshape(units, block)
    return Stake(p, q, place)


@given(st.integers(0, 999), st.sampled_from([1, 5, 200]), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_squares_only_are_sorted(seed: int, units: int, block: int) -> None:
    stake = squares(seed, units, block)
    cost = (stake.q / stake.p)[stake.blocks].sum(1)
    got = eliminate([stake], units)
    assert got.order.tolist() == np.argsort(cost, kind="stable").tolist()
    np.testing.assert_allclose(got.loss[::-1][1:], np.cumsum(np.sort(cost)), rtol=1e-9)


def test_a_wide_site_beside_a_full_one() -> None:
    made = problem(4, 10)
    wide = squares(5, 10, 2)
    diagonal = Problem(np.diag(1 / wide.p), np.diag(np.sqrt(wide.q)), wide.blocks)
    got, want = eliminate([made.stake(), wide], 10), by_definition([made, diagonal], 10)
    assert got.order.tolist() == want.order.tolist()
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-6)


@given(st.integers(0, 9999), st.integers(1, 160))
@settings(max_examples=15, deadline=None)
def test_the_curve_falls_to_zero_and_every_width_has_its_units(seed: int, units: int) -> None:
    got = found([problem(seed, units)], units)
    assert got.loss.shape == (units + 1,) and got.loss[units] == 0
    assert (np.diff(got.loss) <= 1e-12).all()
    assert sorted(got.order.tolist()) == list(range(units))
    for width in {0, 1, units // 2, units}:
        assert got.keep(width).tolist() == sorted(got.order[units - width :].tolist())


def test_the_order_is_deterministic() -> None:
    """Also among equals: the lower unit goes first."""
    made = problem(11, 180, 2)
    first, second = found([made], 180), found([made], 180)
    assert first.order.tolist() == second.order.tolist()
    np.testing.assert_array_equal(first.loss, second.loss)
    equal = Problem(np.eye(9), np.ones((9, 1)), np.arange(9)[:, None])
    assert found([equal], 9).order.tolist() == list(range(9))
