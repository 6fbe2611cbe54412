"""A set of samples as every later stage sees it: feeds that stream in batches of any size.

A reader supplies a `Source` (how many samples, how to load some of them); `Dataset` adds what all
readers share: seeded subsets, splits, batching, labels and a digest. Nothing here reads a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mipack.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]
Feeds = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some samples, ready to run.

    `samples` may be less than the rows fed: a model with a static batch size gets its last sample
    repeated, so outputs are to be cut to `[:samples]`. `labels`, `index` (positions in the data
    set; batches may come in another order) and `origin` (positions in the source, which subsets of
    it agree on) have `samples` entries.
    """

    feeds: Feeds
    samples: int
    labels: Array | None
    index: Array
    origin: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read a folder or file. Every field is an option of the command line.

    samples, seed   size of the random subset, None for all
    tokenizer       tokenizer.json (default: the one beside the model)
    text_column     column or field that holds the text
    label_column    column, field or array that holds the labels
    labels          .npy with one integer per sample
    classes         one class name per line; the line number is the label
    mean, std       per channel, after pixels / 255
    resize          the shorter side of an image is brought to it
    inputs          model input -> field of the data
    mask            input that marks real rows with 1; "none": there is none
    allow_nan       NaN in arrays means "missing" and the model handles it
    """

    samples: int | None = 512
    seed: int = 0
    tokenizer: Path | None = None
    text_column: str | None = None
    label_column: str | None = None
    labels: Path | None = None
    classes: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    mask: str | None = None
    allow_nan: bool = False


class Source(Protocol):
    """What a reader supplies. Indices count the samples of the source, from 0."""

    @property
    def count(self) -> int:
        """How many samples there are."""

    @property
    def batch(self) -> int | None:
        """The batch size that the model demands, if it does."""

    @property
    def labels(self) -> Array | None:
        """One integer per sample, where the data holds labels."""

    @property
    def description(self) -> tuple[str, ...]:
        """Lines for the user: what is read and how it is prepared."""

    def keys(self, indices: Sequence[int]) -> list[tuple[Hashable, int]]:
        """For each sample (group, length): only samples of one group may share a batch, and those
        of similar length should."""

    def load(self, indices: Sequence[int]) -> Feeds:
        """The feeds of these samples (all of one group), stacked."""

    def title(self, index: int) -> str:
        """What a person calls this sample: its text or its file; "" where only its number says."""

    def content(self, indices: Sequence[int]) -> Iterator[bytes]:
        """Bytes that change whenever the feeds of these samples would."""


class Dataset:
    """A deterministic, re-iterable set of samples; `mask` is the input that marks real rows."""

    def __init__(
        self,
        source: Source,
        *,
        mask: str | None = None,
        labels: Array | None = None,
        indices: Sequence[int] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.mask = mask
        self.description = source.description + notes
        self._source, self._notes = source, notes
        self._indices = list(range(source.count)) if indices is None else list(indices)
        self._labels = source.labels if labels is None else labels

    @property
    def samples(self) -> int:
        """How many samples it holds."""
        return len(self._indices)

    @property
    def labels(self) -> Array | None:
        """Integer label of every sample, in the order of the set; None where unknown."""
        return None if self._labels is None else self._labels[self._indices]

    def title(self, origin: int) -> str:
        """What a person calls the sample at this position of the source; "" where nothing does."""
        return self._source.title(origin)

    @cached_property
    def digest(self) -> str:
        """sha256 over the content and preparation of exactly these samples, in their order."""
        state = hashlib.sha256()
        for part in self._source.content(self._indices):
            state.update(len(part).to_bytes(8, "little") + part)
        return state.hexdigest()

    def batches(self, size: int = 32) -> Iterator[Batch]:
        """All samples once, those of similar length together; a static batch size of the model
        wins over `size`."""
        if size < 1:
            raise InputError(f"a batch of {size} samples is asked for", hint="ask for at least 1")
        wanted = self._source.batch or size
        keys = self._source.keys(self._indices)
        order = _rank_groups(keys)
        # The position breaks ties, so that the order depends on nothing but the data.
        ranked = sorted(range(self.samples), key=lambda at: (order[keys[at][0]], keys[at][1], at))
        for _, run in groupby(ranked, key=lambda at: keys[at][0]):
            positions = list(run)
            for start in range(0, len(positions), wanted):
                yield self._batch(positions[start : start + wanted])

    def _batch(self, positions: list[int]) -> Batch:
        indices = [self._indices[at] for at in positions]
        missing = (self._source.batch or 0) - len(indices)
        filled = indices + indices[-1:] * max(missing, 0)
        labels = None if self._labels is None else self._labels[indices]
        place, origin = np.asarray(positions), np.asarray(indices)
        return Batch(self._source.load(filled), len(indices), labels, place, origin)

    def subset(self, indices: Sequence[int], *, note: str = "") -> Dataset:
        """The samples at these positions, in this order; `note` is added to the description."""
        return Dataset(
            self._source,
            mask=self.mask,
            labels=self._labels,
            indices=[self._indices[at] for at in indices],
            notes=(*self._notes, note) if note else self._notes,
        )

    def take(self, n: int, seed: int) -> Dataset:
        """A seeded random subset of n samples in their old order; all if there are no more."""
        if n < 1:
            raise InputError(f"{n} samples are asked for", hint="ask for at least 1")
        if n >= self.samples:
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(self.samples)[:n])
        return self.subset(
            chosen.tolist(), note=f"{n:,} of {self.samples:,} samples at random (seed {seed})"
        )

    def split(self, held_out: float, seed: int) -> tuple[Dataset, Dataset]:
        """(fit, held out): a seeded random split; neither part is empty from 2 samples on."""
        if not 0 < held_out < 1:
            raise InputError(f"the held-out share is {held_out}", hint="give a number in (0, 1)")
        away = min(max(1, round(held_out * self.samples)), self.samples - 1)
        drawn = np.random.default_rng(seed).permutation(self.samples)
        fit, held = np.sort(drawn[away:]), np.sort(drawn[:away])
        return self.subset(fit.tolist()), self.subset(held.tolist())


def _rank_groups(keys: Sequence[tuple[Hashable, int]]) -> dict[Hashable, int]:
    """Groups numbered by first appearance."""
    order: dict[Hashable, int] = {}
    for group, _ in keys:
        order.setdefault(group, len(order))
    return order
