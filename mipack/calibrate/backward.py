"""Batches through the torch twin, forwards and backwards: what outputs hang on, at every site.

With H the curvature of a sample's output divergence (`Head`: diag(p) - p p' of a softmax,
diag(1 / variance) of values, averaged over positions), H = L L' and there is one backward pass per
column of L. Up to `EXACT_COLUMNS` columns that is exact; beyond, the columns are mixed with random
signs, `DRAWS` times, which leaves averages unbiased. Rows of one sample that have an output each
(tokens) get signs of their own, so that their products cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from mipack.calibrate.heads import Head
from mipack.calibrate.rows import RowMap
from mipack.calibrate.sites import Array, Site
from mipack.calibrate.taps import BatchLike
from mipack.couple.solve import Coupling
from mipack.layout import Term
from mipack.twin.curvature import columns, directions
from mipack.twin.twin import Edits, Twin

Tensor = torch.Tensor
EXACT_COLUMNS = 8
"""Backward passes per batch that are affordable for an exact average over the classes."""
DRAWS = 2
"""Random mixtures of the columns where there are more."""


@dataclass(frozen=True, slots=True)
class Place:
    """The rows of one side of a site in a batch: the sample of each and which carry data.

    `order`: the rows of each sample, [samples, most rows], where they do not lie one sample after
    the other, equally many of each; one beyond the last stands for none.
    """

    axis: int
    owner: Tensor
    kept: Tensor | None
    samples: int
    order: Tensor | None = None

    def rows(self, tensor: Tensor) -> Tensor:
        """[rows, size of the axis]; those without data are zero."""
        flat = tensor.movedim(self.axis, -1)
        flat = flat.reshape(-1, flat.shape[-1])
        return flat if self.kept is None else flat * self.kept.unsqueeze(1)

    def by_sample(self, rows: Tensor) -> Tensor:
        """[samples, rows of each, size] of [rows, size], filled up with zeros."""
        if self.order is None:
            return rows.reshape(self.samples, -1, rows.shape[1])
        return torch.cat([rows, torch.zeros_like(rows[:1])])[self.order]

    def sums(self, rows: Tensor) -> Tensor:
        """Rows summed by sample: [samples, size]."""
        return self.by_sample(rows).sum(1)


@dataclass(frozen=True, slots=True)
class Slopes:
    """d / dy and d / dx by site, d / dv by value, of the outputs' product with vectors."""

    y: Mapping[str, Tensor]
    x: Mapping[str, Tensor]
    values: Mapping[str, Tensor]


class Tapped:
    """One run of the twin in which gradients can be taken at the operands and results of sites, and
    at other values.

    `places` are the rows of each site's y and x, `value_places` those of the other values, `passes`
    what the backward passes start from.
    """

    places: Mapping[str, tuple[Place, Place]]
    value_places: Mapping[str, Place]
    passes: Sequence[Mapping[str, Tensor]]

    def __init__(
        self,
        twin: Twin,
        sites: Sequence[Site],
        feeds: Any,
        heads: Sequence[str],
        others: Collection[str] = (),
    ) -> None:
        self.x: dict[str, Tensor] = {}
        self.y: dict[str, Tensor] = {}
        self.values: dict[str, Tensor] = {}
        nodes = {node.name: node for node in twin.model.graph}
        values, operands = {name: self._tap(self.values, name) for name in others}, {}
        for site in sites:
            node = nodes.get(site.name)
            slots = [] if node is None else [v.name if v else "" for v in node.inputs]
            if node is not None and site.linear.x in slots:
                operands[site.name, slots.index(site.linear.x)] = self._tap(self.x, site.name)
                values[node.outputs[0].name or ""] = self._tap(self.y, site.name)
        found = twin.run(feeds, heads, Edits(values, operands))
        for site in sites:
            if site.linear.y in others and site.name in self.y:  # one value is tapped once
                self.values[site.linear.y] = self.y[site.name]
        self.outputs = {name: out for name, out in found.items() if out.requires_grad}

    @staticmethod
    def _tap(into: dict[str, Tensor], name: str) -> Callable[[Tensor], Tensor]:
        def edit(tensor: Tensor) -> Tensor:
            here = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach()
            into[name] = here.requires_grad_()
            return into[name]

        return edit

    def gradients(self, vectors: Mapping[str, Tensor], *, last: bool) -> Slopes | None:
        """None where nothing depends on anything."""
        names = [name for name in vectors if name in self.outputs]
        points = [*self.y.values(), *self.x.values(), *self.values.values()]
        if not names or not points:
            return None
        found = torch.autograd.grad(
            [self.outputs[name] for name in names],
            points,
            [vectors[name] for name in names],
            retain_graph=not last,
            allow_unused=True,
        )
        pairs = zip(found, points, strict=True)
        slopes = iter([torch.zeros_like(p) if g is None else g for g, p in pairs])
        return Slopes(*({name: next(slopes) for name in t} for t in (self.y, self.x, self.values)))


class Backward:
    """Runs batches so that gradients can be taken at sites, in the directions that count."""

    def __init__(
        self,
        coupling: Coupling,
        sites: Sequence[Site],
        heads: Sequence[Head],
        rows: RowMap,
        *,
        seed: int = 0,
        device: str = "cpu",
        model: ir.Model | None = None,
    ) -> None:
        """`model` is the coupling's with some of it cut, if not that itself.

        Raises UnsupportedError, naming the node, where an op has no torch function.
        """
        self.sites = {site.name: site for site in sites}
        self.heads = {head.name: head for head in heads}
        self._coupling, self._rows, self._device = coupling, rows, device
        self._random = torch.Generator().manual_seed(seed)
        self._twin = Twin(model if model is not None else coupling.model, device)

    def tensor(self, array: Array) -> Tensor:
        """An array as the twin computes: 32 bits, on its device."""
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self._device)

    def run(self, batch: BatchLike, values: Mapping[str, int] | None = None) -> Tapped:
        """A batch forwards, ready for its backward passes; `values` are others to take gradients
        at, each with the axis of which its rows are made."""
        others = values or {}
        sites, heads = list(self.sites.values()), list(self.heads)
        tapped = Tapped(self._twin, sites, batch.feeds, heads, others)
        tapped.places = {name: self._places(tapped, name, batch) for name in tapped.y}
        tapped.value_places = {
            name: self._place(name, others[name], value.shape, batch)
            for name, value in tapped.values.items()
        }
        tapped.passes = list(self._passes(tapped.outputs, batch))
        return tapped

    def _places(self, tapped: Tapped, name: str, batch: BatchLike) -> tuple[Place, Place]:
        linear = self.sites[name].linear
        return (
            self._place(linear.y, linear.y_axis, tapped.y[name].shape, batch),
            self._place(linear.x, linear.x_axis, tapped.x[name].shape, batch),
        )

    def _place(self, name: str, axis: int, shape: Sequence[int], batch: BatchLike) -> Place:
        axes = _without_axis(self._coupling.axes[name], axis)
        sizes = [n for k, n in enumerate(shape) if k != axis]
        weights = self._rows.weights(batch.feeds, batch.samples)
        if weights is None or not self._rows.knows(axes):  # rows of no sample: all of one
            owner = np.zeros(int(np.prod(sizes, dtype=np.int64)), np.int64)
            return Place(axis, torch.from_numpy(owner).to(self._device), None, 1)
        self._rows.observe(batch.feeds)
        kept = self._rows.spread(weights, axes, sizes).reshape(-1) > 0
        owner = self._rows.spread(np.arange(len(weights)), axes, sizes).reshape(-1)
        order = row_order(owner, len(weights))
        return Place(
            axis,
            torch.from_numpy(np.ascontiguousarray(owner)).to(self._device),
            None if kept.all() else torch.from_numpy(kept.astype(np.float32)).to(self._device),
            len(weights),
            None if order is None else torch.from_numpy(order).to(self._device),
        )

    def _passes(
        self, outputs: Mapping[str, Tensor], batch: BatchLike
    ) -> Iterator[dict[str, Tensor]]:
        """What each backward pass starts from, per output."""
        heads = {name: self.heads[name] for name in outputs}
        weights = {name: self._weights(name, out, batch) for name, out in outputs.items()}
        exact = sum(columns(h.kind, len(h.variance)) for h in heads.values()) <= EXACT_COLUMNS
        for _ in range(0 if exact else DRAWS):
            drawn = {name: self._draw(name, outputs[name], weights[name]) for name in heads}
            yield {name: column / DRAWS**0.5 for name, column in drawn.items()}
        for name in heads if exact else ():
            head = heads[name]
            found = directions(head.kind, outputs[name], head.variance, None)
            signs = self._signs(weights[name].shape)
            for column in found:
                yield {name: column * (signs * weights[name])}

    def _draw(self, name: str, output: Tensor, weights: Tensor) -> Tensor:
        head = self.heads[name]
        (found,) = directions(head.kind, output, head.variance, self._signs(output.shape))
        return found * weights

    def _signs(self, shape: Sequence[int]) -> Tensor:
        drawn = torch.randint(0, 2, tuple(shape), generator=self._random)
        return (2.0 * drawn - 1.0).to(self._device)

    def _weights(self, name: str, output: Tensor, batch: BatchLike) -> Tensor:
        """The root of the weight of each position of an output, broadcast to its columns: 1 over
        the positions of a sample that carry data, 0 for what only fills up."""
        shape = output.shape[:-1] if output.dim() > 1 else output.shape
        kept = np.ones(shape, np.float32)
        axes = self._coupling.axes.get(name, ())[: len(shape)]
        weights = self._rows.weights(batch.feeds, batch.samples)
        if weights is not None and self._rows.knows(axes):
            self._rows.observe(batch.feeds)
            kept = self._rows.spread(weights, axes, shape).astype(np.float32)
        flat = kept.reshape(len(kept), -1)
        flat = flat / np.maximum(flat.sum(1, keepdims=True), 1)
        found = torch.from_numpy(np.sqrt(flat).reshape(shape)).to(self._device)
        return found.unsqueeze(-1) if output.dim() > 1 else found


def _without_axis(axes: Sequence[Term], axis: int) -> list[Term]:
    return [term for k, term in enumerate(axes) if k != axis]


def row_order(owner: Array, samples: int) -> Array | None:
    """`Place.order` of rows by the sample of each."""
    counts = np.bincount(owner, minlength=samples)
    if np.array_equal(owner, np.repeat(np.arange(samples), len(owner) // samples)):
        return None
    filled = np.arange(counts.max()) < counts[:, None]
    order = np.full(filled.shape, len(owner))
    order[filled] = np.argsort(owner, kind="stable")
    return order


def without(rows: Tensor, place: Place, bad: set[int]) -> Tensor:
    """Rows of bad samples set to zero."""
    if not bad:
        return rows
    hit = torch.isin(place.owner, torch.tensor(sorted(bad), device=rows.device))
    return torch.where(hit.unsqueeze(1), 0.0, rows)
