"""From evidence to a plan: curves, widths within the budget, and the units that stay.

Order (design.md 6): every group's curve with the dense model; widths; then from the top, groups
whose readers lost outputs above are ranked again for what is still read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import gcd

import numpy as np

from mipack.calibrate.sites import Array
from mipack.couple.cost import Cost
from mipack.couple.positions import unit_positions
from mipack.couple.solve import Coupling, Group
from mipack.errors import InputError
from mipack.layout import Term, size_of
from mipack.select.allocate import (
    WAY_OUT,
    Budget,
    Option,
    allocate,
    allowed_widths,
    shrink_uniformly,
    uniform,
    unreachable,
)
from mipack.select.criteria import CRITERIA
from mipack.select.eliminate import Ranking
from mipack.select.evidence import Evidence
from mipack.select.measure import Curve, calibrated
from mipack.select.plan import GroupPlan, kept_units
from mipack.select.tau import by_tau, enough
from mipack.surgery.keep import Keep

DENSE_STEP, DENSE_FROM = 16, 256
CONV_STEP, CONV_FROM = 4, 16
"""Widths that run fast: matrix products step by 16, convolutions need multiples of 4."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for: exactly one of keep, macs, params, each a share in (0, 1]; and the
    share of what something averages over (the hidden size), which is cut to no other end."""

    keep: float | None = None
    macs: float | None = None
    params: float | None = None
    allocate: str = "information"
    round_to: int | None = None
    width: float | None = None
    own: bool = False
    """The criterion's own widths: no budget binds."""

    @property
    def share(self) -> float:
        """The number given."""
        return next(v for v in (self.keep, self.macs, self.params) if v is not None)

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return next(n for n in ("keep", "macs", "params") if getattr(self, n) is not None)

    def at(self, keep: float) -> Request:
        """The same at another keep."""
        return replace(self, keep=keep, macs=None, params=None)

    def budget(
        self, groups: Sequence[Group], cost: Cost, held: Mapping[Term, int] | None = None
    ) -> Budget:
        """The exact target, with the widths `held` besides.

        `keep` is what cutting every group to that share would leave. What is chosen inside the
        units of another group (dims in heads) does not count twice: it is a means, unless the
        units around it may not go.
        """
        if self.params is not None:
            full = cost.params({})
            return Budget("params", int(self.params * full), full)
        full = cost.macs({})
        if self.macs is not None:
            return Budget("macs", int(self.macs * full), full)
        outer = groups
        if self.allocate == "information":
            atoms = {group.atom for group in groups}
            outer = [group for group in groups if not atoms.intersection(group.within)]
        return Budget("macs", cost.macs({**(held or {}), **uniform(outer, self.share)}), full)


def step_of(coupling: Coupling, group: Group, fixed: int | None) -> int:
    """Units by which a group's width may change; rounding counts elements of the read axis."""
    readers = coupling.linears_reading(group)
    if not readers:
        return 1
    linear = readers[0]
    axis = coupling.axes[linear.x][linear.x_axis]
    block = unit_positions(axis, group.atom).shape[1]  # of a family, in all contexts together
    conv = linear.window is not None
    start, step = (CONV_FROM, CONV_STEP) if conv else (DENSE_FROM, DENSE_STEP)
    rounds = size_of(axis)[0] >= start and block < step  # wide units are coarse enough as they are
    multiple = fixed if fixed is not None else (step if rounds else 1)
    return min(max(1, multiple // gcd(multiple, block)), group.size)


@dataclass(frozen=True)
class Decision:
    """Widths and kept units per group, with the curves that they come from."""

    keep: Keep
    groups: tuple[GroupPlan, ...]
    predicted: float
    curves: Mapping[Term, Curve]


class Decider:
    """Ranks groups once; answers any budget."""

    def __init__(
        self,
        evidence: Evidence,
        groups: Sequence[Group],
        criterion: str,
        meter: Callable[[Group, Array], float] | None,
        advance: Callable[[int], None] = lambda _: None,
        *,
        averaged: Sequence[Group] = (),
    ) -> None:
        """`averaged`: groups of fixed share (`Request.width`), ranked but not allocated."""
        self._evidence, self._groups = evidence, tuple(groups)
        self._averaged = tuple(averaged)
        self._criterion = CRITERIA[criterion]
        self.rankings: dict[Term, Ranking] = {}
        self.curves: dict[Term, Curve] = {}
        for group in self._groups:
            ranking = self._criterion(evidence, group, {})
            measure = None if meter is None else _bound(meter, group)
            self.rankings[group.atom] = ranking
            self.curves[group.atom] = calibrated(ranking, measure)
            advance(1)
        for group in self._averaged:
            ranking = self._criterion(evidence, group, {})
            self.rankings[group.atom] = ranking
            self.curves[group.atom] = calibrated(ranking, None)
            advance(1)

    def held(self, request: Request) -> dict[Term, int]:
        """The widths of what is averaged over: a share of each."""
        if request.width is None:
            return {}
        step = request.round_to if request.allocate == "uniform" else request.round_to or 0
        return self._nearest(uniform(self._averaged, request.width), step, self._averaged)

    def widths(self, request: Request) -> dict[Term, int]:
        """How many units each group keeps."""
        held, coupling = self.held(request), self._evidence.coupling
        budget = request.budget(self._groups, coupling.cost, held)
        return {**held, **self._allocated(request, budget, coupling.cost.holding(held))}

    def _allocated(self, request: Request, budget: Budget, cost: Cost) -> dict[Term, int]:
        coupling = self._evidence.coupling
        if request.allocate == "uniform":
            return self._uniform(request, budget, cost)
        options = [
            self._option(request, group, self.curves[group.atom].loss) for group in self._groups
        ]
        blocked, way_out = what_blocks(coupling), self._way_out()
        if request.own:
            return {option.group.atom: enough(option) for option in options}
        if request.allocate == "tau":
            widths = by_tau(options, lambda w: budget.total(cost, w) <= budget.target)
            if budget.total(cost, widths) > budget.target:
                raise unreachable(cost, budget, widths, blocked, way_out)
            return widths
        return allocate(options, cost, budget, blocked=blocked, way_out=way_out)

    def _option(self, request: Request, group: Group, loss: Array) -> Option:
        step = step_of(self._evidence.coupling, group, request.round_to)
        return Option(group, allowed_widths(group.size, step), loss)

    def _way_out(self) -> str:
        if self._evidence.coupling.widths and not self._averaged:
            return "--width R cuts the hidden size too"
        return WAY_OUT

    def _uniform(self, request: Request, budget: Budget, cost: Cost) -> dict[Term, int]:
        def rounded(widths: dict[Term, int]) -> dict[Term, int]:
            return self._nearest(widths, request.round_to, self._groups)

        if request.keep is not None:
            return rounded(uniform(self._groups, request.keep))
        return shrink_uniformly(
            self._groups,
            cost,
            budget,
            rounded=rounded,
            blocked=what_blocks(self._evidence.coupling),
            way_out=self._way_out(),
        )

    def _nearest(
        self, widths: dict[Term, int], step: int | None, groups: Sequence[Group]
    ) -> dict[Term, int]:
        """The nearest allowed widths (step 0: those that run fast); as they are without a step."""
        if step is None:
            return widths
        coupling, found = self._evidence.coupling, {}
        for group in groups:
            allowed = allowed_widths(group.size, step_of(coupling, group, step or None))
            wanted = widths[group.atom]
            found[group.atom] = min(allowed, key=lambda w, wanted=wanted: abs(w - wanted))  # type: ignore[misc]
        return found

    def loss(self, widths: Mapping[Term, int]) -> float:
        """Predicted nats per sample of these widths."""
        every = (*self._groups, *self._averaged)
        return sum(float(self.curves[g.atom].loss[widths[g.atom]]) for g in every)

    def decide(self, request: Request) -> Decision:
        """Widths, then units from the top down."""
        widths = self.widths(request)
        every = (*self._groups, *self._averaged)
        tables: dict[Group, Array] = {}
        for group in sorted(every, key=self._depth, reverse=True):
            if widths[group.atom] == group.size:
                continue
            ranking = self._ranking(group, Keep.of(tables))
            if request.own and group in self._groups:  # what is enough for what is left above
                found = enough(self._option(request, group, ranking.loss))
                widths[group.atom] = min(widths[group.atom], found)
            tables[group] = ranking.keep(widths[group.atom])
        plans = tuple(self._plan(group, tables, widths) for group in every)
        return Decision(Keep.of(tables), plans, self.loss(widths), self.curves)

    def _depth(self, group: Group) -> tuple[int, str]:
        """Position of the last site that reads a group."""
        last = [site.name for site in self._evidence.readers(group)][-1:]
        order = [site.name for site in self._evidence.sites]
        return (order.index(last[0]) if last else -1, group.name)

    def _ranking(self, group: Group, above: Keep) -> Ranking:
        """The dense ranking, or a new one where readers lost outputs above."""
        preserved = {}
        for site in self._evidence.readers(group):
            axis = self._evidence.coupling.axes[site.linear.y][site.linear.y_axis]
            if above.cuts(axis):
                preserved[site.name] = above.flat(axis)
        if not preserved:
            return self.rankings[group.atom]
        return self._criterion(self._evidence, group, preserved)

    def _plan(
        self, group: Group, tables: Mapping[Group, Array], widths: Mapping[Term, int]
    ) -> GroupPlan:
        loss = self.curves[group.atom].loss
        here = float(loss[widths[group.atom]])
        share = 1.0 - here / float(loss[0]) if loss[0] > 0 else 1.0
        keep = kept_units(tables[group] if group in tables else np.arange(group.size))
        return GroupPlan(group.name, group.kind, group.size, keep, round(here, 9), round(share, 6))


def _bound(meter: Callable[[Group, Array], float], group: Group) -> Callable[[Array], float]:
    return lambda kept: meter(group, kept)


def chosen_groups(
    coupling: Coupling, only: Sequence[str], exclude: Sequence[str], *, averaged: bool = False
) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """The free groups that patterns leave, and (where wanted) those that something averages over.

    Raises InputError for a pattern that matches no group and where nothing is left to prune.
    """
    names = [group.name for group in coupling.groups]
    for pattern in [*only, *exclude]:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(
                f"no group is named like {pattern!r}", hint="mipack inspect lists the groups"
            )

    def chosen(groups: Sequence[Group]) -> tuple[Group, ...]:
        return tuple(
            group
            for group in groups
            if (not only or any(fnmatchcase(group.name, p) for p in only))
            and not any(fnmatchcase(group.name, p) for p in exclude)
        )

    found = chosen(coupling.free), chosen(coupling.widths) if averaged else ()
    if not any(found):
        raise _nothing(coupling)
    return found


def what_blocks(coupling: Coupling) -> str:
    """The reasons that hold most of the compute, for an error message."""
    reasons: dict[str, int] = {}
    for group in coupling.groups:
        for reason in [*group.frozen, *group.width][:1]:
            reasons[reason] = max(reasons.get(reason, 0), group.macs)
    most = sorted(reasons, key=lambda r: (-reasons[r], r))[:3]
    return "; ".join(most)


def _nothing(coupling: Coupling) -> InputError:
    more = "; --width R cuts the hidden size" if coupling.widths else ""
    return InputError(
        "nothing can be pruned: " + (what_blocks(coupling) or "no group of units was found"),
        hint=f"mipack inspect shows every group and what freezes it{more}",
    )
