"""Score two models on the same data: the task metric with its paired interval, and fidelity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from mipack.errors import InputError
from mipack.evaluate.changes import Changes, Watch
from mipack.evaluate.fidelity import Fidelity, Tally
from mipack.evaluate.metrics import METRICS, Metric, choose
from mipack.evaluate.told import evaluation_blocks
from mipack.runtime.session import Arrays, Session, Source
from mipack.show.blocks import Block
from mipack.show.shown import Shown

Array = np.ndarray[Any, np.dtype[Any]]


class Batch(Protocol):
    """One batch of data. Feeds may hold more rows than `samples`: the rest is padding."""

    @property
    def feeds(self) -> Mapping[str, Array]:
        """Input name -> array."""

    @property
    def samples(self) -> int:
        """Rows that are real."""

    @property
    def labels(self) -> Array | None:
        """One label (or row of labels) per sample, if known."""


@dataclass(frozen=True, slots=True)
class ClassChange:
    """How many samples of one class each model gets right, as shares."""

    label: int
    samples: int
    first: float
    second: float


@dataclass(frozen=True, slots=True)
class Score:
    """The task metric of both models on one output.

    `difference` is second minus first with its paired 95 % interval, in points for a share, else
    in the metric's own unit. `lost` counts samples that only the first gets right, `gained` those
    that only the second does (None where a sample is not right or wrong), `classes` breaks
    that down by label.
    """

    metric: str
    output: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    unit: str
    lost: int | None
    gained: int | None
    classes: tuple[ClassChange, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Shown):
    """Two models on the same samples; `fidelity` has the headline output first, and `changes`
    tells which samples have another answer there."""

    names: tuple[str, str]
    samples: int
    score: Score | None
    fidelity: tuple[Fidelity, ...]
    changes: Changes | None = None

    def named(self, name: Callable[[int], str]) -> Evaluation:
        """With what a person calls each sample whose answer changed."""
        return self if self.changes is None else replace(self, changes=self.changes.named(name))

    @property
    def agreement(self) -> float | None:
        """Share of rows of the headline output for which both models say the same."""
        return self.fidelity[0].agreement

    @property
    def flips(self) -> int | None:
        """Rows of the headline output on which they do not."""
        return self.fidelity[0].flips

    @property
    def kl(self) -> float | None:
        """Mean KL divergence of the headline output from the first model to the second, nats."""
        return self.fidelity[0].kl

    @property
    def cosine(self) -> float | None:
        """Mean cosine of the headline output."""
        return self.fidelity[0].cosine

    def blocks(self, *, every: bool = False) -> Sequence[Block]:
        """The score, what is lost and gained, fidelity; `every`: by class too."""
        return evaluation_blocks(self, every=every)

    def to_json(self) -> dict[str, object]:
        """The whole evaluation as plain values."""
        return {
            "names": list(self.names),
            "samples": self.samples,
            "score": None if self.score is None else asdict(self.score),
            "fidelity": [entry.to_json() for entry in self.fidelity],
        }


def evaluate(
    models: Sequence[tuple[str, Source]],
    batches: Iterable[Batch],
    *,
    metric: str | None = None,
    output: str | None = None,
    mask: str | None = None,
    threads: int | None = None,
    provider: str = "cpu",
) -> Evaluation:
    """Run both models, the original first, over `batches`.

    `metric` defaults to accuracy where labels and output allow it, and to none without labels.
    `output` is the headline output, by default the first that the metric can read. `mask` names
    the input that is 0 where a token is padding.
    Raises InputError where models, data, labels and metric do not fit together.
    """
    (first, _), (second, _) = models
    sessions = [Session(model, threads=threads, provider=provider) for _, model in models]
    pair = _Pair((first, second), sessions, metric=metric, output=output, mask=mask)
    for batch in batches:
        pair.add(batch)
    return pair.result()


class _Pair:
    """Two sessions and what has been counted of them so far."""

    def __init__(
        self,
        names: tuple[str, str],
        sessions: list[Session],
        *,
        metric: str | None,
        output: str | None,
        mask: str | None,
    ) -> None:
        self._names, self._sessions = names, sessions
        self._metric, self._output, self._mask = metric, output, mask
        self._tallies: dict[str, Tally] = {}
        self._samples = 0
        self._rows: tuple[list[Array], list[Array]] = ([], [])
        self._labels: list[Array] = []
        self._watch: Watch | None = None
        _check_outputs(names, sessions, output)

    def add(self, batch: Batch) -> None:
        """Run one batch through both and count it."""
        mask = self._find_mask(batch)
        padded = self._run(0, batch), self._run(1, batch)
        _check_shapes(self._names, *padded)
        sampled = _sampled(padded[0], _batch_size(batch))
        first, second = (_real(values, sampled, batch.samples) for values in padded)
        self._start(batch.labels, first)
        for name, tally in self._tallies.items():
            tally.add(first[name], second[name], mask=mask, sampled=name in sampled)
        self._add_scores(batch, first, second, mask)
        self._add_changes(batch, first, second, mask, sampled)
        self._samples += batch.samples

    def result(self) -> Evaluation:
        """What both models showed; InputError if there was nothing to run."""
        if not self._samples:
            raise InputError("there is no data to evaluate on", hint="is the folder empty?")
        order = sorted(self._tallies, key=lambda name: name != self._output)
        fidelity = tuple(self._tallies[name].result() for name in order)
        changes = self._watch.result() if self._watch else None
        return Evaluation(self._names, self._samples, self._score(), fidelity, changes)

    def _run(self, index: int, batch: Batch) -> Arrays:
        """The tensor outputs of one model; sequences and maps have no place in a comparison."""
        try:
            values = self._sessions[index].run(batch.feeds)
        except InputError as error:
            name = self._names[index]
            raise InputError(f"{name}: {error.args[0]}", hint=error.hint) from error
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def _find_mask(self, batch: Batch) -> Array | None:
        if self._mask is None:
            return None
        if self._mask not in batch.feeds:
            raise InputError(
                f"there is no input {self._mask!r} to mask padding with",
                hint=f"the inputs are: {', '.join(batch.feeds)}",
            )
        return batch.feeds[self._mask][: batch.samples]

    def _start(self, labels: Array | None, outputs: Arrays) -> None:
        """On the first batch: settle metric and headline output."""
        if self._tallies:
            return
        self._metric = choose(self._metric, labels, outputs)
        rank = METRICS[self._metric].rank if self._metric else None
        self._output = self._output or _headline(outputs, rank)
        self._tallies = {name: Tally(name) for name in outputs}

    def _add_scores(self, batch: Batch, first: Arrays, second: Arrays, mask: Array | None) -> None:
        if self._metric is None or self._output is None:
            return
        labels = batch.labels
        if labels is None or len(labels) != batch.samples:
            raise InputError(
                f"{0 if labels is None else len(labels)} labels for a batch of {batch.samples}"
            )
        for name, rows, outputs in zip(self._names, self._rows, (first, second), strict=True):
            rows.append(self._contribution(name, outputs[self._output], labels, mask))
        self._labels.append(labels)

    def _add_changes(
        self,
        batch: Batch,
        first: Arrays,
        second: Arrays,
        mask: Array | None,
        sampled: set[str],
    ) -> None:
        name = self._output
        if name is None or name not in sampled or first[name].dtype.kind not in "fiub":
            return
        self._watch = self._watch or Watch(name)
        index = getattr(batch, "origin", None)  # not every batch knows where it is from
        labels = batch.labels
        self._watch.add(first[name], second[name], labels=labels, mask=mask, index=index)

    def _contribution(self, name: str, output: Array, labels: Array, mask: Array | None) -> Array:
        metric = METRICS[str(self._metric)]
        try:
            return metric.rows(output, labels, mask)
        except InputError as error:
            raise InputError(
                f"{self._metric} of {name}, output {self._output!r}: {error.args[0]}",
                hint=error.hint,
            ) from error

    def _score(self) -> Score | None:
        if self._metric is None or self._output is None:
            return None
        metric = METRICS[self._metric]
        first, second = (np.concatenate(rows) for rows in self._rows)
        scale = 100.0 if metric.share else 1.0
        scores = [metric.total(rows, np.ones(len(rows))) for rows in (first, second)]
        bounds = metric.interval(first, second, metric.total)
        lost, gained, classes = _changes(metric, first, second, np.concatenate(self._labels))
        return Score(
            metric=self._metric,
            output=self._output,
            first=scores[0],
            second=scores[1],
            difference=scale * (scores[1] - scores[0]),
            interval=None if bounds is None else (scale * bounds[0], scale * bounds[1]),
            unit="points" if metric.share else self._metric,
            lost=lost,
            gained=gained,
            classes=classes,
        )


def _changes(
    metric: Metric, first: Array, second: Array, labels: Array
) -> tuple[int | None, int | None, tuple[ClassChange, ...]]:
    """Samples lost and gained, and the shares by class, where a sample is right or wrong."""
    if metric.right is None:
        return None, None, ()
    before, after, flat = metric.right(first), metric.right(second), labels.reshape(-1)
    classes = tuple(
        ClassChange(
            label=int(label),
            samples=int(np.sum(flat == label)),
            first=float(before[flat == label].mean()),
            second=float(after[flat == label].mean()),
        )
        for label in np.unique(flat)
    )
    return int(np.sum(before & ~after)), int(np.sum(after & ~before)), classes


def _check_outputs(names: tuple[str, str], sessions: list[Session], output: str | None) -> None:
    first, second = (session.outputs for session in sessions)
    if first != second:
        raise InputError(
            f"{names[0]} has the outputs {', '.join(first)}, {names[1]} has {', '.join(second)}",
            hint="compare a model with a pruned version of itself",
        )
    if output is not None and output not in first:
        raise InputError(
            f"there is no output {output!r}", hint=f"the outputs are: {', '.join(first)}"
        )


def _check_shapes(names: tuple[str, str], first: Arrays, second: Arrays) -> None:
    if not first:
        raise InputError("no output is a tensor: there is nothing to compare")
    for name, values in first.items():
        other = second.get(name)
        if other is None or other.shape != values.shape or other.dtype.kind != values.dtype.kind:
            what = "no tensor" if other is None else _describe(other)
            raise InputError(
                f"{names[0]} gives {_describe(values)} as {name!r}, {names[1]} gives {what}",
                hint="compare a model with a pruned version of itself",
            )


def _describe(values: Array) -> str:
    return f"{values.dtype} {list(values.shape)}"


def _batch_size(batch: Batch) -> int:
    """Rows of the feeds, padding included: the commonest length of axis 0 that can hold them."""
    lengths = [len(array) for array in batch.feeds.values() if array.ndim]
    possible = [length for length in lengths if length >= batch.samples]
    return max(possible, key=possible.count, default=batch.samples)


def _sampled(values: Arrays, size: int) -> set[str]:
    """The outputs whose axis 0 counts samples."""
    return {name for name, array in values.items() if array.ndim and len(array) == size}


def _real(values: Arrays, sampled: set[str], samples: int) -> Arrays:
    """The outputs without the rows of padding samples."""
    return {name: array[:samples] if name in sampled else array for name, array in values.items()}


def _headline(outputs: Arrays, rank: int | None) -> str:
    """The first float output of that rank (any, for None), else the first output."""
    for name, array in outputs.items():
        if array.dtype.kind == "f" and rank in (None, array.ndim):
            return name
    return next(iter(outputs))
