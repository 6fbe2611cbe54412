"""How wide each group stays: least loss within budgets of MACs, parameters, bytes or time.

One Lagrange multiplier prices cost in loss. At a price each group takes the width of least loss
plus price, which is a point of the lower hull of its curve over cost. A weight with two free axes
costs the product of its widths, so each group's cost is taken at the present widths of the others,
and the sweep is repeated to a fixed point. A branch that may go takes with it whatever costs
nothing without it. The price is bisected until the exact cost meets the budget; what is left is
spent by exchange (`mipack.select.exchange`). Several budgets share one price by weights that follow
how tight each is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from mipack.calibrate.sites import Array
from mipack.couple.cost import Cost
from mipack.couple.solve import Group
from mipack.errors import InputError
from mipack.layout import Term
from mipack.select.budget import Budget, Option, Picks, Problem, Widths
from mipack.select.exchange import spent

SWEEPS = 12
BISECTIONS = 40
PRICES = 1e-18, 1e18
"""Of a whole budget, in nats."""
MIXES = 8
"""Rounds in which the weights of several budgets are adapted."""
WAY_OUT = "mipack inspect lists what is frozen"


def uniform(groups: Sequence[Group], share: float) -> Widths:
    """Every group at the same share of its units, at least one."""
    return {g.atom: max(1, round(share * g.size)) for g in groups}


def allocate(
    options: Sequence[Option],
    cost: Cost,
    budgets: Budget | Sequence[Budget],
    *,
    blocked: str = "",
    way_out: str = WAY_OUT,
) -> Widths:
    """Widths of least total loss whose exact cost meets every budget.

    Raises InputError where even the smallest widths cost more; `blocked` says what is frozen and
    `way_out` what could be done about it.
    """
    listed = (budgets,) if isinstance(budgets, Budget) else tuple(budgets)
    problem = Problem(options, cost, listed)
    require_reachable(cost, listed, problem.chosen(problem.least), blocked, way_out)
    if problem.fits(problem.most):
        return problem.chosen(problem.most)
    return problem.chosen(spent(problem, _priced(problem)))


def _priced(problem: Problem) -> Picks:
    """The best of a price on the tightest budget, and on mixtures where one alone exceeds others.

    The smallest widths cost least in every unit, so whatever is reachable one by one is together.
    """
    alone = [_at_budget(problem, weights) for weights in np.eye(len(problem.budgets))]
    found = [picks for picks in alone if problem.fits(picks)]
    weights = np.full(len(problem.budgets), 1.0 / len(problem.budgets))
    for _ in range(0 if found else MIXES):
        picks = _at_budget(problem, weights)
        if problem.fits(picks):
            found.append(picks)
        used = 1.0 - problem.room(picks) / problem.targets
        weights = weights * np.maximum(used, 0.1) ** 4
        weights /= weights.sum()
    return min(found, key=problem.loss, default=problem.least)


def _at_budget(problem: Problem, weights: Array) -> Picks:
    """The best choice found at any price that meets the budgets of some weight."""
    low, high = PRICES
    best, counted = problem.least, weights > 0
    for _ in range(BISECTIONS):
        price = float(np.sqrt(low * high))
        picks = _at_price(problem, price * weights / problem.targets)
        if (problem.room(picks)[counted] >= 0).all():
            high, best = price, min(picks, best, key=problem.loss)
        else:
            low = price
    return best


def _at_price(problem: Problem, prices: Array) -> Picks:
    """Each option's best width; then branches go that are worth less than they cost, and the rest
    is swept again.

    Not in one: a branch that is still as wide as it was would go for what narrowing it saves.
    """
    picks, gone = problem.most, set[int]()
    while True:
        _sweep(problem, prices, picks, gone)
        before = len(gone)
        for index in _by_gain(problem, prices, picks, gone):
            if _gain(problem, prices, picks, index) > 0:
                gone |= {index, *problem.inside[index]}
                picks[index] = 0
                picks = problem.settled(picks)
        if len(gone) == before:
            return picks


def _sweep(problem: Problem, prices: Array, picks: Picks, gone: Collection[int]) -> None:
    """Each option's best width, others fixed, until nothing changes; in place."""
    widths = problem.chosen(picks)
    for _ in range(SWEEPS):
        before = [*picks]
        for index, atom in enumerate(problem.atoms):
            if index in gone:
                continue
            priced = problem.losses[index] + prices @ problem.curves(index, widths)
            least = int(index in problem.branches)
            picks[index] = least + int(np.argmin(priced[least:]))  # of equal ones the narrowest
            widths[atom] = int(problem.widths[index][picks[index]])
        if picks == before:
            break


def _by_gain(problem: Problem, prices: Array, picks: Picks, gone: Collection[int]) -> Iterator[int]:
    """Branches that are left, those first that are best gone."""
    left = [k for k in problem.branches if k not in gone]
    gains = {k: _gain(problem, prices, picks, k) for k in left}
    return (k for k in sorted(left, key=lambda k: (-gains[k], k)) if k not in gone)


def _gain(problem: Problem, prices: Array, picks: Picks, index: int) -> float:
    """What is won where a branch goes, at these widths of everything."""
    now, loss = picks[index], problem.losses[index]
    costs = prices @ problem.curves(index, problem.chosen(picks))
    inside = sum(float(problem.losses[k][picks[k]]) for k in problem.inside[index])
    return float(costs[now] - costs[0] - (loss[0] - loss[now])) + inside


def require_reachable(
    cost: Cost,
    budgets: Sequence[Budget],
    least: Mapping[Term, int],
    blocked: str = "",
    way_out: str = WAY_OUT,
) -> None:
    """Raises InputError for the budget furthest below what the smallest widths cost, if any is."""
    worst = max(budgets, key=lambda b: b.total(cost, least) / max(b.target, 1))
    floor, full = worst.total(cost, least), worst.full or worst.total(cost, {})
    if floor <= worst.target:
        return
    binds = f"--{worst.of} binds: " if len(budgets) > 1 else ""
    frozen = f"; frozen: {blocked}" if blocked else ""
    reachable = np.ceil(1000 * floor / full) / 1000
    raise InputError(
        f"{binds}the budget is {worst.target / full:.4f} of the {worst.of}, but every free group "
        f"at its smallest width leaves {floor / full:.4f}{frozen}",
        hint=f"--{worst.of} {reachable:g} is reachable; {way_out}",
    )


def shrink_uniformly(
    groups: Sequence[Group],
    cost: Cost,
    budgets: Budget | Sequence[Budget],
    *,
    rounded: Callable[[Widths], Widths] = lambda widths: widths,
    blocked: str = "",
    way_out: str = WAY_OUT,
) -> Widths:
    """The largest common share whose exact cost, after rounding, meets every budget.

    Raises InputError where even the smallest widths cost more.
    """
    listed = (budgets,) if isinstance(budgets, Budget) else tuple(budgets)
    low, high = 0.0, 1.0
    best = rounded(uniform(groups, low))
    require_reachable(cost, listed, best, blocked, way_out)
    for _ in range(BISECTIONS):
        share = (low + high) / 2
        widths = rounded(uniform(groups, share))
        if all(budget.total(cost, widths) <= budget.target for budget in listed):
            low, best = share, widths
        else:
            high = share
    return best


def allowed_widths(size: int, step: int) -> tuple[int, ...]:
    """Multiples of step up to the size, and the size itself."""
    return tuple(sorted({*range(step, size, step), size}))
