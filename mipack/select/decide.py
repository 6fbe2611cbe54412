"""From evidence to a plan: curves, widths within the budget, and the units that stay.

Order (design.md 6): every group's curve with the dense model; widths; then from the top, groups
whose readers lost outputs above are ranked again for what is still read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import gcd

import numpy as np

from mipack.calibrate.sites import Array, unit_positions
from mipack.couple.cost import Cost
from mipack.couple.solve import Coupling, Group
from mipack.errors import InputError
from mipack.layout import Term, leaves, size_of
from mipack.select.allocate import (
    Budget,
    Option,
    allocate,
    allowed_widths,
    shrink_uniformly,
    uniform,
)
from mipack.select.criteria import CRITERIA, Evidence
from mipack.select.eliminate import Ranking
from mipack.select.measure import Curve, calibrated
from mipack.select.plan import GroupPlan

DENSE_STEP, DENSE_FROM = 16, 256
CONV_STEP, CONV_FROM = 4, 16
"""Widths that run fast: matrix products step by 16, convolutions need multiples of 4."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for: exactly one of keep, macs, params, each a share in (0, 1]."""

    keep: float | None = None
    macs: float | None = None
    params: float | None = None
    allocate: str = "information"
    round_to: int | None = None

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
        return Request(keep, None, None, self.allocate, self.round_to)

    def budget(self, groups: Sequence[Group], cost: Cost) -> Budget:
        """The exact target. `keep` is what cutting every group to that share would leave."""
        if self.keep is not None:
            return Budget("macs", cost.macs(uniform(groups, self.keep)))
        if self.macs is not None:
            return Budget("macs", int(self.macs * cost.macs({})))
        return Budget("params", int(self.share * cost.params({})))


def step_of(coupling: Coupling, group: Group, fixed: int | None) -> int:
    """Units by which a group's width may change; rounding counts elements of the read axis."""
    readers = coupling.linears_reading(group)
    if not readers:
        return 1
    linear = readers[0]
    axis = coupling.axes[linear.x][linear.x_axis]
    block = unit_positions(axis, group.atom).shape[1]
    conv = linear.window is not None
    start, step = (CONV_FROM, CONV_STEP) if conv else (DENSE_FROM, DENSE_STEP)
    rounds = size_of(axis)[0] >= start and block < step  # wide units are coarse enough as they are
    multiple = fixed if fixed is not None else (step if rounds else 1)
    return min(max(1, multiple // gcd(multiple, block)), group.size)


@dataclass(frozen=True)
class Decision:
    """Widths and kept units per group, with the curves that they come from."""

    keep: Mapping[Term, Array]
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
    ) -> None:
        self._evidence, self._groups = evidence, tuple(groups)
        self._criterion = CRITERIA[criterion]
        self.rankings: dict[Term, Ranking] = {}
        self.curves: dict[Term, Curve] = {}
        for group in self._groups:
            ranking = self._criterion(evidence, group, {})
            measure = None if meter is None else _bound(meter, group)
            self.rankings[group.atom] = ranking
            self.curves[group.atom] = calibrated(ranking, measure)
            advance(1)

    def widths(self, request: Request) -> dict[Term, int]:
        """How many units each group keeps."""
        coupling, cost = self._evidence.coupling, self._evidence.coupling.cost
        budget = request.budget(self._groups, cost)
        if request.allocate == "uniform":
            return self._uniform(request, budget, cost)
        options = [
            Option(
                group,
                allowed_widths(group.size, step_of(coupling, group, request.round_to)),
                self.curves[group.atom].loss,
            )
            for group in self._groups
        ]
        return allocate(options, cost, budget, blocked=what_blocks(coupling))

    def _uniform(self, request: Request, budget: Budget, cost: Cost) -> dict[Term, int]:
        def rounded(widths: dict[Term, int]) -> dict[Term, int]:
            return self._nearest(widths, request.round_to)

        if request.keep is not None:
            return rounded(uniform(self._groups, request.keep))
        blocked = what_blocks(self._evidence.coupling)
        return shrink_uniformly(self._groups, cost, budget, rounded=rounded, blocked=blocked)

    def _nearest(self, widths: dict[Term, int], step: int | None) -> dict[Term, int]:
        """The nearest allowed widths; exactly these where no step is asked for."""
        if step is None:
            return widths
        coupling, found = self._evidence.coupling, {}
        for group in self._groups:
            allowed = allowed_widths(group.size, step_of(coupling, group, step))
            wanted = widths[group.atom]
            found[group.atom] = min(allowed, key=lambda w, wanted=wanted: abs(w - wanted))  # type: ignore[misc]
        return found

    def loss(self, widths: Mapping[Term, int]) -> float:
        """Predicted nats per sample of these widths."""
        return sum(float(self.curves[g.atom].loss[widths[g.atom]]) for g in self._groups)

    def decide(self, request: Request) -> Decision:
        """Widths, then units from the top down."""
        widths = self.widths(request)
        keep: dict[Term, Array] = {}
        for group in sorted(self._groups, key=self._depth, reverse=True):
            width = widths[group.atom]
            if width < group.size:
                keep[group.atom] = self._ranking(group, keep).keep(width)
        plans = tuple(self._plan(group, keep, widths) for group in self._groups)
        return Decision(keep, plans, self.loss(widths), self.curves)

    def _depth(self, group: Group) -> tuple[int, str]:
        """Position of the last site that reads a group."""
        last = [site.name for site in self._evidence.readers(group)][-1:]
        order = [site.name for site in self._evidence.sites]
        return (order.index(last[0]) if last else -1, group.name)

    def _ranking(self, group: Group, above: Mapping[Term, Array]) -> Ranking:
        """The dense ranking, or a new one where readers lost outputs above."""
        preserved = {}
        for site in self._evidence.readers(group):
            axis = self._evidence.coupling.axes[site.linear.y][site.linear.y_axis]
            lost = [a for a in dict.fromkeys(leaves(axis)) if a in above]
            if lost:
                gone = np.concatenate(
                    [
                        unit_positions(axis, a)[
                            np.setdiff1d(np.arange(a.size[0]), above[a])
                        ].ravel()
                        for a in lost
                    ]
                )
                preserved[site.name] = np.setdiff1d(np.arange(site.outputs), gone)
        if not preserved:
            return self.rankings[group.atom]
        return self._criterion(self._evidence, group, preserved)

    def _plan(
        self, group: Group, keep: Mapping[Term, Array], widths: Mapping[Term, int]
    ) -> GroupPlan:
        loss = self.curves[group.atom].loss
        kept = keep.get(group.atom, np.arange(group.size))
        here = float(loss[widths[group.atom]])
        share = 1.0 - here / float(loss[0]) if loss[0] > 0 else 1.0
        units = tuple(int(unit) for unit in kept)
        return GroupPlan(group.name, group.kind, group.size, units, round(here, 9), round(share, 6))


def _bound(meter: Callable[[Group, Array], float], group: Group) -> Callable[[Array], float]:
    return lambda kept: meter(group, kept)


def chosen_groups(
    coupling: Coupling, only: Sequence[str], exclude: Sequence[str]
) -> tuple[Group, ...]:
    """The free groups that patterns leave.

    Raises InputError for a pattern that matches no group and where nothing is left to prune.
    """
    names = [group.name for group in coupling.groups]
    for pattern in [*only, *exclude]:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(
                f"no group is named like {pattern!r}", hint="mipack inspect lists the groups"
            )
    chosen = tuple(
        group
        for group in coupling.free
        if (not only or any(fnmatchcase(group.name, p) for p in only))
        and not any(fnmatchcase(group.name, p) for p in exclude)
    )
    if not chosen:
        raise _nothing(coupling)
    return chosen


def what_blocks(coupling: Coupling) -> str:
    """The reasons that hold most of the compute, for an error message."""
    reasons: dict[str, int] = {}
    for group in coupling.groups:
        for reason in [*group.frozen, *group.width][:1]:
            reasons[reason] = max(reasons.get(reason, 0), group.macs)
    most = sorted(reasons, key=lambda r: (-reasons[r], r))[:3]
    return "; ".join(most)


def _nothing(coupling: Coupling) -> InputError:
    return InputError(
        "nothing can be pruned: " + (what_blocks(coupling) or "no group of units was found"),
        hint="mipack inspect shows every group and what freezes it",
    )
