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

from mipack.evaluate.fidelity import are_probabilities, fits, log_softmax
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
