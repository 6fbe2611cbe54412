"""Never worse than no refit: of several refits of one cut, the one nearest to the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mipack.calibrate.heads import Head
from mipack.calibrate.taps import Answers, BatchLike, crop
from mipack.graph.load import runnable
from mipack.runtime.session import Session


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model, how its weights came about, and the initializers that differ from the plain cut."""

    name: str
    model: ir.Model
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen candidate and every candidate's mean divergence on held-out samples."""

    chosen: Candidate
    divergence: dict[str, float]


def best(candidates: Sequence[Candidate], known: Answers, batches: Sequence[BatchLike]) -> Choice:
    """The candidate of least divergence; the first of equals, and the last where the model has no
    output to compare (then refit is trusted)."""
    head = known.head
    if head is None or not batches:
        return Choice(candidates[-1], {})
    found = {c.name: divergence(c.model, head, known, batches) for c in candidates}
    chosen = min(candidates, key=lambda c: found[c.name])
    return Choice(chosen, found)


def divergence(model: ir.Model, head: Head, known: Answers, batches: Sequence[BatchLike]) -> float:
    """Mean nats per sample between the original's answers and a model's; inf if not finite."""
    with runnable(model) as source:
        session = Session(source)
    total, samples = 0.0, 0
    for batch, want in zip(batches, known.outputs, strict=True):
        got = crop(session.run(batch.feeds, [head.name]), batch)[head.name]
        total += float(head.divergence(want[head.name], got).sum())
        samples += batch.samples
    mean = total / max(samples, 1)
    return mean if np.isfinite(mean) else float("inf")
