"""Closed-form refit: survivors take over, layer by layer from the input.

First every reader of a cut group absorbs what the survivors tell of the cut units (moments of the
original alone). Then, bottom-up on the cut model's own, already changed activations x~, the weight
moves by the ridge regression of what is still missing:

    dW, db = argmin || (s - s~) - x~ dW - db ||^2 + ridge || dW ||^2

A contraction of which nothing is left is a constant that takes the mean of what is missing. s is
the furthest tensor that the output y reaches through additions alone, in the original and in
the cut model; so in a residual branch the target is the corrected stream, and errors do not pile
up (papers.md 5.7). Layers behind a cut that lost nothing themselves are refitted too (`reach`). A
site whose error on held-out rows does not fall keeps its weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir
import torch

from mipack.calibrate.moments import FEATURES_MOST, Calibration
from mipack.calibrate.ridge import absorb_together, shrinkage
from mipack.calibrate.rows import RowMap
from mipack.calibrate.sites import Array, Site, kept_features
from mipack.calibrate.taps import BatchLike, row_owners
from mipack.couple.solve import Coupling
from mipack.graph.adjust import set_weight, value_of
from mipack.graph.names import names_of, node_names
from mipack.graph.stepper import Stepper
from mipack.layout import size_of
from mipack.refit.reach import sites_behind
from mipack.surgery.branches import shift_of
from mipack.surgery.keep import Keep


@dataclass(frozen=True, slots=True)
class Refitted:
    """A refitted model and the initializers whose values changed or were added."""

    model: ir.Model
    changed: tuple[str, ...]
    biases: Mapping[str, str]
    """Site -> the initializer that is its bias."""
    improved: int
    sites: int


def refit_sites(coupling: Coupling, sites: Sequence[Site], keep: Keep) -> list[Site]:
    """Sites that lost features and whose weight only such sites read, and those that lost all."""
    cut = [s for s in sites if keep.cuts(coupling.axes[s.linear.x][s.linear.x_axis])]
    readers = Counter(site.linear.w for site in cut)
    return [
        site
        for site in cut
        if coupling.constants[site.linear.w].dtype.kind == "f"
        and (_uses(coupling, site) == readers[site.linear.w] or _is_constant(coupling, site, keep))
    ]


def _is_constant(coupling: Coupling, site: Site, keep: Keep) -> bool:
    """Whether no feature is left: in the cut model a constant stands for the site."""
    return keep.size(coupling.axes[site.linear.x][site.linear.x_axis]) == 0


def _uses(coupling: Coupling, site: Site) -> int:
    return len(coupling.model.graph.initializers[site.linear.w].uses())


def local(
    coupling: Coupling,
    sites: Sequence[Site],
    keep: Keep,
    cut: ir.Model,
    calibration: Calibration,
    *,
    repair: bool = False,
) -> Refitted:
    """Readers absorb what survivors tell of the cut units; from moments of the original alone.

    Readers that share a weight are one regression over the rows of all, each with a bias of its
    own; with `repair` every output gets its variance back.
    """
    model = _copy(cut)
    graph, nodes, taken = model.graph, node_names(model.graph), names_of(model.graph)
    biases: dict[str, str] = {}
    chosen = [site for site in refit_sites(coupling, sites, keep) if site.name in nodes]
    sharing: dict[str, list[Site]] = {}
    for site in chosen:
        sharing.setdefault(site.linear.w, []).append(site)
    for readers in sharing.values():
        first, old = readers[0], coupling.constants[readers[0].linear.w]
        own = [calibration.moments[site.name] for site in readers]
        kept = kept_features(coupling, first, keep)
        new, shifts = absorb_together(own, first.matrix(old), kept, repair=repair)
        for site, shift in zip(readers, shifts, strict=True):
            outputs = keep.flat(coupling.axes[site.linear.y][site.linear.y_axis])
            biases[site.name] = shift_of(graph, site.linear, nodes[site.name], taken)
            if len(kept):
                set_weight(graph, site.linear.w, site.weight(new[:, outputs], old))
            _add_to(graph, biases[site.name], shift[outputs])
    weights = (site.linear.w for site in chosen if not _is_constant(coupling, site, keep))
    changed = dict.fromkeys([*weights, *biases.values()])
    return Refitted(model, tuple(changed), biases, len(chosen), len(chosen))


def bottom_up(
    coupling: Coupling,
    sites: Sequence[Site],
    keep: Keep,
    start: Refitted,
    batches: Sequence[BatchLike],
    held_out: Sequence[BatchLike],
    rows: RowMap,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> Refitted:
    """One walk through the data with the original and the cut model side by side."""
    model = _copy(start.model)
    nodes, dense_nodes = node_names(model.graph), node_names(coupling.model.graph)
    everything = [*batches, *held_out]
    dense = Stepper(coupling.model, [b.feeds for b in everything])
    ours = Stepper(model, [b.feeds for b in everything])
    chosen = [
        site
        for site in refit_sites(coupling, sites, keep)
        if site.name in start.biases
        and (_uses(coupling, site) == 1 or _is_constant(coupling, site, keep))
    ]
    others = sites_behind(coupling, model, keep, start.changed)
    biases = {**start.biases, **{site.name: bias for site, bias in others.items()}}
    order = {linear.node.name: index for index, linear in enumerate(coupling.said.linears)}
    chosen = sorted([*chosen, *others], key=lambda site: order[site.name])
    improved, changed = 0, dict.fromkeys(start.changed)
    for site in chosen:
        dense.move_before(dense_nodes[site.name])
        ours.move_before(nodes[site.name])
        if site.features <= FEATURES_MOST:
            gap = _Gap(coupling, site, keep, dense_nodes[site.name], nodes[site.name])
            fit, test = _sums(gap, dense, ours, everything, len(batches), site, rows)
            step = fit.solve()
            if test.error(step) < test.error(None):
                _move(model.graph, site, biases[site.name], fit.uncentred(step))
                changed |= dict.fromkeys([site.linear.w, biases[site.name]])
                improved += 1
        advance(1)
    return Refitted(model, tuple(changed), biases, improved, len(chosen))


class _Gap:
    """What is missing behind a site: s of the original minus s~ of the cut model, and x~."""

    def __init__(
        self, coupling: Coupling, site: Site, keep: Keep, dense: ir.Node, ours: ir.Node
    ) -> None:
        self._coupling, self._site = coupling, site
        self.dense, self.ours = _anchors(coupling, dense, ours)
        self.x = None
        if not _is_constant(coupling, site, keep):
            slot = [value.name if value else "" for value in dense.inputs].index(site.linear.x)
            read = ours.inputs[slot]  # of another name where its producer was given a bias
            self.x = (read.name if read else None) or site.linear.x
        axes = coupling.axes[self.dense]
        self._cuts = [(k, keep.flat(t)) for k, t in enumerate(axes) if keep.cuts(t)]

    def batch(
        self, want: Array, got: Mapping[str, Array], rows: RowMap, batch: BatchLike
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(x~, s - s~) of the rows that carry data: [r, kept features], [r, kept outputs]."""
        for axis, kept in self._cuts:
            want = np.take(want, kept, axis)
        missing = np.asarray(want, np.float32) - np.asarray(got[self.ours], np.float32)
        gap = torch.from_numpy(missing).movedim(self._site.linear.y_axis, -1)
        features, shape = self._features(got, gap.shape)
        index, _ = row_owners(self._coupling, self._site, shape, features.shape[:-1], rows, batch)
        features = features.reshape(prod(features.shape[:-1]), features.shape[-1])
        gap = gap.reshape(-1, gap.shape[-1])
        if index is None or len(index) == len(features):
            return features, gap
        chosen = torch.from_numpy(index)
        return features[chosen], gap[chosen]

    def _features(
        self, got: Mapping[str, Array], gap: Sequence[int]
    ) -> tuple[torch.Tensor, Sequence[int]]:
        """x~ as [places.., features], and the sizes of x; of a constant site without features."""
        if self.x is not None:
            x = torch.from_numpy(got[self.x])
            return self._site.rows(x).float(), x.shape
        places = [gap[0], prod(gap[1:-1])] if self._site.linear.window else list(gap[:-1])
        shape = list(places)
        shape.insert(self._site.linear.x_axis, 0)
        return torch.zeros((*places, 0)), shape


def _anchors(coupling: Coupling, dense: ir.Node, ours: ir.Node) -> tuple[str, str]:
    """Follow y through additions that keep its shape while nothing else reads it, in both graphs;
    a bias that only the cut model has is passed."""
    ends = []
    for node in (dense, ours):
        value, path = node.outputs[0], [node.outputs[0].name or ""]
        while len(value.uses()) == 1 and not value.is_graph_output():
            add = next(iter(value.uses()))[0]
            if add.op_type != "Add" or add.domain or len(set(add.inputs)) != 2:
                break
            if add.outputs[0].name in coupling.axes and not _same_sizes(
                coupling, add.outputs[0].name or "", dense.outputs[0].name or ""
            ):
                break
            value = add.outputs[0]
            path.append(value.name or "")
        ends.append(path)
    shared = [name for name in ends[0] if name in ends[1]]
    last = shared[-1]
    position = ends[1].index(last)
    tail = ends[1][position + 1 :]
    new_bias = tail[0] if tail and tail[0] not in coupling.axes else last
    return last, new_bias


def _same_sizes(coupling: Coupling, first: str, second: str) -> bool:
    sizes = [[size_of(t) for t in coupling.axes[name]] for name in (first, second)]
    return sizes[0] == sizes[1]


@dataclass(slots=True)
class _Sums:
    """Sums of a regression of gaps on rows with a constant 1: they give step and error.

    Rows are taken from a `centre` near their mean, which may be large against their deviation.
    """

    centre: torch.Tensor
    gram: torch.Tensor
    cross: torch.Tensor
    gaps: torch.Tensor
    count: float = 0.0

    @classmethod
    def empty(cls, centre: torch.Tensor, outputs: int) -> _Sums:
        n, kind = len(centre) + 1, torch.float64
        return cls(
            centre,
            torch.zeros((n, n), dtype=kind),
            torch.zeros((n, outputs), dtype=kind),
            torch.zeros((), dtype=kind),
        )

    def add(self, x: torch.Tensor, gap: torch.Tensor) -> None:
        """Rows x [r, features] and what is missing behind them [r, outputs]."""
        n, ones = x.shape[1], torch.ones(len(x))
        x = x - self.centre
        totals = ones @ x
        self.gram[:n, :n] += x.T @ x
        self.gram[n, :n] += totals
        self.gram[:n, n] += totals
        self.gram[n, n] += len(x)
        self.cross[:n] += x.T @ gap
        self.cross[n] += ones @ gap
        self.gaps += (gap.reshape(-1) @ gap.reshape(-1)).double()
        self.count += len(x)

    def solve(self) -> torch.Tensor:
        """[features + 1, outputs]: dW and, last, db; the ridge leaves the bias free."""
        n = len(self.gram) - 1
        count = max(self.count, 1.0)
        mean = self.gram[:n, n] / count
        spread = (self.gram.diagonal()[:n] / count - mean**2).clamp(min=0)
        level = float(spread.mean()) if n else 0.0
        ridge = torch.full((n + 1,), max(level, 1e-12) * shrinkage(count, n) * count)
        ridge[n] = 1e-9 * count
        return torch.linalg.solve(self.gram + torch.diag(ridge.double()), self.cross)

    def uncentred(self, step: torch.Tensor) -> torch.Tensor:
        """The same step for rows as they are."""
        return torch.cat([step[:-1], step[-1:] - self.centre.double() @ step[:-1]])

    def error(self, step: torch.Tensor | None) -> float:
        """Squared error on these rows after a step."""
        if step is None:
            return float(self.gaps)
        moved = torch.einsum("io,ij,jo->", step, self.gram, step)
        return float(self.gaps - 2 * (step * self.cross).sum() + moved)


def _sums(
    gap: _Gap,
    dense: Stepper,
    ours: Stepper,
    batches: Sequence[BatchLike],
    fitted: int,
    site: Site,
    rows: RowMap,
) -> tuple[_Sums, _Sums]:
    """The sums over the first `fitted` batches and over the rest."""
    wants = dense.peek([gap.dense], settled=True)
    gots = ours.peek(filter(None, [gap.ours, gap.x]))
    sums: list[_Sums] = []
    for k, (batch, want, got) in enumerate(zip(batches, wants, gots, strict=True)):
        x, missing = gap.batch(want[gap.dense], got, rows, batch)
        if not sums:
            centre = x.sum(0) / max(len(x), 1)
            sums = [_Sums.empty(centre, missing.shape[1]) for _ in range(2)]
        sums[k >= fitted].add(x, missing)
    return sums[0], sums[1]


def _move(graph: ir.Graph, site: Site, bias: str, step: torch.Tensor) -> None:
    if len(step) > 1:
        old = value_of(graph, site.linear.w)
        moved = site.matrix(old) + step[:-1].numpy()
        set_weight(graph, site.linear.w, site.weight(moved, old))
    _add_to(graph, bias, step[-1].numpy())


def _add_to(graph: ir.Graph, name: str, shift: Array) -> None:
    old = value_of(graph, name)
    set_weight(graph, name, (old + shift.reshape(old.shape)).astype(old.dtype))


def _copy(model: ir.Model) -> ir.Model:
    copy = model.clone()
    copy.meta.update(model.meta)
    return copy
