"""Gradient moments: what the outputs of a model hang on, exactly, from its torch twin.

With H the curvature of a sample's output divergence (`Head`: diag(p) - p p' of a softmax,
diag(1 / variance) of values, averaged over positions) and J the Jacobian from a site's outputs y,
G = sum J' H J: the Fisher information E g g' with g = d log p(class | x) / d y. It is computed as
H = L L' and one backward pass per column of L. Up to `EXACT_COLUMNS` columns that is exact; beyond,
the columns are mixed with random signs, `DRAWS` times, which leaves G unbiased. Rows of one sample
that have an output each (tokens) get signs of their own, so that their products cancel.

The same passes give d log p / d m for a variable m (= 1) that multiplies a channel of a site's x
throughout one sample: what `taylor` and `fisher` rank by, there with the labels' loss on request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from mipack.calibrate.heads import Head
from mipack.calibrate.moments import FEATURES_MOST, GradientMoments
from mipack.calibrate.rows import RowMap
from mipack.calibrate.sites import Site
from mipack.calibrate.taps import Answers, Batches, BatchLike
from mipack.couple.solve import Coupling
from mipack.errors import InputError
from mipack.layout import Term
from mipack.twin.curvature import columns, directions, score_gradient
from mipack.twin.twin import Edits, Twin

Array = np.ndarray[Any, Any]
Tensor = torch.Tensor
EXACT_COLUMNS = 8
"""Backward passes per batch that are affordable for an exact average over the classes."""
DRAWS = 2
"""Random mixtures of the columns where there are more."""
MASK_MOST = 1_024
"""Sites of more channels keep only the squares of their mask gradients."""
CHUNK = 4_096


def gradient_moments(
    coupling: Coupling,
    sites: Sequence[Site],
    batches: Batches,
    known: Answers,
    rows: RowMap,
    *,
    labels: Sequence[Array] | None = None,
    model: ir.Model | None = None,
    seed: int = 0,
    device: str = "cpu",
    advance: Callable[[int], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> dict[str, GradientMoments]:
    """Sums over the data, by the name of the site.

    `labels` (one array per batch) give the loss that mask gradients are of; without them it is the
    model's own distribution. `model` is the coupling's with some of it cut, if not that itself.

    Raises UnsupportedError, naming the node, where an op has no torch function; InputError where
    no sample has a finite gradient, labels do not fit, or there is no output to speak of.
    """
    if not known.heads:
        raise InputError(
            "no output of the model has a gradient to speak of", hint="use --signal identity"
        )
    collector = _Collector(coupling, sites, known.heads, rows, seed, device)
    twin = Twin(model if model is not None else coupling.model, device)
    given = iter(labels) if labels is not None else None
    for batch in batches():
        collector.add(twin, batch, next(given) if given is not None else None)
        advance(batch.samples)
    if collector.dropped:
        warn(f"{collector.dropped} samples have no finite gradient and were left out")
    if not collector.samples:
        raise InputError(
            "the gradients of every calibration sample are infinite or NaN",
            hint="use a signal that needs no gradients",
        )
    return collector.results()


class _Products:
    """Sums over rows of r r', or of r^2 where that is too much; rows are buffered."""

    def __init__(self, most: int) -> None:
        self._most, self._waiting = most, 0
        self._buffer: list[Tensor] = []
        self._total: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """rows [r, n]."""
        self._buffer.append(rows)
        self._waiting += len(rows)
        if self._waiting >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if not self._buffer:
            return
        rows = torch.cat(self._buffer)
        self._buffer, self._waiting = [], 0
        full = rows.shape[1] <= self._most
        made = (rows.T @ rows if full else rows.square().sum(0)).double()
        self._total = made if self._total is None else self._total + made

    def result(self, width: int) -> Array:
        """[n, n] or [n], on the host; zeros where there were no rows."""
        self._flush()
        if self._total is None:
            return np.zeros((width, width) if width <= self._most else width)
        return self._total.cpu().numpy()


@dataclass(slots=True)
class _Sums:
    """What is summed at one site."""

    width: int = 0
    channels: int = 0
    rows: float = 0.0
    first: Any = 0.0
    outer: _Products = field(default_factory=lambda: _Products(FEATURES_MOST))
    masks: _Products = field(default_factory=lambda: _Products(MASK_MOST))


@dataclass(frozen=True, slots=True)
class _Place:
    """The rows of one side of a site in a batch: the sample of each and which carry data.

    `even`: every sample has the same number of rows, one sample after the other.
    """

    axis: int
    owner: Tensor
    kept: Tensor | None
    samples: int
    even: bool

    def rows(self, tensor: Tensor) -> Tensor:
        """[rows, size of the axis]; those without data are zero."""
        flat = tensor.movedim(self.axis, -1)
        flat = flat.reshape(-1, flat.shape[-1])
        return flat if self.kept is None else flat * self.kept.unsqueeze(1)

    def sums(self, rows: Tensor) -> Tensor:
        """Rows summed by sample: [samples, size]."""
        if self.even:
            return rows.reshape(self.samples, -1, rows.shape[1]).sum(1)
        total = torch.zeros(self.samples, rows.shape[1], device=rows.device)
        return total.index_add(0, self.owner, rows)


class _Tapped:
    """One run of the twin in which gradients can be taken at the operands and results of sites."""

    def __init__(self, twin: Twin, sites: Sequence[Site], feeds: Any, heads: Sequence[str]) -> None:
        self.x: dict[str, Tensor] = {}
        self.y: dict[str, Tensor] = {}
        nodes = {node.name: node for node in twin.model.graph}
        values, operands = {}, {}
        for site in sites:
            node = nodes.get(site.name)
            slots = [] if node is None else [v.name if v else "" for v in node.inputs]
            if node is not None and site.linear.x in slots:
                operands[site.name, slots.index(site.linear.x)] = self._tap(self.x, site.name)
                values[node.outputs[0].name or ""] = self._tap(self.y, site.name)
        found = twin.run(feeds, heads, Edits(values, operands))
        self.outputs = {name: out for name, out in found.items() if out.requires_grad}

    @staticmethod
    def _tap(into: dict[str, Tensor], name: str) -> Callable[[Tensor], Tensor]:
        def edit(tensor: Tensor) -> Tensor:
            here = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach()
            into[name] = here.requires_grad_()
            return into[name]

        return edit

    def gradients(
        self, vectors: Mapping[str, Tensor], *, last: bool
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(site, d / dy, x d / dx) of the outputs' product with vectors."""
        names = [name for name in vectors if name in self.outputs]
        points = [*self.y.values(), *self.x.values()]
        if not names or not points:
            return
        found = torch.autograd.grad(
            [self.outputs[name] for name in names],
            points,
            [vectors[name] for name in names],
            retain_graph=not last,
            allow_unused=True,
        )
        count = len(self.y)
        for k, name in enumerate(self.y):
            gy, gx = found[k], found[count + k]
            x = self.x[name].detach()
            yield name, _or_zero(gy, self.y[name]), x * gx if gx is not None else x * 0


def _or_zero(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


class _Collector:
    """Adds batches up."""

    def __init__(
        self,
        coupling: Coupling,
        sites: Sequence[Site],
        heads: Sequence[Head],
        rows: RowMap,
        seed: int,
        device: str,
    ) -> None:
        self._coupling, self._rows, self._device = coupling, rows, device
        self._sites = {site.name: site for site in sites}
        self._heads = {head.name: head for head in heads}
        self._sums = {site.name: _Sums() for site in sites}
        self._random = torch.Generator().manual_seed(seed)
        self.samples, self.dropped = 0, 0

    def results(self) -> dict[str, GradientMoments]:
        """The sums so far, on the host."""
        found = {}
        for name, total in self._sums.items():
            outer = total.outer.result(total.width)
            first = total.first
            found[name] = GradientMoments(
                total.rows,
                float(self.samples),
                outer,
                first.cpu().numpy() if isinstance(first, Tensor) else np.zeros(total.channels),
                total.masks.result(total.channels),
            )
        return found

    def add(self, twin: Twin, batch: BatchLike, labels: Array | None) -> None:
        """Run a batch and all its backward passes."""
        tapped = _Tapped(twin, list(self._sites.values()), batch.feeds, list(self._heads))
        places = {name: self._places(tapped, name, batch) for name in tapped.y}
        passes = list(self._passes(tapped.outputs, batch))
        labelled = None if labels is None else self._labelled(tapped.outputs, labels)
        count = len(passes) + (labelled is not None)
        bad: set[int] = set()
        masks: dict[str, list[Tensor]] = {name: [] for name in tapped.y}
        for k, vectors in enumerate([*passes, *([labelled] if labelled else [])]):
            found = list(tapped.gradients(vectors, last=k == count - 1))
            bad |= _bad_samples(found, places)
            for name, gy, gx in found:
                y, x = places[name]
                if k < len(passes):
                    self._sums[name].outer.add(_without(y.rows(gy), y, bad))
                if labelled is None or k == len(passes):
                    masks[name].append(x.sums(_without(x.rows(gx), x, bad)))
        for name, parts in masks.items():
            self._add_masks(name, parts)
        for name in places:
            self._count(name, tapped, places[name][0], bad)
        self.samples += batch.samples - len(bad)
        self.dropped += len(bad)

    def _count(self, name: str, tapped: _Tapped, place: _Place, bad: set[int]) -> None:
        total, linear = self._sums[name], self._sites[name].linear
        total.width = tapped.y[name].shape[linear.y_axis]
        total.channels = tapped.x[name].shape[linear.x_axis]
        data = torch.ones(len(place.owner), device=self._device)
        data = data if place.kept is None else place.kept
        total.rows += float(_without(data.unsqueeze(1), place, bad).sum())

    def _add_masks(self, name: str, parts: Sequence[Tensor]) -> None:
        if not parts:
            return
        together = torch.stack(list(parts))
        total = self._sums[name]
        total.first = total.first + together.square().sum(0).sqrt().sum(0).double()
        total.masks.add(together.flatten(0, 1))

    # -- rows

    def _places(self, tapped: _Tapped, name: str, batch: BatchLike) -> tuple[_Place, _Place]:
        linear = self._sites[name].linear
        return (
            self._place(linear.y, linear.y_axis, tapped.y[name].shape, batch),
            self._place(linear.x, linear.x_axis, tapped.x[name].shape, batch),
        )

    def _place(self, name: str, axis: int, shape: Sequence[int], batch: BatchLike) -> _Place:
        axes = _without_axis(self._coupling.axes[name], axis)
        sizes = [n for k, n in enumerate(shape) if k != axis]
        weights = self._rows.weights(batch.feeds, batch.samples)
        if weights is None or not self._rows.knows(axes):  # rows of no sample: all of one
            owner = np.zeros(int(np.prod(sizes, dtype=np.int64)), np.int64)
            return _Place(axis, torch.from_numpy(owner).to(self._device), None, 1, True)
        self._rows.observe(batch.feeds)
        kept = self._rows.spread(weights, axes, sizes).reshape(-1) > 0
        owner = self._rows.spread(np.arange(len(weights)), axes, sizes).reshape(-1)
        each = len(owner) // len(weights)
        even = np.array_equal(owner, np.repeat(np.arange(len(weights)), each))
        return _Place(
            axis,
            torch.from_numpy(np.ascontiguousarray(owner)).to(self._device),
            None if kept.all() else torch.from_numpy(kept.astype(np.float32)).to(self._device),
            len(weights),
            even,
        )

    # -- directions

    def _passes(
        self, outputs: Mapping[str, Tensor], batch: BatchLike
    ) -> Iterator[dict[str, Tensor]]:
        """What each backward pass starts from, per output."""
        heads = {name: self._heads[name] for name in outputs}
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
        head = self._heads[name]
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

    def _labelled(self, outputs: Mapping[str, Tensor], labels: Array) -> dict[str, Tensor]:
        """The gradient of the labels' cross-entropy in the first head's output."""
        head = next(iter(self._heads.values()))
        output = outputs.get(head.name)
        if head.kind == "values" or output is None or output.dim() != 2:
            raise InputError("labels need a model whose first output is one of classes")
        classes = output.shape[1]
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise InputError(
                f"labels run from {labels.min()} to {labels.max()}, the model has {classes} classes"
            )
        return {head.name: score_gradient(head.kind, output, labels)}


def _without_axis(axes: Sequence[Term], axis: int) -> list[Term]:
    return [term for k, term in enumerate(axes) if k != axis]


def _bad_samples(
    found: Sequence[tuple[str, Tensor, Tensor]],
    places: Mapping[str, tuple[_Place, _Place]],
) -> set[int]:
    """Samples with a gradient that is not finite."""
    bad: set[int] = set()
    for name, *tensors in found:
        for tensor, place in zip(tensors, places[name], strict=True):
            if not bool(torch.isfinite(tensor.sum())):
                hit = ~torch.isfinite(place.rows(tensor)).all(1)
                bad.update(int(i) for i in place.owner[hit].unique().tolist())
    return bad


def _without(rows: Tensor, place: _Place, bad: set[int]) -> Tensor:
    """Rows of bad samples set to zero."""
    if not bad:
        return rows
    hit = torch.isin(place.owner, torch.tensor(sorted(bad), device=rows.device))
    return torch.where(hit.unsqueeze(1), 0.0, rows)
