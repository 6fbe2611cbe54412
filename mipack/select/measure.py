"""Curves in nats: each group's predicted loss, scaled by what cutting it alone costs.

A group is cut alone at a few widths and, where it may go, entirely; its readers are locally
refitted. What that costs to second order is had for all groups in one pass over the data
(`mipack.calibrate.effects`). Where there are no gradients, or a cut is more than a change of
weights, and before a group goes entirely, the model is run. Where every reader is a linear site,
that is the original with other weights, fed in place of its initializers from where it first reads
one of them; so it is where zero weights silence what only products of activations read; elsewhere a
masked model is built.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipack.calibrate.effects import Change
from mipack.calibrate.ridge import absorb_together
from mipack.calibrate.sites import Array, Site, kept_features
from mipack.calibrate.taps import Answers, BatchLike, crop
from mipack.couple.basis import pairs_of
from mipack.couple.solve import Coupling, Group
from mipack.couple.zeros import silenced_by_weights
from mipack.graph.adjust import ensure_bias, set_weight, value_of
from mipack.graph.bodies import reads
from mipack.graph.load import in_parts
from mipack.graph.names import names_of, node_names
from mipack.graph.stepper import Stepper
from mipack.layout import Term, leaves
from mipack.runtime.session import Session
from mipack.select.eliminate import Ranking
from mipack.select.evidence import Evidence
from mipack.surgery.keep import Keep
from mipack.surgery.mask import masked

SHARES, NEAR_AND_FAR = (0.5, 0.25), (0.5, 0.25, 0.1)
"""The widths at which a group is cut alone: run, and to second order."""
TRUST = 0.5
"""How far the cut of a group alone counts against what all groups have in common."""
FLOOR = 1e-9
"""Nats: less is rounding."""


@dataclass(frozen=True, slots=True)
class Curve:
    """`loss[k]`: nats per sample lost when the group keeps its best k units; non-increasing."""

    loss: Array
    ratios: tuple[float, ...]
    """Measured over predicted at each width at which the group was cut alone."""


class Meter:
    """Runs variants of the original on a fixed set of batches and tells the KL to it."""

    def __init__(
        self,
        evidence: Evidence,
        known: Answers,
        batches: Sequence[BatchLike],
        refit: bool,
        effects: Callable[[Iterable[Change]], Array] | None = None,
    ) -> None:
        """`effects`: what changes of weights cost to second order, where gradients can be had."""
        self._evidence, self._known, self._refit = evidence, known, refit
        self._effects = effects
        self._batches = batches
        self._model = evidence.coupling.model.clone()
        graph = self._model.graph
        nodes, taken = node_names(graph), names_of(graph)
        self._bias = {
            site.name: ensure_bias(graph, site.linear, nodes[site.name], taken)
            for site in evidence.sites
        }
        self._made = _made(evidence)
        weights = [site.linear.w for site in evidence.sites]
        own = [name for names in self._made.values() for name in names]
        fed = dict.fromkeys([*weights, *self._bias.values(), *own])
        self._start = {name: value_of(graph, name) for name in fed}
        self._nodes = list(graph)
        self._order = {node: k for k, node in enumerate(self._nodes)}
        made = {value.name for node in graph for value in node.outputs}
        self._heads = [h.name for h in known.heads if h.name in made]  # the others never change
        self._walk, self._at = self._from_the_start(), 0
        self._rest: tuple[Term, Session | None] | None = None

    def kl(self, group: Group, kept: Array) -> float:
        """Mean nats per sample between the original and itself with one group cut, of all heads."""
        changed = self._weights(group, kept)
        if group.atom in self._made:
            changed |= self._zeroed(group, kept)
        if changed and (group.atom in self._made or covered(self._evidence.coupling, group)):
            session, feeds = self._from_first_change(group, changed)
            if session is None:
                return 0.0
        else:
            session, changed = self._silenced(group, kept, changed), {}
            feeds = [dict(batch.feeds) for batch in self._batches]
        heads = [head for head in self._known.heads if head.name in session.outputs]
        total, samples = 0.0, 0
        for batch, given, want in zip(self._batches, feeds, self._known.outputs, strict=True):
            got = crop(session.run({**given, **changed}, [head.name for head in heads]), batch)
            total += sum(float(h.divergence(want[h.name], got[h.name]).sum()) for h in heads)
            samples += batch.samples
        return total / max(samples, 1)

    def to_second_order(self, cuts: Sequence[tuple[Group, Array]]) -> Array | None:
        """The same of many cuts at once, as far as it is quadratic: NaN where a change of weights
        does not tell all; None without gradients."""
        if self._effects is None or not cuts:
            return None
        groups = dict.fromkeys(group for group, _ in cuts)
        known = {group for group in groups if tells(self._evidence, group)}
        told = [k for k, (group, _) in enumerate(cuts) if group in known]
        nats = np.full(len(cuts), np.nan)
        nats[told] = self._effects(
            change(self._evidence, *cuts[k], refit=self._refit) for k in told
        )
        return nats

    def _from_the_start(self) -> Stepper:
        return Stepper(self._model, [batch.feeds for batch in self._batches])

    def _from_first_change(
        self, group: Group, changed: Collection[str]
    ) -> tuple[Session | None, list[dict[str, Array]]]:
        """The rest of the model behind the first node that reads a weight which changes (None where
        all heads are before it), and what it reads of the batches. Groups are best measured in the
        order of the graph."""
        initializers = self._model.graph.initializers
        readers = [node for name in changed for node, _ in initializers[name].uses()]
        first = min(self._order.get(node, 0) for node in readers)  # 0: inside a body
        if first < self._at:
            self._walk, self._rest = self._from_the_start(), None
        if first != self._at:
            self._walk.move_before(self._nodes[first])
        self._at = first
        if self._rest is None or self._rest[0] != group.atom:
            before = self._walk.values[0].keys()
            behind = [name for name in self._heads if name not in before]
            rest = self._walk.session(behind, list(changed)) if behind else None
            self._rest = group.atom, rest
        return self._rest[1], self._walk.values

    def _weights(self, group: Group, kept: Array) -> dict[str, Array]:
        changed: dict[str, Array] = {}
        for name, readers, new, shifts in replaced(self._evidence, group, kept, refit=self._refit):
            for site, shift in zip(readers, shifts, strict=False):
                bias = self._start[self._bias[site.name]]
                moved = bias + shift.reshape(bias.shape)
                changed[self._bias[site.name]] = moved.astype(bias.dtype)
            changed[name] = readers[0].weight(new, self._start[name])
        return changed

    def _zeroed(self, group: Group, kept: Array) -> dict[str, Array]:
        """The weights that make a group's units, zero at those that go."""
        keep, axes = Keep.of({group: kept}), self._evidence.coupling.axes
        return {
            name: np.where(keep.mask(axes[name]), array, array.dtype.type(0))
            for name in self._made[group.atom]
            for array in [self._start[name]]
        }

    def _silenced(self, group: Group, kept: Array, changed: Mapping[str, Array]) -> Session:
        coupling = self._evidence.coupling
        model = masked(coupling, Keep.of({group: kept}))
        nodes, taken = node_names(model.graph), names_of(model.graph)
        for site in self._evidence.readers(group):  # a bias that only the meter's model has
            bias = self._bias[site.name]
            if bias in changed and bias not in model.graph.initializers:
                name = ensure_bias(model.graph, site.linear, nodes[site.name], taken)
                changed = {**changed, name: changed[bias]}
        for name, array in changed.items():
            if name in model.graph.initializers:
                set_weight(model.graph, name, array)
        return Session(in_parts(model))


def replaced(
    evidence: Evidence, group: Group, kept: Array, *, refit: bool
) -> Iterator[tuple[str, list[Site], Array, list[Array]]]:
    """The weights that read a group when it is cut alone: name, readers, [features, outputs] with
    zeros where features go, and what the bias of each reader gains where survivors take over."""
    keep, constants = Keep.of({group: kept}), evidence.coupling.constants
    sharing: dict[str, list[Site]] = {}
    for site in evidence.readers(group):
        sharing.setdefault(site.linear.w, []).append(site)
    for name, readers in sharing.items():
        stay = kept_features(evidence.coupling, readers[0], keep)
        full = readers[0].matrix(constants[name])
        new, shifts = np.zeros_like(full), list[Array]()
        new[stay] = full[stay]
        uses = len(evidence.coupling.model.graph.initializers[name].uses())
        if refit and uses == len(readers):
            own = [evidence.calibration.moments[site.name] for site in readers]
            new[stay], shifts = absorb_together(own, full, stay)
        yield name, readers, new, shifts


def change(evidence: Evidence, group: Group, kept: Array, *, refit: bool) -> Change:
    """What cutting a group alone does to the model, where that `tells` all: weights of its readers
    move; where no weight reads it, one side of each product of activations loses units, which is
    as if both did."""
    moved = {}
    for _, sharing, new, shifts in replaced(evidence, group, kept, refit=refit):
        step = (new - evidence.weight(sharing[0])).astype(np.float32)
        for k, site in enumerate(sharing):
            moved[site.name] = step, shifts[k] if shifts else np.zeros(step.shape[1])
    if moved:
        return Change(weights=moved)
    keep, axes = Keep.of({group: kept}), evidence.coupling.axes
    pairs = pairs_of(evidence.coupling, group)
    return Change(silenced={p.left: (p.left_axis, ~keep.mask(axes[p.left])) for p in pairs})


def tells(evidence: Evidence, group: Group) -> bool:
    """Whether `change` tells all that cutting a group does."""
    coupling = evidence.coupling
    if evidence.readers(group):
        return covered(coupling, group)
    return bool(pairs_of(coupling, group)) and silenced_by_weights(coupling, group)


def _made(evidence: Evidence) -> dict[Term, list[str]]:
    """For every group that no weight reads but zero weights silence, these weights."""
    found = {}
    for group in evidence.coupling.free:
        if not evidence.readers(group) and silenced_by_weights(evidence.coupling, group):
            constants = evidence.coupling.constants
            names = [name for name, _ in group.touches if constants[name].dtype.kind == "f"]
            found[group.atom] = list(dict.fromkeys(names))
    return found


def covered(coupling: Coupling, group: Group) -> bool:
    """Whether every op that contracts over the group is a linear site of known weight."""
    linear = {site.node for site in coupling.linears_reading(group)}
    axes = coupling.axes
    for node in coupling.model.graph:
        if node in linear:
            continue
        data = [v for v in reads(node) if v.name not in coupling.constants]
        read = any(_carries(axes.get(v.name or "", ()), group) for v in data)
        made = any(_carries(axes.get(v.name or "", ()), group) for v in node.outputs)
        if read and not made and node.op_type != "Shape":
            return False
    return True


def _carries(axes: Sequence[object], group: Group) -> bool:
    return any(group.atom in leaves(term) for term in axes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Alone:
    """What cutting one group alone costs: measured over predicted at each of some widths
    (descending), and nats per sample where keeping nothing is a choice."""

    widths: tuple[int, ...]
    ratios: tuple[float, ...]
    nothing: float | None = None


def widths_of(ranking: Ranking, shares: Sequence[float]) -> list[int]:
    """Where a ranking is measured, descending; what is said to cost nothing has no scale."""
    units, loss = ranking.order.shape[-1], np.minimum.accumulate(ranking.loss)
    widths = sorted({max(1, round(share * units)) for share in shares}, reverse=True)
    return [width for width in widths if loss[width] > 0]


def _ratios(ranking: Ranking, widths: Sequence[int], nats: Iterable[float]) -> tuple[float, ...]:
    loss = np.minimum.accumulate(ranking.loss)
    pairs = zip(widths, nats, strict=True)
    return tuple(max(float(n), FLOOR) / max(float(loss[w]), FLOOR) for w, n in pairs)


def alone(
    ranking: Ranking, meter: Callable[[Array], float], *, removable: bool = False
) -> Alone | None:
    """Run a ranking's cuts; None where it says that no width costs anything."""
    widths = widths_of(ranking, SHARES)
    if not widths:
        return None
    ratios = _ratios(ranking, widths, (meter(ranking.keep(w)) for w in widths))
    return Alone(tuple(widths), ratios, meter(ranking.keep(0)) if removable else None)


def to_second_order(
    rankings: Mapping[Group, Ranking], meter: Meter, removable: Callable[[Group], bool]
) -> dict[Group, Alone]:
    """All rankings in one pass, but those whose cut is more than a change of weights; nothing where
    gradients cannot be had."""
    listed = {g: widths_of(r, NEAR_AND_FAR) for g, r in rankings.items()}
    asked = {g: [*w, *([0] if removable(g) else [])] for g, w in listed.items() if w}
    cuts = [(g, rankings[g].keep(width)) for g, widths in asked.items() for width in widths]
    nats = meter.to_second_order(cuts)
    if nats is None:
        return {}
    left, found = iter(nats), {}
    for group, widths in asked.items():
        own = [float(next(left)) for _ in widths]
        if not np.isfinite(own).all():
            continue
        count = len(listed[group])
        ratios = _ratios(rankings[group], widths[:count], own[:count])
        found[group] = Alone(tuple(widths[:count]), ratios, own[-1] if count < len(own) else None)
    in_nats = {group: made for group, made in found.items() if rankings[group].nats}
    return {**found, **_drawn_together(in_nats)}


def _drawn_together(found: Mapping[Group, Alone]) -> dict[Group, Alone]:
    """Ratios halfway, as logarithms, to what all of them have in common: a prediction in nats by
    itself tells as much of what a group costs beside the others as its cut alone does."""
    logs = {group: np.log(made.ratios) for group, made in found.items()}
    level = float(np.concatenate(list(logs.values())).mean()) if logs else 0.0
    return {
        group: replace(made, ratios=tuple(np.exp(level + TRUST * (logs[group] - level)).tolist()))
        for group, made in found.items()
    }


def calibrated(ranking: Ranking, measured: Alone | None) -> Curve:
    """The ranking's losses, scaled by what was measured; without that they stay as they are."""
    loss = np.minimum.accumulate(ranking.loss)
    if measured is None:
        return Curve(loss, ())
    widths = np.array(measured.widths)
    k = np.clip(np.arange(len(loss)), widths[-1], widths[0])
    along = np.interp(np.log(k), np.log(widths[::-1]), np.log(measured.ratios)[::-1])
    scaled = np.minimum.accumulate(loss * np.exp(along))
    if measured.nothing is not None:
        scaled[0] = max(measured.nothing, float(scaled[1]))
    return Curve(np.maximum(scaled, 0.0), measured.ratios)
