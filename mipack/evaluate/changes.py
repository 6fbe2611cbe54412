"""Which inputs get another answer from the second model: counted all, the plainest ones listed.

An answer is the largest entry of a row (a sample, or a token of it). Where the headline output
gives no answers but values, the samples are listed whose values moved furthest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import nlargest
from typing import Any

import numpy as np

from mipack.evaluate.fidelity import are_probabilities, fits, log_softmax, parts
from mipack.evaluate.metrics import predictions

Array = np.ndarray[Any, np.dtype[Any]]

LISTED = 50
"""Changes that are told one by one."""
FLOWS = 30
"""Ways from one answer to another, and answers, that are told one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One answer that changed, or one sample whose values moved.

    `index` counts the samples of the data from 0, `place` the tokens of it. `confidence` is the
    probability that the first model gives its answer `before`, `now` what the second gives its own,
    `after`. `distance` is |a - b| / |a| where there are no answers. `name`: what a person calls
    the sample.
    """

    index: int
    place: int | None = None
    before: int | None = None
    after: int | None = None
    confidence: float | None = None
    now: float | None = None
    label: int | None = None
    distance: float | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """How many rows went from one answer to another."""

    before: int
    after: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: rows that the first and the second model give it to, and both."""

    answer: int
    before: int
    after: int
    both: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """`count` of `rows` answers changed. `listed`, `flows` and `answers` hold the most confident,
    most frequent and most changed of them."""

    output: str
    rows: int
    count: int
    flows: tuple[Flow, ...]
    answers: tuple[Answer, ...]
    listed: tuple[Change, ...]

    def named(self, name: Callable[[int], str]) -> Changes:
        """With what a person calls each listed sample."""
        listed = tuple(replace(change, name=name(change.index)) for change in self.listed)
        return replace(self, listed=listed)


class Watch:
    """Counts the changes of one output over batches."""

    def __init__(self, output: str) -> None:
        self._output, self._rows, self._count = output, 0, 0
        self._flows: Counter[tuple[int, int]] = Counter()
        self._listed: list[Change] = []
        self._seen = 0

    def add(
        self,
        first: Array,
        second: Array,
        *,
        labels: Array | None,
        mask: Array | None,
        index: Array | None,
    ) -> None:
        """Count one batch of values, axis 0 its samples. `index` [n] numbers them in the data, None
        in the order they come; `labels` [n] where a sample has one; `mask` [n, t] is 0 where a
        token is padding."""
        numbers = np.arange(self._seen, self._seen + len(first)) if index is None else index
        self._seen += len(first)
        own = labels if labels is not None and labels.shape == first.shape[:1] else None
        keep = mask.astype(bool) if mask is not None and fits(mask, first) else None
        for part in parts(first):
            some, other = first[part], second[part]
            if _answering(first):
                real = None if keep is None else keep[part]
                known = None if own is None else own[part]
                found = self._answers(some, other, real, numbers[part], known)
            else:
                found = self._distances(some, other, numbers[part])
            self._listed = nlargest(LISTED, [*self._listed, *found], key=_weight)

    def result(self) -> Changes | None:
        """What has been counted; None where nothing was."""
        if not self._rows:
            return None
        return Changes(
            output=self._output,
            rows=self._rows,
            count=self._count,
            flows=tuple(
                Flow(before=before, after=after, rows=rows)
                for (before, after), rows in self._ordered()
                if before != after
            )[:FLOWS],
            answers=self._by_answer(),
            listed=tuple(self._listed),
        )

    def _answers(
        self,
        first: Array,
        second: Array,
        keep: Array | None,
        numbers: Array,
        labels: Array | None,
    ) -> list[Change]:
        """`first` and `second` are scores [n, c] or [n, t, c], or answers themselves."""
        scores = first.dtype.kind == "f"
        before, after = (
            predictions(values) if scores else values.astype(np.int64) for values in (first, second)
        )
        real = np.ones(before.shape, bool) if keep is None else keep
        pairs, counts = np.unique(np.stack([before[real], after[real]]), axis=1, return_counts=True)
        for (one, other), rows in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            self._flows[one, other] += rows
        places = np.argwhere(real & (before != after))  # [changed, 1 or 2]
        self._rows, self._count = self._rows + int(real.sum()), self._count + len(places)
        at = tuple(places.T)
        sure: list[float | None] = [None] * len(places)
        now = sure
        if scores:
            sure, now = (_confidence(v[at], a[at]) for v, a in ((first, before), (second, after)))
        return [
            Change(
                index=int(numbers[place[0]]),
                place=int(place[1]) if len(place) > 1 else None,
                before=int(before[tuple(place)]),
                after=int(after[tuple(place)]),
                confidence=sure[row],
                now=now[row],
                label=_label(labels, place[0]),
            )
            for row, place in enumerate(places)
        ]

    def _distances(self, first: Array, second: Array, numbers: Array) -> list[Change]:
        first, second = (v.reshape(len(v), -1).astype(np.float64) for v in (first, second))
        self._rows += len(first)
        sizes, gaps = np.linalg.norm(first, axis=1), np.linalg.norm(first - second, axis=1)
        far = [
            Change(index=int(number), distance=float(gap / size) if size else None)
            for number, gap, size in zip(numbers, gaps, sizes, strict=True)
            if gap > 0 and np.isfinite(gap)
        ]
        return nlargest(LISTED, far, key=_weight)

    def _ordered(self) -> list[tuple[tuple[int, int], int]]:
        return sorted(self._flows.items(), key=lambda flow: (-flow[1], flow[0]))

    def _by_answer(self) -> tuple[Answer, ...]:
        before: Counter[int] = Counter()
        after: Counter[int] = Counter()
        for (one, other), rows in self._flows.items():
            before[one] += rows
            after[other] += rows
        listed = [
            Answer(
                answer=answer,
                before=before[answer],
                after=after[answer],
                both=self._flows.get((answer, answer), 0),
            )
            for answer in sorted(before.keys() | after.keys())
        ]
        moved = nlargest(FLOWS, listed, key=lambda a: a.before + a.after - 2 * a.both)
        return tuple(sorted(moved, key=lambda a: a.answer))


def _answering(values: Array) -> bool:
    """Whether rows of them are scores of answers, or answers."""
    if values.dtype.kind == "f":
        return values.ndim in (2, 3) and values.shape[-1] >= 2
    return values.ndim <= 2


def _confidence(rows: Array, answers: Array) -> list[float | None]:
    """The probability of these answers, by row of logits or probabilities [changed, c]."""
    if not len(rows):
        return []
    rows = rows.astype(np.float64)
    shares = rows if are_probabilities(rows) else np.exp(log_softmax(rows))
    picked = np.take_along_axis(shares, np.maximum(answers, 0)[:, None], axis=1)[:, 0]
    return [
        float(value) if answer >= 0 and np.isfinite(value) else None
        for value, answer in zip(picked, answers, strict=True)
    ]


def _label(labels: Array | None, at: int) -> int | None:
    if labels is None or labels.dtype.kind not in "iub":
        return None
    return int(labels[at])


def _weight(change: Change) -> tuple[float, int]:
    """The surest answers, or the furthest values, come first; then the order of the data."""
    known = change.confidence if change.distance is None else change.distance
    return (float("-inf") if known is None else known, -change.index)
