"""The report of a run: gathered from its result, from a race and from the files that it left."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from typing import Any

from mipack import __version__
from mipack.bench.loop import Comparison
from mipack.couple.listing import GroupRow, frozen_classes
from mipack.data.dataset import ReadOptions
from mipack.errors import VerificationError
from mipack.evaluate.compare import Evaluation
from mipack.evaluate.paired import Z95
from mipack.front.operators import operators
from mipack.front.race import Race, Shape, bench
from mipack.graph.load import file_bytes, publish, staging
from mipack.options import Progress
from mipack.prepare import Data
from mipack.report import files as on_disk
from mipack.report.record import (
    Contrast,
    File,
    FrozenClass,
    GroupCut,
    Latency,
    Operators,
    Quality,
    Report,
    Stage,
    Timing,
)
from mipack.report.verdict import verdict
from mipack.result import PruneResult, plan_path, refuse_existing, report_paths
from mipack.runtime.machine import environment
from mipack.select.plan import GroupPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How the models are raced for a report; see `front.bench`."""

    data: Data | None = None
    shapes: Sequence[Shape] = ()
    options: ReadOptions = field(default_factory=ReadOptions)
    batch_size: int = 32
    rounds: int = 30
    seconds: float = 10.0
    threads: int | None = None
    provider: str = "auto"


def save(
    result: PruneResult,
    model: Path | None,
    out: Path,
    *,
    force: bool = False,
    command: Sequence[str] = (),
    race: Bench | None = None,
    classes: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Write the pruned model, its plan and its report beside each other; the files written.

    `model` is the original's file, which a `race` against it needs. All files are finished in a
    private folder before any takes its place: an error or an interrupt leaves nothing partial.
    Raises InputError and VerificationError as `PruneResult.save` does.
    """
    refuse_existing(out, force)
    with staging(out) as folder:
        made = result.save(folder / out.name)
        timed, ops = _timed(model, folder / out.name, race, progress)
        report = build(
            result, model, folder / out.name, out, command=command, race=timed, operators=ops,
            classes=classes,
        )
        made = (*made, *on_disk.put(report, folder / out.name))
        for file in made:  # the weights come before the model that points at them
            publish(file, out.with_name(file.name))
    return tuple(out.with_name(file.name) for file in made)
