"""Gradient moments: what the outputs of a model hang on, exactly, from its torch twin.

With J the Jacobian from a site's outputs y and H the curvature of a sample's output divergence,
G = sum J' H J: the Fisher information E g g' with g = d log p(class | x) / d y, from the backward
passes of `mipack.calibrate.backward`.

The same passes give d log p / d m for a variable m (= 1) that multiplies a channel of a site's x
throughout one sample: what `taylor` and `fisher` rank by, there with the labels' loss on request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from mipack.calibrate.backward import Backward, Place, Tapped, without
from mipack.calibrate.moments import FEATURES_MOST, GradientMoments
from mipack.calibrate.rows import RowMap
from mipack.calibrate.sites import Site
from mipack.calibrate.taps import Answers, Batches, BatchLike
from mipack.couple.solve import Coupling
from mipack.errors import InputError
from mipack.twin.curvature import score_gradient

Array = np.ndarray[Any, Any]
Tensor = torch.Tensor
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
    backward = Backward(coupling, sites, known.heads, rows, seed=seed, device=device, model=model)
    collector = _Collector(backward)
    given = iter(labels) if labels is not None else None
    for batch in batches():
        collector.add(batch, next(given) if given is not None else None)
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
    first: Any = 0.0
    outer: _Products = field(default_factory=lambda: _Products(FEATURES_MOST))
    masks: _Products = field(default_factory=lambda: _Products(MASK_MOST))


class _Collector:
    """Adds batches up."""

    def __init__(self, backward: Backward) -> None:
        self._backward = backward
        self._sums = {name: _Sums() for name in backward.sites}
        self.samples, self.dropped = 0, 0

    def results(self) -> dict[str, GradientMoments]:
        """The sums so far, on the host."""
        found = {}
        for name, total in self._sums.items():
            outer = total.outer.result(total.width)
            first = total.first
            found[name] = GradientMoments(
                float(self.samples),
                outer,
                first.cpu().numpy() if isinstance(first, Tensor) else np.zeros(total.channels),
                total.masks.result(total.channels),
            )
        return found

    def add(self, batch: BatchLike, labels: Array | None) -> None:
        """Run a batch and all its backward passes."""
        tapped = self._backward.run(batch)
        places, passes = tapped.places, tapped.passes
        labelled = None if labels is None else self._labelled(tapped.outputs, labels)
        count = len(passes) + (labelled is not None)
        bad: set[int] = set()
        masks: dict[str, list[Tensor]] = {name: [] for name in tapped.y}
        for k, vectors in enumerate([*passes, *([labelled] if labelled else [])]):
            slopes = tapped.gradients(vectors, last=k == count - 1)
            if slopes is None:
                continue
            found = [(n, gy, tapped.x[n].detach() * slopes.x[n]) for n, gy in slopes.y.items()]
            bad |= _bad_samples(found, places)
            for name, gy, gx in found:
                y, x = places[name]
                if k < len(passes):
                    self._sums[name].outer.add(without(y.rows(gy), y, bad))
                if labelled is None or k == len(passes):
                    masks[name].append(x.sums(without(x.rows(gx), x, bad)))
        for name, parts in masks.items():
            self._add_masks(name, parts)
        for name in places:
            self._measure(name, tapped)
        self.samples += batch.samples - len(bad)
        self.dropped += len(bad)

    def _measure(self, name: str, tapped: Tapped) -> None:
        total, linear = self._sums[name], self._backward.sites[name].linear
        total.width = tapped.y[name].shape[linear.y_axis]
        total.channels = tapped.x[name].shape[linear.x_axis]

    def _add_masks(self, name: str, parts: Sequence[Tensor]) -> None:
        if not parts:
            return
        together = torch.stack(list(parts))
        total = self._sums[name]
        total.first = total.first + together.square().sum(0).sqrt().sum(0).double()
        total.masks.add(together.flatten(0, 1))

    def _labelled(self, outputs: Mapping[str, Tensor], labels: Array) -> dict[str, Tensor]:
        """The gradient of the labels' cross-entropy in the first head's output."""
        head = next(iter(self._backward.heads.values()))
        output = outputs.get(head.name)
        if head.kind == "values" or output is None or output.dim() != 2:
            raise InputError("labels need a model whose first output is one of classes")
        classes = output.shape[1]
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise InputError(
                f"labels run from {labels.min()} to {labels.max()}, the model has {classes} classes"
            )
        return {head.name: score_gradient(head.kind, output, labels)}


def _bad_samples(
    found: Sequence[tuple[str, Tensor, Tensor]],
    places: Mapping[str, tuple[Place, Place]],
) -> set[int]:
    """Samples with a gradient that is not finite."""
    bad: set[int] = set()
    for name, *tensors in found:
        for tensor, place in zip(tensors, places[name], strict=True):
            if not bool(torch.isfinite(tensor.sum())):
                hit = ~torch.isfinite(place.rows(tensor)).all(1)
                bad.update(int(i) for i in place.owner[hit].unique().tolist())
    return bad
