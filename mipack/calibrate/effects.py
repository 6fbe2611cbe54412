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

from mipack.calibrate.backward import Backward, Place
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
    """One change at one site; `index`: which change it is part of."""

    index: int
    dw: torch.Tensor
    db: torch.Tensor


def _pass(backward: Backward, batches: Iterable[BatchLike], changes: Sequence[Change]) -> Array:
    moved: dict[str, list[_Moved]] = {}
    for index, change in enumerate(changes):
        for name, parts in change.weights.items():
            dw, db = (backward.tensor(part) for part in parts)
            moved.setdefault(name, []).append(_Moved(index, dw, db))
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
    moved: Mapping[str, Sequence[_Moved]],
    changes: Sequence[Change],
) -> torch.Tensor:
    """[columns, samples, changes]."""
    values = {n: axis for change in changes for n, (axis, _) in change.silenced.items()}
    tapped = backward.run(batch, values)
    last = len(tapped.passes) - 1
    found = [tapped.gradients(vectors, last=k == last) for k, vectors in enumerate(tapped.passes)]
    slopes = [made for made in found if made is not None]
    rows = [*(y for y, _ in tapped.places.values()), *tapped.value_places.values()]
    most = max((place.samples for place in rows), default=0)
    effects = backward.tensor(np.zeros((len(slopes), most, len(changes))))

    def add(place: Place, index: int, along: Sequence[torch.Tensor]) -> None:
        sums = place.sums(torch.stack(list(along), 1))
        effects[:, : place.samples, index] += sums.T

    for name, (place, _) in tapped.places.items() if slopes else ():
        own = [place.rows(made.y[name]) for made in slopes]
        x = backward.sites[name].rows(tapped.x[name].detach())
        for each in moved.get(name, ()):
            shift = torch.addmm(each.db, x.flatten(0, -2), each.dw)
            add(place, each.index, [(shift * g).sum(1) for g in own])
    for index, change in enumerate(changes if slopes else ()):
        for name, (_, gone) in change.silenced.items():
            place = tapped.value_places[name]
            lost = tapped.values[name].detach() * backward.tensor(gone)
            add(place, index, [-place.rows(lost * made.values[name]).sum(1) for made in slopes])
    return effects
