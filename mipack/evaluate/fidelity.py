"""How alike the outputs of two models are, without any label.

For one output, over all samples, with a the first model's value and b the second's:

    agreement     share of rows whose largest entry is the same        rank 2 or 3, last axis >= 2
    kl            mean over rows of sum_c p_c log(p_c / q_c) in nats, p and q of a and b
    cosine        mean over samples of <a, b> / (|a| |b|)
    relative_l2   sqrt(sum |a - b|^2 / sum |a|^2), pooled over samples

A row is a vector along the last axis: one per sample, or one per token, where a row mask leaves
out padding. Outputs that are no floats only have an agreement: the share of equal entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import log, sqrt
from typing import Any

import numpy as np

from mipack.evaluate.metrics import predictions

Array = np.ndarray[Any, np.dtype[Any]]

FLOOR = 1e-30
"""A probability below this counts as this, so that one impossible class is no infinite distance."""
SUM_TOLERANCE = 1e-3
"""How far half-precision probabilities may miss a sum of 1."""

PART_ENTRIES = 4_000_000
"""Entries that are worked on at a time: token outputs of a large vocabulary are big."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One output of the second model against the first's; a measure that does not apply is None.

    `rows` is what agreement counts over, `flips` those that disagree. `nonfinite` counts samples
    where the second model gives NaN or infinity and the first does not: they are left out of
    `cosine` and `relative_l2`; a row with a NaN is left out of `kl` and is a flip.
    """

    output: str
    rows: int
    agreement: float | None
    flips: int | None
    kl: float | None
    cosine: float | None
    relative_l2: float | None
    nonfinite: int

    def to_json(self) -> dict[str, object]:
        """All fields as plain values."""
        return asdict(self)


class Tally:
    """Sums of one output over batches."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._rows = self._flips = self._nonfinite = 0
        self._judged = False
        self._kl = {True: _Mean(), False: _Mean()}  # read as probabilities, read as logits
        self._probabilities = True
        self._cosine = _Mean()
        self._error = self._power = 0.0

    def add(self, first: Array, second: Array, *, mask: Array | None, sampled: bool) -> None:
        """Count one batch. `mask` is [n, t], 0 where a row is padding; `sampled` says whether
        axis 0 counts samples (else the array is taken as one)."""
        if first.dtype.kind != "f":
            self._count(first.ravel() == second.ravel())
            return
        keep = mask.astype(bool) if mask is not None and fits(mask, first) else None
        for part in parts(first) if sampled else [...]:
            own = None if keep is None else keep[part]
            self._add_floats(first[part], second[part], own, sampled)

    def result(self) -> Fidelity:
        """The measures over everything added so far."""
        return Fidelity(
            output=self._output,
            rows=self._rows,
            agreement=1 - self._flips / self._rows if self._judged and self._rows else None,
            flips=self._flips if self._judged else None,
            kl=self._kl[self._probabilities].value(),
            cosine=self._cosine.value(),
            relative_l2=self._relative_l2(),
            nonfinite=self._nonfinite,
        )

    def _count(self, same: Array) -> None:
        self._judged = True
        self._rows += same.size
        self._flips += int(same.size - np.count_nonzero(same))

    def _add_floats(self, first: Array, second: Array, keep: Array | None, sampled: bool) -> None:
        wide = first.astype(np.float64), second.astype(np.float64)
        if first.ndim in (2, 3) and first.shape[-1] >= 2:
            self._add_rows(*(_rows(values, keep) for values in wide))
        self._add_samples(*(_flat(values, keep, sampled) for values in wide))

    def _add_rows(self, first: Array, second: Array) -> None:
        """`first` and `second` are [rows, classes]."""
        self._count(predictions(first) == predictions(second))
        self._probabilities &= are_probabilities(first) and are_probabilities(second)
        for probabilities, total in self._kl.items():
            logs = _log_probabilities if probabilities else log_softmax
            total.add(_divergence(logs(first), logs(second)))

    def _add_samples(self, first: Array, second: Array) -> None:
        """`first` and `second` are [samples, entries]."""
        sound = np.isfinite(first).all(axis=1), np.isfinite(second).all(axis=1)
        self._nonfinite += int(np.sum(sound[0] & ~sound[1]))
        first, second = (values[sound[0] & sound[1]] for values in (first, second))
        self._cosine.add(_cosines(first, second))
        self._error += float(np.sum(np.square(first - second)))
        self._power += float(np.sum(np.square(first)))

    def _relative_l2(self) -> float | None:
        if self._power == 0.0:
            return 0.0 if self._cosine.count and self._error == 0.0 else None
        return sqrt(self._error / self._power)


class _Mean:
    """Mean of all values that are not NaN."""

    def __init__(self) -> None:
        self.count, self._sum = 0, 0.0

    def add(self, values: Array) -> None:
        sound = values[~np.isnan(values)]
        self.count += sound.size
        self._sum += float(sound.sum())

    def value(self) -> float | None:
        return self._sum / self.count if self.count else None


def parts(values: Array) -> Iterator[slice]:
    """Runs of samples small enough that float64 copies of them cost little."""
    step = max(1, PART_ENTRIES * len(values) // max(1, values.size))
    return (slice(start, start + step) for start in range(0, len(values), step))


def fits(mask: Array, values: Array) -> bool:
    """Whether the mask [n, t] speaks of the first two axes of [n, t, ...]."""
    return mask.ndim == 2 and values.ndim >= 3 and values.shape[:2] == mask.shape


def _rows(values: Array, keep: Array | None) -> Array:
    """[rows, classes] without padding; `keep` is [n, t] for values [n, t, c]."""
    return values.reshape(-1, values.shape[-1]) if keep is None else values[keep]


def _flat(values: Array, keep: Array | None, sampled: bool) -> Array:
    """[samples, entries], padding zero: it adds to no sum."""
    if keep is not None:
        values = np.where(keep.reshape(keep.shape + (1,) * (values.ndim - 2)), values, 0.0)
    return values.reshape(len(values) if sampled else 1, -1)


def are_probabilities(rows: Array) -> bool:
    """Whether every row that is not NaN is non-negative and sums to 1."""
    sound = rows[~np.isnan(rows).any(axis=1)]
    sums = sound.sum(axis=1)
    return bool((sound >= 0).all() and (np.abs(sums - 1) <= SUM_TOLERANCE).all())


def log_softmax(rows: Array) -> Array:
    """Rows with +infinity, or with nothing but -infinity, become NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = rows - rows.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray(np.maximum(logs, log(FLOOR)))  # NaN stays NaN


def _log_probabilities(rows: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = rows / rows.sum(axis=1, keepdims=True)
        return np.asarray(np.log(np.maximum(shares, FLOOR)))


def _divergence(first: Array, second: Array) -> Array:
    """KL of each row, [rows], from log probabilities [rows, classes]; never below 0."""
    return np.asarray(np.maximum(np.sum(np.exp(first) * (first - second), axis=1), 0.0))


def _cosines(first: Array, second: Array) -> Array:
    """[samples]; two zero vectors are alike, one alone is not."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    both_zero = ~first.any(axis=1) & ~second.any(axis=1)
    dots = np.sum(first * second, axis=1)
    return np.where(norms > 0, dots / np.where(norms > 0, norms, 1.0), both_zero.astype(np.float64))
