"""A model calibrated and ranked once, and what is made and measured of it at each budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from mipack.data.dataset import Batch, Dataset
from mipack.evaluate.compare import Evaluation, evaluate
from mipack.gather import collect, rotated
from mipack.graph.load import in_parts
from mipack.lossless import count
from mipack.material import Material
from mipack.options import PruneOptions, Stopwatch
from mipack.pipeline import carried_out
from mipack.ranking import planned, ranked
from mipack.result import PruneResult
from mipack.select.decide import Decider
from mipack.select.evidence import Evidence
from mipack.settle import Settled


class Judge:
    """Data beside the calibration rows to judge models on, if there is any."""

    def __init__(self, material: Material, test: Dataset | None) -> None:
        """Raises InputError where labels and outputs do not fit together: before anything costs
        time."""
        self._material, self._test = material, test
        batches = self._batches() or material.held_out
        self._compared(material.prepared.original, batches[:1])

    def __call__(self, model: ir.Model) -> Evaluation | None:
        """A model against the original on all of it."""
        if self._test is None:
            return None
        return self._compared(model, self._batches()).named(self._test.title)

    def _batches(self) -> Sequence[Batch]:
        return self._material.batches(self._test)

    def _compared(self, model: ir.Model, batches: Sequence[Batch]) -> Evaluation:
        data = self._test or self._material.prepared.dataset
        original = self._material.prepared.original
        return evaluate(
            [("original", in_parts(original)), ("pruned", in_parts(model))],
            batches,
            mask=data.mask if data else None,
            provider=self._material.provider,
        )


class Study:
    """What was learned of a model once; it makes models of any budget."""

    def __init__(self, path: Path, material: Material, judge: Judge) -> None:
        self.path, self.material, self._judge = path, material, judge

    @cached_property
    def learned(self) -> tuple[Decider, Evidence]:
        """Calibrated and ranked when the first point is missing; never again."""
        material, watch = self.material, Stopwatch()
        count(material)
        evidence = rotated(material, collect(material, watch), None)
        return ranked(material, evidence, watch, material.prepared.coupling.cost)

    def decided(
        self, options: PruneOptions, learned: tuple[Decider, Evidence]
    ) -> tuple[Material, Settled]:
        """The plan for a budget. Raises InputError where it is out of reach."""
        decider, evidence = learned
        material = self.material.at(options)
        material.announce(None)
        request = options.request()
        decision = decider.decide(request)
        return material, Settled(planned(material, evidence, request, decision), decider)

    def made(self, material: Material, settled: Settled) -> PruneResult:
        """Its model. Raises VerificationError where that fails its proof."""
        return carried_out(material, self.learned[1], settled, Stopwatch())

    def judged(self, result: PruneResult) -> PruneResult:
        """The result with its quality on the data to judge on, if that is not the held-out rows."""
        self.material.say.stage("evaluate", None)
        found = self._judge(result.model) if result.model is not None else None
        if found is None or result.background is None:
            return result
        behind = replace(result.background, quality=found, held_out="samples to judge on")
        return replace(result, background=behind)
