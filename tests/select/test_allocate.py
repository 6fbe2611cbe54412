"""Widths: least loss within the budget, against trying everything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipack.couple.cost import Cost
from mipack.couple.solve import Group
from mipack.errors import InputError
from mipack.layout import Layout, Term
from mipack.select.allocate import allocate, allowed_widths, shrink_uniformly, uniform
from mipack.select.budget import Budget, Option


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

    def best(self, budgets: Sequence[Budget]) -> float:
        found = (
            dict(zip(self.atoms, chosen, strict=True))
            for chosen in product(*[o.widths for o in self.options])
        )
        fits = lambda w: all(b.total(self.cost, w) <= b.target for b in budgets)  # noqa: E731
        return min(self.loss(w) for w in found if fits(w))

    def gap(self, *measures: str) -> float:
        """What the allocation loses beyond the optimum, as a share of all."""
        budgets = [self.budget(of) for of in measures or ("macs",)]
        widths = allocate(self.options, self.cost, budgets)
        assert all(budget.total(self.cost, widths) <= budget.target for budget in budgets)
        assert all(widths[o.group.atom] in o.widths for o in self.options)
        return (self.loss(widths) - self.best(budgets)) / self.loss(dict.fromkeys(self.atoms, 0))


HAIR = 2e-3
MEASURES = st.lists(
    st.sampled_from(["macs", "params", "bytes", "latency"]), min_size=1, max_size=3, unique=True
)


@given(st.integers(0, 100_000), st.booleans(), MEASURES)
@settings(max_examples=150, deadline=None)
def test_the_allocation_is_the_optimum_or_within_a_hair(
    seed: int, convex: bool, measures: list[str]
) -> None:
    """Against every combination of widths, for up to three groups, any curves and budgets."""
    case = Case(seed, convex=convex)
    if "latency" in measures:
        case.cost = case.cost.adding("latency", Steps(case))
    assert -1e-12 <= case.gap(*measures) < HAIR


def test_many_narrow_steps_leave_no_gap() -> None:
    gaps = [Case(seed, largest=24).gap() for seed in range(25)]
    assert max(gaps) < HAIR


class Steps:
    """Time that moves in blocks of three units, with something that no cut changes."""

    def __init__(self, case: Case) -> None:
        self.cost, self.atoms = case.cost, case.atoms
        self.full = self.total({})

    def total(self, widths: Mapping[Term, int]) -> int:
        return 10 + self.cost.macs({a: self.padded(widths.get(a, a.size[0])) for a in self.atoms})

    def curve(self, atom: Term, widths: Mapping[Term, int], candidates: np.ndarray) -> np.ndarray:
        return np.array([self.total({**widths, atom: int(c)}) for c in candidates], float)

    @staticmethod
    def padded(width: int) -> int:
        return -(-width // 3) * 3


def test_steps_of_time_are_gone_down_whole_or_not_at_all() -> None:
    """Within a block narrower is not faster, so only the last width of a block is worth taking."""
    layout = Layout()
    atoms = [layout.atom(9) for _ in range(2)]
    case = Case(0)
    case.atoms, case.cost = atoms, Cost([[atoms[0]], [atoms[1]]], [])
    curves = [np.linspace(3, 0, 10), np.linspace(1, 0, 10)]
    options = [
        Option(group(f"g{k}", atom, 9), tuple(range(1, 10)), curve)
        for k, (atom, curve) in enumerate(zip(atoms, curves, strict=True))
    ]
    cost = case.cost.adding("latency", Steps(case))
    widths = allocate(options, cost, Budget("latency", 10 + 15))
    assert widths == {atoms[0]: 9, atoms[1]: 6}


def test_the_tightest_of_several_budgets_binds() -> None:
    """Where one budget is met whenever the other is, it changes nothing."""
    for seed in range(20):
        case = Case(seed)
        tight = case.budget()
        loose = Budget("params", case.cost.params({}))
        both = allocate(case.options, case.cost, [tight, loose])
        assert case.loss(both) == case.loss(allocate(case.options, case.cost, tight))


def test_several_budgets_out_of_reach_name_the_one_that_binds() -> None:
    case = Case(3)
    least = case.cost.params(dict.fromkeys(case.atoms, 1))
    budgets = [Budget("macs", case.cost.macs({})), Budget("params", least - 1)]
    with pytest.raises(InputError, match=r"--params binds.*of the params"):
        allocate(case.options, case.cost, budgets)


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


# ---------------------------------------------------------------- groups that may go entirely


class Branches(Case):
    """Up to three branches on one stream; what feeds a branch is idle without it."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        layout = Layout()
        stream = layout.atom(int(rng.integers(2, 6)))
        products, idle, self.options = [], [], []
        for k in range(int(rng.integers(1, 3))):
            inner, fed = (layout.atom(int(rng.integers(3, 7))) for _ in range(2))
            products += [[stream, fed], [fed, inner], [inner, stream]]
            idle += [[inner], [], []]
            for name, atom, least in ((f"i{k}", inner, 0), (f"f{k}", fed, 1)):
                widths = tuple(range(least, atom.size[0] + 1))
                curve = self.curve(atom.size[0], True)
                self.options.append(Option(group(name, atom, atom.size[0]), widths, curve))
        self.cost = Cost(products, [], idle=idle)
        self.atoms = [option.group.atom for option in self.options]

    def loss(self, widths: dict[Term, int]) -> float:
        """Inside of a branch that goes nothing is lost."""
        listed = zip(self.options[::2], self.options[1::2], strict=True)
        return sum(
            float(i.loss[widths[i.group.atom]])
            + (float(f.loss[widths[f.group.atom]]) if widths[i.group.atom] else 0.0)
            for i, f in listed
        )

    def budget(self, of: str = "macs") -> Budget:
        return Budget(of, int(self.rng.uniform(0.02, 0.95) * self.cost.macs({})))


def test_branches_go_where_trying_everything_lets_them_go() -> None:
    gaps, gone = [], 0
    for seed in range(60):
        case = Branches(seed)
        budget = case.budget()
        widths = allocate(case.options, case.cost, budget)
        assert budget.total(case.cost, widths) <= budget.target
        gone += not all(widths.values())
        whole = case.loss(dict.fromkeys(case.atoms, 0))
        gaps.append((case.loss(widths) - case.best([budget])) / max(whole, 1e-9))
    assert gone > 10
    assert np.min(gaps) >= -1e-12 and np.mean(gaps) < 0.02


def test_a_branch_that_is_worth_little_goes_and_what_feeds_it_is_left_alone() -> None:
    layout = Layout()
    stream, useless, fed, useful = (layout.atom(8) for _ in range(4))
    products = [[stream, fed], [fed, useless], [useless, stream], [stream, useful, stream]]
    cost = Cost(products, [], idle=[[useless], [], [], []])
    curves = {useless: 1e-3, fed: 1.0, useful: 1.0}
    options = [
        Option(
            group(str(k), atom, 8),
            tuple(range(int(atom is fed), 9)),
            np.linspace(scale, 0, 9),
        )
        for k, (atom, scale) in enumerate(curves.items())
    ]
    widths = allocate(options, cost, Budget("macs", 512))
    assert widths == {useless: 0, fed: 8, useful: 8}


# ---------------------------------------------------------------- the edges


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
