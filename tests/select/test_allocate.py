"""Widths: least loss within the budget, against trying everything."""

from __future__ import annotations

import re
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipack.couple.cost import Cost
from mipack.couple.solve import Group
from mipack.errors import InputError
from mipack.layout import Layout, Term
from mipack.select.allocate import (
    Budget,
    Option,
    allocate,
    allowed_widths,
    shrink_uniformly,
    uniform,
)


def group(name: str, atom: Term, size: int) -> Group:
    return Group(name, atom, size, "inner", (), (), (), (), 0)


class Case:
    """A chain of up to three groups: each weight costs the product of its two widths."""

    def __init__(self, seed: int, *, convex: bool = True, largest: int = 9) -> None:
        self.rng = rng = np.random.default_rng(seed)
        layout = Layout()
        sizes = [int(rng.integers(3, largest)) for _ in range(int(rng.integers(1, 4)))]
        atoms = [layout.atom(size) for size in sizes]
        ends = [layout.atom(int(rng.integers(2, 6))) for _ in range(2)]
        chain = [ends[0], *atoms, ends[1]]
        products = [[a, b] for a, b in pairwise(chain)]
        if rng.random() < 0.5:
            products.append([atoms[0], atoms[-1]])  # a shortcut, or a square
        self.cost = Cost(products, products[:2])
        self.options = [
            Option(group(f"g{k}", atom, size), tuple(range(1, size + 1)), self.curve(size, convex))
            for k, (atom, size) in enumerate(zip(atoms, sizes, strict=True))
        ]
        self.atoms = [option.group.atom for option in self.options]
        self.groups = [option.group for option in self.options]

    def curve(self, size: int, convex: bool) -> np.ndarray:
        steps = self.rng.exponential(size=size) * self.rng.choice([0.1, 1, 10])
        steps = np.sort(steps) if convex else steps
        return np.concatenate([[0], np.cumsum(steps)])[::-1].copy()

    def budget(self, of: str = "macs") -> Budget:
        """Somewhere between the least and the whole."""
        total = Budget(of, 0).total
        least = total(self.cost, dict.fromkeys(self.atoms, 1))
        share = self.rng.uniform(0.05, 0.95)
        return Budget(of, int(least + share * (total(self.cost, {}) - least)))

    def loss(self, widths: dict[Term, int]) -> float:
        return sum(float(o.loss[widths[o.group.atom]]) for o in self.options)

    def best(self, budget: Budget) -> float:
        found = (
            dict(zip(self.atoms, chosen, strict=True))
            for chosen in product(*[o.widths for o in self.options])
        )
        return min(self.loss(w) for w in found if budget.total(self.cost, w) <= budget.target)

    def gap(self, of: str = "macs") -> float:
        """What the allocation loses beyond the optimum, as a share of all."""
        budget = self.budget(of)
        widths = allocate(self.options, self.cost, budget)
        assert budget.total(self.cost, widths) <= budget.target
        assert all(1 <= widths[o.group.atom] <= o.widths[-1] for o in self.options)
        return (self.loss(widths) - self.best(budget)) / self.loss(dict.fromkeys(self.atoms, 0))


@pytest.mark.parametrize("of", ["macs", "params"])
def test_convex_curves_are_allocated_nearly_at_the_optimum(of: str) -> None:
    gaps = np.array([Case(seed).gap(of) for seed in range(120)])
    assert gaps.min() >= -1e-12 and gaps.max() < 0.08
    assert gaps.mean() < 0.002 and (gaps < 1e-9).mean() > 0.8


def test_many_narrow_steps_leave_no_gap() -> None:
    gaps = [Case(seed, largest=24).gap() for seed in range(40)]
    assert max(gaps) < 0.01


def test_curves_that_are_not_convex_stay_within_the_budget_and_close_on_average() -> None:
    assert np.mean([Case(seed, convex=False).gap() for seed in range(120)]) < 0.015


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from(["macs", "params"]))
@settings(max_examples=60, deadline=None)
def test_the_budget_holds_on_the_exact_cost(seed: int, convex: bool, of: str) -> None:
    case = Case(seed, convex=convex)
    budget = case.budget(of)
    for widths in (
        allocate(case.options, case.cost, budget),
        shrink_uniformly(case.groups, case.cost, budget),
    ):
        assert budget.total(case.cost, widths) <= budget.target


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_nothing_that_fits_is_left_unspent(seed: int) -> None:
    case = Case(seed)
    budget = case.budget()
    widths = allocate(case.options, case.cost, budget)
    for option in case.options:
        atom = option.group.atom
        wider = {**widths, atom: widths[atom] + 1}
        if (
            wider[atom] <= option.group.size
            and option.loss[widths[atom]] > option.loss[wider[atom]]
        ):
            assert budget.total(case.cost, wider) > budget.target


def test_a_budget_of_everything_cuts_nothing() -> None:
    case = Case(1)
    whole = Budget("macs", case.cost.macs({}))
    assert allocate(case.options, case.cost, whole) == {g.atom: g.size for g in case.groups}
    assert shrink_uniformly(case.groups, case.cost, whole) == {g.atom: g.size for g in case.groups}


def test_groups_that_lose_nothing_are_cut_first() -> None:
    layout = Layout()
    atoms = [layout.atom(8) for _ in range(2)]
    ends = [layout.atom(4) for _ in range(2)]
    cost = Cost([[ends[0], atoms[0]], [ends[1], atoms[1]]], [])
    curves = [np.zeros(9), np.linspace(1, 0, 9)]
    options = [
        Option(group(f"g{k}", atom, 8), tuple(range(1, 9)), curve)
        for k, (atom, curve) in enumerate(zip(atoms, curves, strict=True))
    ]
    widths = allocate(options, cost, Budget("macs", 40))
    assert widths[atoms[1]] == 8 and widths[atoms[0]] <= 2


@pytest.mark.parametrize("of", ["macs", "params"])
def test_a_budget_out_of_reach_says_what_is_reachable(of: str) -> None:
    case = Case(3)
    full = Budget(of, 0).total(case.cost, {})
    least = Budget(of, 0).total(case.cost, dict.fromkeys(case.atoms, 1))
    for solve in (
        lambda budget: allocate(case.options, case.cost, budget),
        lambda budget: shrink_uniformly(case.groups, case.cost, budget),
    ):
        with pytest.raises(InputError, match=f"{least / full:.4f}") as caught:
            solve(Budget(of, least - 1))
        reachable = re.search(rf"--{of} ([\d.]+)", caught.value.hint)
        assert reachable is not None
        solve(Budget(of, int(float(reachable[1]) * full)))  # the hint is good advice


@given(st.floats(0, 1), st.integers(1, 300))
@settings(deadline=None)
def test_uniform_keeps_exactly_its_share(share: float, size: int) -> None:
    atom = Layout().atom(size)
    assert uniform([group("g", atom, size)], share) == {atom: max(1, round(share * size))}


def test_allowed_widths_are_multiples_and_the_size_itself() -> None:
    assert allowed_widths(10, 4) == (4, 8, 10)
    assert allowed_widths(8, 4) == (4, 8)
    assert allowed_widths(3, 1) == (1, 2, 3)
    assert allowed_widths(3, 3) == (3,)
