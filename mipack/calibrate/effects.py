"""What changes of weights cost to second order, many at once, from one pass over the data.

A change of the weights of some sites moves their outputs in row r by d_r = x_r dW + db. Along one
column of L (`mipack.calibrate.backward`) that moves a sample's answer by e = sum_r g_r . d_r, and
the divergence from the original is E sum e^2 / 2 over the columns. Rows are summed before they are
squared: what a convolution loses in every place, or a layer in every token, adds up or cancels,
which the Fisher information of single rows (`mipack.calibrate.gradients`) cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from mipack.calibrate.backward import Backward
from mipack.calibrate.sites import Array
from mipack.calibrate.taps import Batches, BatchLike


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to the model; nothing is done to the rest."""

    weights: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    """By the name of a site: dW [features, outputs] and db [outputs]."""
    silenced: Mapping[str, tuple[int, Array]] = field(default_factory=dict)
    """By the name of a value: an axis of it, and True (broadcast) at what becomes zero."""


MEMORY = 1 << 29
"""Bytes of changes held at a time; more take another pass over the data."""
SLOW = 8
"""How much slower a product of few rows is than one of many, by its multiply-adds."""


def second_order(backward: Backward, batches: Batches, changes: Iterable[Change]) -> Array:
    """Nats per sample that each change costs alone: [changes]. Changes are asked for as they fit
    into memory. Samples whose gradients are not finite are left out."""
    found = [_pass(backward, batches(), wave) for wave in _waves(changes)]
    return np.concatenate(found) if found else np.zeros(0)


def _waves(changes: Iterable[Change]) -> Iterator[list[Change]]:
    wave: list[Change] = []
    held = 0
    for change in changes:
        size = sum(dw.nbytes for dw, _ in change.weights.values())
        if wave and held + size > MEMORY:
            yield wave
            wave, held = [], 0
        wave.append(change)
        held += size
    if wave:
        yield wave


@dataclass(frozen=True, slots=True)
class _Moved:
    """All changes at one site: which they are part of, dW [changes, features, outputs] and db."""

    index: Sequence[int]
    dw: torch.Tensor
    db: torch.Tensor


def _moved(backward: Backward, changes: Sequence[Change]) -> dict[str, _Moved]:
    found: dict[str, list[int]] = {}
    for index, change in enumerate(changes):
        for name in change.weights:
            found.setdefault(name, []).append(index)
    return {
        name: _Moved(index, *map(backward.tensor, map(np.stack, zip(*parts, strict=True))))
        for name, index in found.items()
        for parts in [[changes[k].weights[name] for k in index]]
    }


def _pass(backward: Backward, batches: Iterable[BatchLike], changes: Sequence[Change]) -> Array:
    moved = _moved(backward, changes)
    total, samples = np.zeros(len(changes)), 0
    for batch in batches:
        effects = _effects(backward, batch, moved, changes)
        finite = torch.isfinite(effects).all(0).all(1)
        total += 0.5 * effects[:, finite].double().square().sum((0, 1)).cpu().numpy()
        samples += batch.samples - int((~finite).sum())
    return total / max(samples, 1)


def _effects(
    backward: Backward,
    batch: BatchLike,
    moved: Mapping[str, _Moved],
    changes: Sequence[Change],
) -> torch.Tensor:
    """[columns, samples, changes]."""
    values = {n: axis for change in changes for n, (axis, _) in change.silenced.items()}
    tapped = backward.run(batch, values)
    last = len(tapped.passes) - 1
    found = [tapped.gradients(vectors, last=k == last) for k, vectors in enumerate(tapped.passes)]
    slopes = [made for made in found if made is not None]
    places = [*(y for y, _ in tapped.places.values()), *tapped.value_places.values()]
    most = max((place.samples for place in places), default=0)
    effects = backward.tensor(np.zeros((len(slopes), most, len(changes))))
    if not slopes:
        return effects
    for name, (place, _) in tapped.places.items():
        if name not in moved:
            continue
        x = backward.sites[name].rows(tapped.x[name].detach()).flatten(0, -2)
        gradients = [place.by_sample(place.rows(made.y[name])) for made in slopes]
        told = _told(place.by_sample(x), gradients, moved[name])
        effects[:, : place.samples, moved[name].index] += told
    for index, change in enumerate(changes):
        for name, (_, gone) in change.silenced.items():
            place = tapped.value_places[name]
            lost = tapped.values[name].detach() * backward.tensor(gone)
            for column, made in enumerate(slopes):
                rows = place.rows(lost * made.values[name]).sum(1, keepdim=True)
                effects[column, : place.samples, index] -= place.sums(rows)[:, 0]
    return effects


def _told(x: torch.Tensor, gradients: Sequence[torch.Tensor], moved: _Moved) -> torch.Tensor:
    """What changes at one site do, from x [samples, rows, features] and a gradient [samples, rows,
    outputs] per column: [columns, samples, changes]. By the change of every row, or by the gradient
    of each sample's weights, X' G, which serves all changes: whichever is faster."""
    (samples, rows), count = x.shape[:2], len(moved.dw)
    found = torch.stack([g.sum(1) @ moved.db.T for g in gradients])
    if len(gradients) * (rows + SLOW * count) >= count * rows:
        for index, dw in enumerate(moved.dw):
            shift = x @ dw
            for column, g in enumerate(gradients):
                found[column, :, index] += (shift * g).sum((1, 2))
        return found
    flat = moved.dw.flatten(1)
    for column, g in enumerate(gradients):
        for k in range(samples):  # one at a time stays in the cache
            found[column, k] += flat @ (x[k].mT @ g[k]).flatten()
    return found
