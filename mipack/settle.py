"""From what is asked for to a plan that keeps it: decide, cut, measure, correct.

Time and bytes on disk are predicted, so a cut of the widths chosen is measured and the target moved
by what the prediction missed. `--max-drop` alone is a search: the deepest cut, by MACs, whose
refitted model stays within it. All of it uses one set of moments and curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mipack.couple.cost import Beside, Cost
from mipack.errors import InputError, VerificationError
from mipack.gate import drop
from mipack.graph.adjust import set_weight, value_of
from mipack.graph.load import stored_bytes
from mipack.graph.names import names_of, node_names
from mipack.layout import Term
from mipack.material import Material
from mipack.options import Stopwatch
from mipack.ranking import planned, ranked
from mipack.result import Check
from mipack.select.budget import Budget
from mipack.select.decide import Decider, Decision
from mipack.select.evidence import Evidence
from mipack.select.plan import Plan
from mipack.select.request import Request
from mipack.stages import refitted
from mipack.surgery.branches import shift_of
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep
from mipack.timing import Clock, Race

CORRECTIONS = 5
"""Rounds in which a target is moved after the first cut was measured."""
NEARER = 0.01
"""A measured time this near to the budget, relative, is not corrected."""
SMALL = 1e-3
"""A bias of a model that is only measured."""
TRIALS, CLOSE = 7, 0.02
"""Of a search: the cuts tried at most, and the share of the MACs to which the deepest is found."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A plan, what can answer other budgets, and what measures time (where that is a budget)."""

    plan: Plan
    decider: Decider | None = None
    clock: Clock | None = None


def settle(material: Material, evidence: Evidence | None, watch: Stopwatch) -> Settled:
    """The plan for the options of a run.

    Raises InputError where budgets are out of reach, VerificationError where no cut tried stays
    within --max-drop.
    """
    options, request = material.options, material.options.request()
    clock, cost = None, material.prepared.coupling.cost
    if options.latency is not None:
        with watch("time the original", material.say):
            clock = Clock(material)
            cost = cost.adding("latency", clock.law())
    if options.size is not None:
        cost = _with_size(material, cost)
    decider, evidence = ranked(material, evidence, watch, cost)
    if options.max_drop is not None and not options.budgets():
        with watch("search", material.say, TRIALS):
            request, decision = _searched(material, evidence, decider)
    elif options.size is not None or clock is not None:
        with watch("meet the budget", material.say):
            decision = decider.decide(request, _corrected(material, decider, request, clock))
    else:
        decision = decider.decide(request)
    return Settled(planned(material, evidence, request, decision), decider, clock)


def _with_size(material: Material, cost: Cost) -> Cost:
    """Bytes of the file: what is not a weight stays as it is."""
    weights = cost.measure("bytes")
    fixed = stored_bytes(material.prepared.model) - weights.full
    return cost.adding("size", Beside(weights, fixed, material.file_bytes))


# ---------------------------------------------------------------- measured budgets


@dataclass(frozen=True, slots=True)
class _Trial:
    """Targets that were aimed at, the widths that they gave, and what those really cost."""

    aims: tuple[Budget, ...]
    widths: Mapping[Term, int]
    predicted: int
    """Nanoseconds; 0 where time is no budget."""
    race: Race | None
    excess: int
    """Bytes above the budget of them."""

    @property
    def holds(self) -> bool:
        return self.excess <= 0 and (self.race is None or self.race.holds)

    @property
    def done(self) -> bool:
        """Whether another could hardly be told to be better."""
        noise = 0.0 if self.race is None else self.race.ratio.noise
        return self.holds and abs(self._off) <= max(NEARER, noise)

    @property
    def rank(self) -> tuple[bool, int, bool, float]:
        """The least is best: within all budgets, then not above that of time and near to it."""
        return not self.holds, max(self.excess, 0), self._off > NEARER, abs(self._off)

    @property
    def _off(self) -> float:
        return 0.0 if self.race is None else self.race.ratio.value / self.race.share - 1


def _corrected(
    material: Material, decider: Decider, request: Request, clock: Clock | None
) -> tuple[Budget, ...]:
    """The targets to aim at, so that what is measured meets the request.

    Raises InputError where the smallest widths are measured above it.
    """
    asked = aims = decider.budgets(request)
    trials: list[_Trial] = []
    while len(trials) <= CORRECTIONS:
        try:
            widths = decider.widths(request, aims)
        except InputError as error:
            if not trials:
                raise
            _give_up(trials, error)
            break
        if trials and widths == trials[-1].widths:
            break
        trials.append(_tried(material, decider, (aims, asked), widths, clock))
        if trials[-1].done:
            break
        aims = _moved(decider.cost, aims, trials)
    if clock is not None:
        clock.save()
    return min(trials, key=lambda trial: trial.rank).aims


def _give_up(trials: Sequence[_Trial], error: InputError) -> None:
    """Raise where nothing smaller than what was measured above the budget is left."""
    best = min(trials, key=lambda trial: trial.rank)
    if best.excess > 0 or (best.race is not None and best.race.exceeds):
        measured = "" if best.race is None else f"{best.race}, and by that "
        raise InputError(f"{measured}{error.args[0]}", hint="ask for less") from error


def _tried(
    material: Material,
    decider: Decider,
    aims: tuple[tuple[Budget, ...], tuple[Budget, ...]],
    widths: Mapping[Term, int],
    clock: Clock | None,
) -> _Trial:
    """Cut to these widths, with all the biases that refit may add, and measure; which units stay
    does not matter for that."""
    groups = {group.atom: group for group in material.prepared.coupling.groups}
    keep = Keep.leading({groups[atom]: width for atom, width in widths.items()})
    model = cut(material.prepared.coupling, keep)
    if material.options.refit:
        _add_biases(material, model)
    race, predicted, excess = None, 0, 0
    if clock is not None:
        race = clock.race(model)
        predicted = decider.cost.total("latency", widths)
        share = predicted / decider.cost.full("latency")
        material.say.note(f"predicted {share:.3f} of the time, {race}")
    for budget in aims[1]:
        if budget.of == "size":
            excess = stored_bytes(model) - budget.target
    return _Trial(aims[0], widths, predicted, race, excess)


def _add_biases(material: Material, model: ir.Model) -> None:
    """Those that refit may add, and small numbers where they or what stands for a branch that went
    are zero: the runtime leaves additions of nothing out."""
    graph, nodes, taken = model.graph, node_names(model.graph), names_of(model.graph)
    for site in material.sites:
        if site.name in nodes:
            name = shift_of(graph, site.linear, nodes[site.name], taken)
            shift = value_of(graph, name)
            if not shift.any():
                set_weight(graph, name, np.full_like(shift, SMALL))


def _moved(cost: Cost, aims: Sequence[Budget], trials: Sequence[_Trial]) -> tuple[Budget, ...]:
    """The targets moved by what the last prediction missed."""
    moved = []
    for budget in aims:
        target = budget.target
        if budget.of == "latency":
            target = _aim(trials)
        elif budget.of == "size" and trials[-1].excess > 0:
            target = budget.total(cost, trials[-1].widths) - trials[-1].excess
        moved.append(Budget(budget.of, target, budget.full))
    return tuple(moved)


def _aim(trials: Sequence[_Trial]) -> int:
    """The prediction that should be measured on the budget: between the nearest trials below and
    above it in proportion, else moved by what the last one missed."""
    last = trials[-1]
    assert last.race is not None
    points = [(t.race.ratio.value / t.race.share, t.predicted) for t in trials if t.race]
    below = max((p for p in points if p[0] <= 1), default=None)
    above = min((p for p in points if p[0] > 1), default=None)
    if below and above and below[1] < above[1]:
        share = (1 - below[0]) / (above[0] - below[0])
        return round(below[1] + share * (above[1] - below[1]))
    return round(last.predicted * last.race.share / last.race.ratio.value)


# ---------------------------------------------------------------- the deepest cut


def _searched(material: Material, evidence: Evidence, decider: Decider) -> tuple[Request, Decision]:
    """The deepest cut whose refitted model loses no more than --max-drop, by bisection."""
    most = material.options.max_drop or 0.0
    low, high, best, mildest = 0.0, 1.0, None, ""
    for _ in range(TRIALS):
        if high - low <= CLOSE:
            break
        share = (low + high) / 2
        request = material.options.request().at(macs=share)
        try:
            decision = decider.decide(request)
        except InputError:  # narrower than the narrowest
            low = share
            continue
        plain = cut(material.prepared.coupling, decision.keep)
        model = refitted(material, evidence, decision.keep, plain).chosen.model
        lost = drop(material, model)
        material.say.note(f"at {share:.1%} of the MACs: {lost}")
        material.say.advance()
        if lost.points <= most:
            high, best = share, (request, decision)
        else:
            low, mildest = share, f"; at {share:.1%} of the MACs it is {lost}"
    if best is None:
        raise VerificationError(
            f"no cut that was tried loses at most {most:g} points{mildest}",
            hint="nothing was written; more calibration samples, or a larger --max-drop, may help",
        )
    return best


# ---------------------------------------------------------------- what was promised


def promised(
    material: Material, clock: Clock | None, final: ir.Model, released: ir.Model
) -> tuple[tuple[Check, ...], dict[str, object]]:
    """What the finished model really costs and loses, where that was bounded, and as plain values.

    Raises VerificationError where it is more.
    """
    checks: list[Check] = []
    values: dict[str, object] = {}
    options = material.options
    if clock is not None:
        race = clock.race(final)
        if race.exceeds:  # once more: the machine may have been busy for a moment
            race = clock.race(final)
        values["latency"] = race.to_json() | {"shape": dict(clock.shape)}
        checks.append(Check(f"latency {race.share:g}", not race.exceeds, str(race)))
        if not race.holds and not race.exceeds:
            material.warn(f"--latency {race.share:g} was not met to within 3 %: {race}")
    if options.size is not None:
        stored, limit = stored_bytes(released), int(options.size * material.file_bytes)
        values["size"] = {"bytes": stored, "original": material.file_bytes}
        text = f"{stored:,} of {material.file_bytes:,} bytes"
        checks.append(Check(f"size {options.size:g}", stored <= limit, text))
    if options.max_drop is not None:
        lost = drop(material, final)
        values["drop"] = {"points": lost.points, "metric": lost.metric, "answers": lost.rows}
        name = f"max-drop {options.max_drop:g}"
        checks.append(Check(name, lost.points <= options.max_drop, f"it loses {lost}"))
    for check in checks:
        if not check.passed:
            text = f"--{check.name} is not met: {check.detail}"
            raise VerificationError(text, hint="nothing was written")
    return tuple(checks), values
