"""How wide each group stays: least loss within a budget of MACs or parameters.

One Lagrange multiplier over the lower convex hulls of the groups' curves. A weight with two free
axes costs the product of its widths, so each group's price per unit is taken at the present widths
of the others, and the sweep is repeated to a fixed point; budgets are checked on the exact cost.
What is left of the budget is then spent step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipack.calibrate.sites import Array
from mipack.couple.cost import Cost
from mipack.couple.solve import Group
from mipack.errors import InputError
from mipack.layout import Term

Widths = dict[Term, int]
SWEEPS = 12
BISECTIONS = 48
WAY_OUT = "mipack inspect lists what is frozen"


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent: `of` is "macs" or "params", `target` in the cost's own unit."""

    of: str
    target: int
    full: int = 0
    """The same of the original."""

    def total(self, cost: Cost, widths: Mapping[Term, int]) -> int:
        """The exact cost of these widths."""
        return cost.macs(widths) if self.of == "macs" else cost.params(widths)

    def part(self, cost: Cost, atom: Term, widths: Mapping[Term, int]) -> int:
        """The cost of what one atom takes part in."""
        return cost.macs_of(atom, widths) if self.of == "macs" else cost.params_of(atom, widths)


@dataclass(frozen=True, slots=True)
class Option:
    """A group, the widths that it may take (ascending, the last is its size) and its curve."""

    group: Group
    widths: tuple[int, ...]
    loss: Array

    def hull(self) -> tuple[int, ...]:
        """Widths on the lower convex hull of (width, loss)."""
        points = [(w, float(self.loss[w])) for w in self.widths]
        hull: list[tuple[int, float]] = []
        for point in points:
            while len(hull) >= 2 and _above(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        return tuple(w for w, _ in hull)


def _above(a: tuple[int, float], b: tuple[int, float], c: tuple[int, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


def uniform(groups: Sequence[Group], share: float) -> dict[Term, int]:
    """Every group at the same share of its units, at least one."""
    return {g.atom: max(1, round(share * g.size)) for g in groups}


def allocate(
    options: Sequence[Option],
    cost: Cost,
    budget: Budget,
    *,
    blocked: str = "",
    way_out: str = WAY_OUT,
) -> dict[Term, int]:
    """Widths of least total loss whose exact cost meets the budget.

    Raises InputError where even the smallest widths cost more; `blocked` says what is frozen and
    `way_out` what could be done about it.
    """
    least = {o.group.atom: o.widths[0] for o in options}
    if budget.total(cost, least) > budget.target:
        raise unreachable(cost, budget, least, blocked, way_out)
    most = {o.group.atom: o.widths[-1] for o in options}
    if budget.total(cost, most) <= budget.target:
        return most
    hulls = [o.hull() for o in options]
    low, high = 1e-30, 1e12
    best = least
    for _ in range(BISECTIONS):
        price = float(np.sqrt(low * high))
        widths = _at_price(options, hulls, cost, budget, price)
        if budget.total(cost, widths) <= budget.target:
            high, best = price, _better(best, widths, options)
        else:
            low = price
    return _spend_rest(options, cost, budget, best)


def _better(a: dict[Term, int], b: dict[Term, int], options: Sequence[Option]) -> dict[Term, int]:
    losses = [sum(float(o.loss[w[o.group.atom]]) for o in options) for w in (a, b)]
    return b if losses[1] <= losses[0] else a


def _at_price(
    options: Sequence[Option],
    hulls: Sequence[Sequence[int]],
    cost: Cost,
    budget: Budget,
    price: float,
) -> dict[Term, int]:
    """Each group's best width on its hull, others fixed, swept until nothing changes."""
    widths = {o.group.atom: o.widths[-1] for o in options}
    for _ in range(SWEEPS):
        changed = False
        for option, hull in zip(options, hulls, strict=True):
            atom = option.group.atom
            unit = price * _unit_cost(option, cost, budget, widths)
            chosen = min(hull, key=lambda w: (float(option.loss[w]) + unit * w, w))
            changed |= chosen != widths[atom]
            widths[atom] = chosen
        if not changed:
            break
    return widths


def _unit_cost(option: Option, cost: Cost, budget: Budget, widths: Mapping[Term, int]) -> float:
    atom = option.group.atom
    top, bottom = option.widths[-1], 0
    high = budget.part(cost, atom, {**widths, atom: top})
    low = budget.part(cost, atom, {**widths, atom: bottom})
    return (high - low) / (top - bottom)


def _spend_rest(
    options: Sequence[Option], cost: Cost, budget: Budget, widths: dict[Term, int]
) -> dict[Term, int]:
    """Widen by the step of most loss saved per cost while one fits."""
    while True:
        now = budget.total(cost, widths)
        steps = []
        for option in options:
            atom = option.group.atom
            wider = next((w for w in option.widths if w > widths[atom]), None)
            if wider is None:
                continue
            more = budget.total(cost, {**widths, atom: wider}) - now
            saved = float(option.loss[widths[atom]] - option.loss[wider])
            if now + more <= budget.target and saved > 0:
                steps.append((saved / max(more, 1), option.group.name, atom, wider))
        if not steps:
            return widths
        _, _, atom, wider = max(steps, key=lambda s: s[:2])
        widths[atom] = wider


def unreachable(
    cost: Cost,
    budget: Budget,
    least: Mapping[Term, int],
    blocked: str = "",
    way_out: str = WAY_OUT,
) -> InputError:
    """The error for a budget below what the smallest widths cost."""
    full, floor = budget.full or budget.total(cost, {}), budget.total(cost, least)
    reachable = np.ceil(1000 * floor / full) / 1000
    return InputError(
        f"the budget is {budget.target / full:.4f} of the {budget.of}, but every free group at its "
        f"smallest width leaves {floor / full:.4f}{'; frozen: ' if blocked else ''}{blocked}",
        hint=f"--{budget.of} {reachable:g} is reachable; {way_out}",
    )


def shrink_uniformly(
    groups: Sequence[Group],
    cost: Cost,
    budget: Budget,
    *,
    rounded: Callable[[Widths], Widths] = lambda widths: widths,
    blocked: str = "",
    way_out: str = WAY_OUT,
) -> Widths:
    """The largest common share whose exact cost, after rounding, meets the budget.

    Raises InputError where even the smallest widths cost more.
    """
    low, high = 0.0, 1.0
    best = rounded(uniform(groups, low))
    if budget.total(cost, best) > budget.target:
        raise unreachable(cost, budget, best, blocked, way_out)
    for _ in range(BISECTIONS):
        share = (low + high) / 2
        widths = rounded(uniform(groups, share))
        if budget.total(cost, widths) <= budget.target:
            low, best = share, widths
        else:
            high = share
    return best


def allowed_widths(size: int, step: int) -> tuple[int, ...]:
    """Multiples of step up to the size, and the size itself."""
    return tuple(sorted({*range(step, size, step), size}))
