"""A model and its data as a run works on them: what every stage reads."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from mipack.calibrate.pairs import operands_of
from mipack.calibrate.rows import RowMap
from mipack.calibrate.sites import Array, Site, sites_of
from mipack.calibrate.taps import Answers, Batches, answers
from mipack.couple.solve import Group
from mipack.data.dataset import Batch, Dataset
from mipack.graph.load import file_bytes, in_parts, stored_bytes, weight_bytes, weight_count
from mipack.options import Progress, PruneOptions
from mipack.prepare import Prepared
from mipack.result import Size
from mipack.runtime.session import Session, working_provider
from mipack.select.allocate import uniform
from mipack.select.decide import chosen_groups
from mipack.select.plan import Plan
from mipack.surgery.keep import Keep

HELD_OUT = 0.125
"""Share of the calibration samples that fits nothing and judges everything."""
GATE = 0.2
"""Share that decides nothing else: on it the drop is measured that --max-drop bounds."""
PROOF_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class MadeBatch:
    """Feeds that no data stands behind."""

    feeds: Mapping[str, Array]
    samples: int


class Material:
    """A prepared model with its data split, its groups and sites; lists of batches made once."""

    def __init__(
        self,
        prepared: Prepared,
        options: PruneOptions,
        say: Progress,
        replay: Plan | None,
        source: Path | None = None,
    ) -> None:
        """`source`: the file that the model came from, if it did."""
        self.prepared, self.options, self.say, self._source = prepared, options, say, source
        self._warnings: list[str] = []
        self.rotated: frozenset[str] = frozenset()
        self.left: Mapping[str, Fraction] = {}
        """Of the nodes that do less than the original's, the share that counts in the budget."""
        self.groups, self.averaged = self._chosen(replay)
        read = (*prepared.coupling.free, *self.averaged)
        self.sites: tuple[Site, ...] = sites_of(prepared.coupling, read)
        self.operands = operands_of(prepared.coupling, prepared.coupling.free)
        data = prepared.dataset
        self.fit: Dataset | None = None
        self.test: Dataset | None = None
        self.gate: Dataset | None = None
        if data is not None and options.max_drop is not None:
            data, self.gate = data.split(GATE, options.seed)
        if data is not None:
            self.fit, self.test = data.split(HELD_OUT, options.seed)
        names = [spec.name for spec in prepared.signature.inputs]
        self.rows = RowMap(prepared.coupling, names, data.mask if data else None)
        self.provider = working_provider(options.provider)
        for text in prepared.warnings:
            self.warn(text)

    def _chosen(self, replay: Plan | None) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """Groups to allocate to, and those averaged over that are cut too."""
        coupling, options = self.prepared.coupling, self.options
        if replay is not None:
            return (), tuple(group for group in replay.tables(coupling) if group.width)
        wanted = options.width is not None
        if wanted and not coupling.widths:
            self.warn("--width: nothing averages over an axis that could be cut")
        return chosen_groups(coupling, options.only, options.exclude, averaged=wanted)

    def at(self, options: PruneOptions) -> Material:
        """The same with other budgets, and warnings of its own from here on."""
        other = copy(self)
        other.options, other._warnings = options, list(self._warnings)
        return other

    def warn(self, text: str) -> None:
        """Tell now, once, and again in the result."""
        if text not in self._warnings:
            self._warnings.append(text)
            self.say.warn(text)

    def warnings(self) -> tuple[str, ...]:
        """All so far."""
        return tuple(self._warnings)

    def batches(self, data: Dataset | None) -> list[Batch]:
        """All batches of some data."""
        return list(data.batches(self.options.batch_size)) if data else []

    @cached_property
    def held_out(self) -> list[Batch]:
        """Held-out batches (the fitted ones where there is a single sample)."""
        return self.batches(self.test if self.test and self.test.samples else self.fit)

    @cached_property
    def proof_batches(self) -> list[Any]:
        """Real batches for the proof, of sizes that were not probed."""
        if self.fit is None:
            return [MadeBatch(self.prepared.feeds, self.prepared.samples)]
        return self.batches(self.fit.take(PROOF_SAMPLES, self.options.seed))

    @cached_property
    def file_bytes(self) -> int:
        """Bytes of the original on disk."""
        return file_bytes(self._source) if self._source else stored_bytes(self.prepared.original)

    @cached_property
    def typical_feeds(self) -> Mapping[str, Array]:
        """A batch from the middle of the data; without data what the model was probed with."""
        batches = self.batches(self.fit)
        return batches[len(batches) // 2].feeds if batches else self.prepared.feeds

    def announce(self, replay: Plan | None) -> None:
        """What the budget leaves, before anything costs time."""
        if replay is not None:
            if replay.model != self.prepared.digest:
                self.say.note("the plan was made for another model of this structure")
            return
        cost = self.prepared.coupling.cost
        request = self.options.request()
        if request.own:
            self.say.note(f"{len(self.groups)} groups to cut; the criterion finds their widths")
            return
        held = uniform(self.averaged, request.width or 1.0)
        counted = {k: v for k, v in request.shares.items() if k not in ("size", "latency")}
        budgets = request.at(**counted).budgets(self.groups, cost, held)
        left = [f"{b.target / max(b.full, 1):.1%} of the {b.of}" for b in budgets]
        left += [f"{v:.1%} of the {k}" for k, v in request.shares.items() if k not in counted]
        count = len(self.groups) + len(self.averaged)
        self.say.note(f"{count} groups to cut; the budget leaves {' and '.join(left)}")

    def sizes(self, keep: Keep) -> tuple[Size, Size]:
        """Predicted sizes before and after a cut."""
        cost, per = self.prepared.coupling.cost, self.prepared.samples
        model = self.prepared.model
        widths = {atom: keep.size(atom) for atom in keep.tables}
        before = Size(cost.macs({}) // per, weight_count(model), weight_bytes(model))
        fewer = cost.params({}) - cost.params(widths)
        each = before.bytes / max(before.params, 1)
        after = Size(
            cost.macs(widths) // per, before.params - fewer, round(before.bytes - fewer * each)
        )
        return before, after

    def answers(self, batches: Batches) -> Answers:
        """What the original says in one pass over these batches."""
        session = Session(in_parts(self.prepared.model), provider=self.provider)
        outputs = [spec.name for spec in self.prepared.signature.outputs]
        return answers(session, outputs, batches)
