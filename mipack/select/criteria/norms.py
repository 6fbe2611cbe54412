"""Criteria that look at one unit at a time: norms, and chance."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from mipack.calibrate.sites import Array, blocks_at
from mipack.couple.positions import unit_labels
from mipack.couple.solve import Coupling, Group
from mipack.layout import Term, leaves
from mipack.select.eliminate import Ranking
from mipack.select.evidence import Evidence


def magnitude(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """L2 norm of all weights that belong to a unit."""
    return _norm(evidence, group, 2)


def magnitude_l1(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """L1 norm of all weights that belong to a unit (Li et al. 2017, "Pruning Filters")."""
    return _norm(evidence, group, 1)


def _norm(evidence: Evidence, group: Group, power: int) -> Ranking:
    total = np.zeros(group.shape)
    for name, axis in group.touches:
        array = evidence.coupling.constants[name]
        if array.ndim >= 2 and array.dtype.name not in ("int64", "int32", "bool"):
            total += _per_unit(evidence.coupling, group, name, axis, power)
    return ascending(total)


def wanda(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Weight times the norm of what flows through it (Sun et al. 2023), over all readers."""
    total = np.zeros(group.shape)
    for site in evidence.readers(group):
        moments = evidence.calibration.moments[site.name]
        second = np.diagonal(moments.second) if moments.full else moments.second
        energy = second / max(moments.count, 1) * (evidence.weight(site) ** 2).sum(1)
        blocks = blocks_at(evidence.coupling, site, group)
        total += energy[blocks].sum(1).reshape(group.shape)
    return ascending(total) if total.any() else magnitude(evidence, group, preserved)


def random(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Seeded noise: the floor that any criterion must beat."""
    rng = np.random.default_rng([evidence.seed, zlib.crc32(group.name.encode())])
    order = rng.permuted(np.broadcast_to(np.arange(group.size), group.shape), axis=-1)
    return Ranking(order, np.linspace(1, 0, group.size + 1))


def _per_unit(coupling: Coupling, group: Group, name: str, axis: int, power: int) -> Array:
    """Powers of a weight's entries summed over what belongs to each unit: [contexts.., units].

    A context stands on the unit's own axis or, as a whole factor, on another one.
    """
    array, axes = coupling.constants[name].astype(np.float64), coupling.axes[name]
    labels = {axis: [unit_labels(axes[axis], group.atom)]}
    order = [(axis, 0)]
    for context in reversed(group.within):
        at = axis if context in leaves(axes[axis]) else _axis_of(axes, context)
        labels.setdefault(at, []).append(unit_labels(axes[at], context))
        order.insert(0, (at, len(labels[at]) - 1))
    others = tuple(k for k in range(array.ndim) if k not in labels)
    squares = (np.abs(array) ** power).sum(others, keepdims=True)
    spread = [
        np.broadcast_to(
            labels[at][which].reshape([-1 if k == at else 1 for k in range(array.ndim)]),
            squares.shape,
        ).ravel()
        for at, which in order
    ]
    there = np.all([label >= 0 for label in spread], axis=0)
    units = np.ravel_multi_index([label[there] for label in spread], group.shape)
    sums = np.bincount(units, squares.ravel()[there], minlength=int(np.prod(group.shape)))
    return sums.reshape(group.shape)


def _axis_of(axes: Sequence[Term], context: Term) -> int:
    return next(k for k, term in enumerate(axes) if context in leaves(term))


def ascending(scores: Array) -> Ranking:
    """Lowest first; the loss of a width is the share of the scores that it gives up (what is
    below 0 counts as 0)."""
    order = np.argsort(scores, axis=-1, kind="stable")
    scores = np.maximum(scores, 0.0)
    steps = np.take_along_axis(scores, order, -1).reshape(-1, scores.shape[-1]).sum(0)
    share = steps / max(float(scores.sum()), 1e-30)
    return Ranking(order, np.concatenate([[0.0], np.cumsum(share)])[::-1])
