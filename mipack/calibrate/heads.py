"""What a model's outputs mean, and how far two answers are apart, in nats per sample.

probabilities   rows >= 0 that sum to 1          KL(p || q)
logits          other rows of rank 2             KL(softmax || softmax)
values          everything else                  1/2 sum (a - b)^2 / var: the Gaussian KL
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CLASSES_MOST = 1024
"""Outputs with more columns than this carry no logit signal (its moments would be too large)."""
FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class Head:
    """One float output: its meaning and, for values, the variance of each column."""

    name: str
    kind: str
    variance: Array

    def scores(self, output: Array) -> Array:
        """[samples, columns]: logits, log-probabilities, or values averaged over positions."""
        flat = np.asarray(output, np.float64)
        flat = flat.reshape(len(flat), -1, len(self.variance)).mean(1)
        return np.log(np.maximum(flat, FLOOR)) if self.kind == "probabilities" else flat

    def curvature(self, scores: Array) -> Array:
        """Sum over samples of the Hessian of the divergence in the scores: [columns, columns]."""
        if self.kind == "values":
            return np.diag(len(scores) / self.variance)
        p = softmax(scores)
        return np.diag(p.sum(0)) - p.T @ p

    def divergence(self, first: Array, second: Array) -> Array:
        """Nats per sample between two outputs of the same inputs: [samples]."""
        if self.kind == "values":
            a, b = (np.asarray(v, np.float64).reshape(len(v), -1) for v in (first, second))
            variance = np.resize(self.variance, a.shape[1])
            return 0.5 * ((a - b) ** 2 / variance).mean(1) * len(self.variance)
        logs = [log_softmax(self.scores(v)) for v in (first, second)]
        return (np.exp(logs[0]) * (logs[0] - logs[1])).sum(1)

    def agrees(self, first: Array, second: Array) -> Array:
        """Whether both answers name the same class: [samples]; all True for values."""
        if self.kind == "values":
            return np.ones(len(first), np.bool_)
        return self.scores(first).argmax(1) == self.scores(second).argmax(1)


def softmax(scores: Array) -> Array:
    """Rows to probabilities."""
    return np.exp(log_softmax(scores))


def log_softmax(scores: Array) -> Array:
    """Rows to log-probabilities."""
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def heads_of(outputs: Sequence[Mapping[str, Array]]) -> tuple[Head, ...]:
    """The heads of a model from its outputs on some batches; the first is the one judged first.

    Outputs of no float type, or whose last axis changes from batch to batch, have no head.
    """
    found = []
    for name in outputs[0]:
        parts = [np.asarray(batch[name]) for batch in outputs]
        floats = all(p.dtype.kind == "f" and p.ndim >= 1 and p.size for p in parts)
        columns = {p.shape[-1] for p in parts if p.ndim > 1}
        if not floats or len(columns) > 1 or not all(np.isfinite(p).all() for p in parts):
            continue
        found.append(_head(name, parts))
    return tuple(sorted(found, key=lambda head: head.kind == "values"))


def _head(name: str, parts: Sequence[Array]) -> Head:
    columns = parts[0].shape[-1] if parts[0].ndim > 1 else 1
    rows = np.concatenate([p.reshape(-1, columns).astype(np.float64) for p in parts])
    variance = np.maximum(rows.var(0), FLOOR)
    variance = np.maximum(variance, 1e-6 * variance.mean())
    kind = "values"
    if parts[0].ndim == 2 and columns >= 2:
        normal = (rows >= 0).all() and np.allclose(rows.sum(1), 1, atol=1e-3)
        kind = "probabilities" if normal else "logits"
    return Head(name, kind, variance)
