"""Curves in nats: each group's predicted loss, scaled by the KL that cutting it alone really costs.

A group is cut alone at one or two widths and, where it may go, entirely; its readers are locally
refitted and the model is run on calibration samples. Where every reader is a linear site, that is
the original with other weights, fed in place of its initializers from where it first reads one of
them; so it is where zero weights silence what only products of activations read; elsewhere a masked
model is built.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipack.calibrate.ridge import absorb_together
from mipack.calibrate.sites import Array, Site, kept_features
from mipack.calibrate.taps import Answers, BatchLike, crop
from mipack.couple.solve import Coupling, Group
from mipack.couple.zeros import silenced_by_weights
from mipack.graph.adjust import ensure_bias, set_weight, value_of
from mipack.graph.bodies import reads
from mipack.graph.load import runnable
from mipack.graph.names import names_of, node_names
from mipack.graph.stepper import Stepper
from mipack.layout import Term, leaves
from mipack.runtime.session import Session
from mipack.select.eliminate import Ranking
from mipack.select.evidence import Evidence
from mipack.surgery.keep import Keep
from mipack.surgery.mask import masked

SHARES, IN_NATS = (0.5, 0.25), (0.35,)
"""The widths at which a group is cut alone; of a curve in nats only the scale is in doubt."""
TRUST = 0.5
"""How far a measured ratio counts against what all groups have in common."""
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
        self, evidence: Evidence, known: Answers, batches: Sequence[BatchLike], refit: bool
    ) -> None:
        self._evidence, self._known, self._refit = evidence, known, refit
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
        self._walk, self._at = self._from_the_start(), 0
        self._rest: tuple[Term, Session] | None = None

    def kl(self, group: Group, kept: Array) -> float:
        """Mean nats per sample between the original and itself with one group cut."""
        changed = self._weights(group, kept)
        if group.atom in self._made:
            changed |= self._zeroed(group, kept)
        if group.atom in self._made or covered(self._evidence.coupling, group):
            session, feeds = self._from_first_change(group, changed)
        else:
            session, changed = self._silenced(group, kept, changed), {}
            feeds = [dict(batch.feeds) for batch in self._batches]
        head = self._known.head
        assert head is not None
        total, samples = 0.0, 0
        for batch, given, want in zip(self._batches, feeds, self._known.outputs, strict=True):
            got = crop(session.run({**given, **changed}, [head.name]), batch)
            total += float(head.divergence(want[head.name], got[head.name]).sum())
            samples += batch.samples
        return total / max(samples, 1)

    def _from_the_start(self) -> Stepper:
        return Stepper(self._model, [batch.feeds for batch in self._batches])

    def _from_first_change(
        self, group: Group, changed: Collection[str]
    ) -> tuple[Session, list[dict[str, Array]]]:
        """The rest of the model behind the first node that reads a weight which changes, and what
        it reads of the batches. Groups are best measured in the order of the graph."""
        head = self._known.head
        assert head is not None
        initializers = self._model.graph.initializers
        readers = [node for name in changed for node, _ in initializers[name].uses()]
        first = min(self._order.get(node, 0) for node in readers)  # 0: inside a body
        if first < self._at:
            self._walk, self._rest = self._from_the_start(), None
        if first != self._at:
            self._walk.move_before(self._nodes[first])
        self._at = first
        if self._rest is None or self._rest[0] != group.atom:
            self._rest = group.atom, self._walk.session([head.name], list(changed))
        return self._rest[1], self._walk.values

    def _weights(self, group: Group, kept: Array) -> dict[str, Array]:
        changed: dict[str, Array] = {}
        keep = Keep.of({group: kept})
        sharing: dict[str, list[Site]] = {}
        for site in self._evidence.readers(group):
            sharing.setdefault(site.linear.w, []).append(site)
        for name, readers in sharing.items():
            old, first = self._start[name], readers[0]
            stay, full = kept_features(self._evidence.coupling, first, keep), first.matrix(old)
            new = np.zeros_like(full)
            new[stay] = full[stay]
            if self._refit and self._uses(name) == len(readers):
                own = [self._evidence.calibration.moments[site.name] for site in readers]
                new[stay], shifts = absorb_together(own, full, stay)
                for site, shift in zip(readers, shifts, strict=True):
                    bias = self._start[self._bias[site.name]]
                    moved = bias + shift.reshape(bias.shape)
                    changed[self._bias[site.name]] = moved.astype(bias.dtype)
            changed[name] = first.weight(new, old)
        return changed

    def _zeroed(self, group: Group, kept: Array) -> dict[str, Array]:
        """The weights that make a group's units, zero at those that go."""
        keep, axes = Keep.of({group: kept}), self._evidence.coupling.axes
        return {
            name: np.where(keep.mask(axes[name]), array, array.dtype.type(0))
            for name in self._made[group.atom]
            for array in [self._start[name]]
        }

    def _uses(self, weight: str) -> int:
        return len(self._evidence.coupling.model.graph.initializers[weight].uses())

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
        with runnable(model) as source:
            return Session(source)


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


def alone(
    ranking: Ranking, meter: Callable[[Array], float], *, removable: bool = False
) -> Alone | None:
    """Measure a ranking; None where it says that no width costs anything."""
    units, loss = ranking.order.shape[-1], np.minimum.accumulate(ranking.loss)
    shares = IN_NATS if ranking.nats else SHARES
    widths = sorted({max(1, round(share * units)) for share in shares}, reverse=True)
    widths = [w for w in widths if loss[w] > 0]  # what is said to cost nothing has no scale
    if not widths:
        return None
    ratios = [max(meter(ranking.keep(w)), FLOOR) / max(float(loss[w]), FLOOR) for w in widths]
    return Alone(tuple(widths), tuple(ratios), meter(ranking.keep(0)) if removable else None)


def common_level(measured: Iterable[tuple[Ranking, Alone | None]]) -> float:
    """The mean log ratio of all groups whose losses are predicted in nats; 0 where none are."""
    logs = [np.log(found.ratios) for ranking, found in measured if found and ranking.nats]
    return float(np.concatenate(logs).mean()) if logs else 0.0


def calibrated(ranking: Ranking, measured: Alone | None, level: float = 0.0) -> Curve:
    """The ranking's losses, scaled by what was measured; without that they stay as they are.

    Where losses are predicted in nats, ratios are drawn halfway to the `level` that all groups have
    in common: what a group costs alone, on few samples, tells of what it costs beside the others
    no better than the prediction does.
    """
    loss = np.minimum.accumulate(ranking.loss)
    if measured is None:
        return Curve(loss, ())
    logs = np.log(measured.ratios)
    if ranking.nats:
        logs = level + TRUST * (logs - level)
    widths = np.array(measured.widths)
    k = np.clip(np.arange(len(loss)), widths[-1], widths[0])
    along = np.interp(np.log(k), np.log(widths[::-1]), logs[::-1])
    scaled = np.minimum.accumulate(loss * np.exp(along))
    if measured.nothing is not None:  # predicted too low by up to an order on MiniLM
        scaled[0] = max(measured.nothing, float(scaled[1]))
    return Curve(np.maximum(scaled, 0.0), measured.ratios)
