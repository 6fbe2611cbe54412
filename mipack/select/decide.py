"""From evidence to a plan: curves, widths within the budget, and the units that stay.

Order (design.md 6): every group's curve with the dense model; widths; then from the top, groups
whose readers lost outputs above are ranked again for what is still read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import partial

import numpy as np

from mipack.calibrate.sites import Array
from mipack.couple.cost import Cost
from mipack.couple.solve import Coupling, Group
from mipack.errors import InputError
from mipack.layout import Term
from mipack.select.allocate import (
    WAY_OUT,
    allocate,
    allowed_widths,
    require_reachable,
    shrink_uniformly,
    uniform,
)
from mipack.select.budget import Budget, Option
from mipack.select.criteria import CRITERIA
from mipack.select.eliminate import Ranking
from mipack.select.evidence import Evidence
from mipack.select.measure import Alone, Curve, Meter, alone, calibrated, to_second_order
from mipack.select.plan import GroupPlan, kept_units
from mipack.select.request import Request
from mipack.select.steps import fast, step_of, timed_step
from mipack.select.tau import by_tau, enough
from mipack.surgery.keep import Keep


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
        meter: Meter | None,
        advance: Callable[[int], None] = lambda _: None,
        *,
        averaged: Sequence[Group] = (),
        cost: Cost | None = None,
        left: Mapping[str, Fraction] | None = None,
    ) -> None:
        """`averaged`: groups of fixed share (`Request.width`), ranked but not allocated; `cost`:
        with measures beyond those that the graph alone knows; `left`: nodes of which only a share
        is spent of the budget."""
        self._evidence, self._groups = evidence, tuple(groups)
        self.cost = cost or evidence.coupling.cost
        self._averaged = tuple(averaged)
        self._spent = self.cost
        if left:
            spent = evidence.coupling.cost_of(left).measure("macs")
            self._spent = self.cost.adding("macs", spent)
        self._criterion = CRITERIA[criterion]
        self._meter = meter
        self.rankings: dict[Term, Ranking] = {}
        for group in (*self._groups, *self._averaged):
            self.rankings[group.atom] = self._criterion(evidence, group, {})
            advance(1)
        self.curves, self._rough = self._measured(meter)
        self._nothing: dict[Term, float] = {}

    def _measured(self, meter: Meter | None) -> tuple[dict[Term, Curve], dict[Term, Group]]:
        """The curve of every group, and the groups of which the cost of keeping nothing is known
        to second order only: too low by up to an order of magnitude on MiniLM."""
        if meter is None:
            return {atom: calibrated(made, None) for atom, made in self.rankings.items()}, {}
        may = partial(removable, self._evidence.coupling)
        own = {group: self.rankings[group.atom] for group in self._groups}
        quadratic = to_second_order(own, meter, may)
        found: dict[Term, Alone | None] = {group.atom: made for group, made in quadratic.items()}
        for group, ranking in own.items():
            if group not in quadratic:
                cost = partial(meter.kl, group)
                found[group.atom] = alone(ranking, cost, removable=may(group))
        curves = {a: calibrated(made, found.get(a)) for a, made in self.rankings.items()}
        return curves, {g.atom: g for g, made in quadratic.items() if made.nothing is not None}

    def held(self, request: Request) -> dict[Term, int]:
        """The widths of what is averaged over: a share of each."""
        if request.width is None:
            return {}
        step = request.round_to if request.allocate == "uniform" else request.round_to or 0
        return self._nearest(uniform(self._averaged, request.width), step, self._averaged)

    def widths(self, request: Request, budgets: Sequence[Budget] | None = None) -> dict[Term, int]:
        """How many units each group keeps; `budgets` where others are aimed at than asked for."""
        held = self.held(request)
        budgets = budgets or request.budgets(self._groups, self.cost, held)
        return {**held, **self._allocated(request, budgets, self._spent.holding(held))}

    def budgets(self, request: Request) -> tuple[Budget, ...]:
        """The exact targets of a request."""
        return request.budgets(self._groups, self.cost, self.held(request))

    def _allocated(
        self, request: Request, budgets: Sequence[Budget], cost: Cost
    ) -> dict[Term, int]:
        if request.allocate == "uniform":
            return self._uniform(request, budgets, cost)
        if request.allocate == "tau":
            return self._by_tau(request, budgets, cost)
        blocked, way_out = what_blocks(self._evidence.coupling), self._way_out()
        stay, run = set[Term](), set[Term]()
        while True:
            options = [self._option(request, group, cost, stay, run) for group in self._groups]
            widths = allocate(options, cost, budgets, blocked=blocked, way_out=way_out)
            gone = [atom for atom, width in widths.items() if not width]
            if not run.issuperset(rough := self._rough.keys() & gone):
                run |= rough  # before it goes it is run without, whatever other budgets asked for
                continue
            problem = self._evidence.coupling.branches.without(gone).problem
            if problem is None:
                return widths
            stay.add(max(problem.atoms, key=lambda a: (self.curves[a].loss[0], a.id)))

    def _without(self, atom: Term) -> float:
        """Nats per sample of keeping nothing, from a run of the model without."""
        curve = self.curves[atom].loss
        if atom not in self._rough or self._meter is None:
            return float(curve[0])
        if atom not in self._nothing:
            group = self._rough[atom]
            nats = self._meter.kl(group, self.rankings[atom].keep(0))
            self._nothing[atom] = max(nats, float(curve[1]))
        return self._nothing[atom]

    def _option(
        self,
        request: Request,
        group: Group,
        cost: Cost,
        stay: Collection[Term],
        run: Collection[Term] = (),
    ) -> Option:
        """The widths that a group may have; `stay`: what has to keep a unit; `run`: what was run
        without any."""
        coupling, loss = self._evidence.coupling, self.curves[group.atom].loss
        if group.atom in run:
            loss = np.concatenate([[self._without(group.atom)], loss[1:]])
        whole = group.atom not in stay and removable(coupling, group)
        least = (0,) if whole else ()
        if request.latency is None:
            step = step_of(coupling, group, request.round_to)
            return Option(group, (*least, *allowed_widths(group.size, step)), loss)
        if request.round_to is None:
            step = timed_step(coupling, group)
        else:
            step = step_of(coupling, group, request.round_to)
        widths = fast(cost, group, allowed_widths(group.size, step))
        return Option(group, (*least, *widths), loss)

    def _by_tau(self, request: Request, budgets: Sequence[Budget], cost: Cost) -> dict[Term, int]:
        """One threshold on what every group loses; whole groups stay."""
        atoms = {group.atom for group in self._groups}
        options = [self._option(request, group, cost, atoms) for group in self._groups]
        if request.own:
            return {option.group.atom: enough(option) for option in options}
        widths = by_tau(options, lambda w: all(b.total(cost, w) <= b.target for b in budgets))
        blocked = what_blocks(self._evidence.coupling)
        require_reachable(cost, budgets, widths, blocked, self._way_out())
        return widths

    def _way_out(self) -> str:
        if self._evidence.coupling.widths and not self._averaged:
            return "--width R cuts the hidden size too"
        return WAY_OUT

    def _uniform(self, request: Request, budgets: Sequence[Budget], cost: Cost) -> dict[Term, int]:
        def rounded(widths: dict[Term, int]) -> dict[Term, int]:
            return self._nearest(widths, request.round_to, self._groups)

        if list(request.shares) == ["keep"]:
            return rounded(uniform(self._groups, request.share))
        return shrink_uniformly(
            self._groups,
            cost,
            budgets,
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
        return sum(self._loss(g.atom, widths[g.atom]) for g in every)

    def _loss(self, atom: Term, width: int) -> float:
        return float(self.curves[atom].loss[width]) if width else self._without(atom)

    def decide(self, request: Request, budgets: Sequence[Budget] | None = None) -> Decision:
        """Widths, then units from the top down."""
        widths = self.widths(request, budgets)
        every = (*self._groups, *self._averaged)
        tables: dict[Group, Array] = {}
        for group in sorted(every, key=self._depth, reverse=True):
            width = widths[group.atom]
            if width < group.size:
                tables[group] = self._ranking(group, Keep.of(tables)).keep(width)
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
        here = self._loss(group.atom, widths[group.atom])
        share = 1.0 - here / float(loss[0]) if loss[0] > 0 else 1.0
        keep = kept_units(tables[group] if group in tables else np.arange(group.size))
        return GroupPlan(group.name, group.kind, group.size, keep, round(here, 9), round(share, 6))


def removable(coupling: Coupling, group: Group) -> bool:
    """Whether a group is offered to go entirely; dims inside heads leave that to the heads."""
    contexts = coupling.branches.removable.keys() & group.within
    return coupling.removable(group) and not contexts


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
