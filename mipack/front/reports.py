"""The report of a run: gathered from its result, from a race and from the files that it left."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from typing import Any

from mipack import __version__
from mipack.bench.loop import Comparison
from mipack.couple.listing import GroupRow, frozen_classes
from mipack.data.dataset import ReadOptions
from mipack.data.dims import check_sizes
from mipack.evaluate.compare import Evaluation
from mipack.evaluate.paired import Z95
from mipack.front.finishing import Finished
from mipack.front.operators import operators
from mipack.front.race import Race, Shape, bench
from mipack.graph.load import file_bytes, publish, signature, staging
from mipack.options import Progress
from mipack.prepare import Data, open_model
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
    Verdict,
)
from mipack.report.verdict import verdict
from mipack.result import PruneResult, plan_path, refuse_existing
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


def check(model: Path, race: Bench) -> None:
    """InputError where a shape of the race names no dimension of the model: before any work."""
    declared = signature(open_model(model))
    for shape in race.shapes:
        check_sizes(declared, shape)


def save(
    result: PruneResult,
    model: Path | None,
    out: Path,
    *,
    force: bool = False,
    command: Sequence[str] = (),
    race: Bench | None = None,
    finished: Finished | None = None,
    classes: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Write the pruned model, its plan and its report beside each other; the files written.

    `model` is the original's file, which a `race` against it needs; what was `finished` of the
    result is written in its place, with the gain of every step in the report. All files are made in
    a private folder before any takes its place: an error or an interrupt leaves nothing partial.
    Raises InputError and VerificationError as `PruneResult.save` does.
    """
    refuse_existing(out, force)
    with staging(out) as folder:
        made = fill(
            folder,
            result,
            model,
            out,
            command=command,
            race=race,
            finished=finished,
            classes=classes,
            progress=progress,
        )
        for file in made:  # the weights come before the model that points at them
            publish(file, out.with_name(file.name))
        if not any(file.name == f"{out.name}.data" for file in made):
            out.with_name(f"{out.name}.data").unlink(missing_ok=True)  # of an older model
    return tuple(out.with_name(file.name) for file in made)


def fill(
    folder: Path,
    result: PruneResult,
    model: Path | None,
    out: Path,
    *,
    command: Sequence[str] = (),
    race: Bench | None = None,
    finished: Finished | None = None,
    classes: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """What `save` writes, in a private `folder`; the report calls it what it will be beside
    `out`."""
    last = result if finished is None else replace(result, model=finished.model)
    made = last.save(folder / out.name)
    found, ops = _timed(model, folder / out.name, race, progress)
    report = build(
        result,
        model,
        out,
        made,
        command=command,
        race=found,
        operators=ops,
        stages=[stage.to_json() for stage in finished.stages] if finished else (),
        classes=classes,
    )
    return (*made, *on_disk.put(report, folder / out.name))


def _timed(
    model: Path | None, made: Path, wanted: Bench | None, progress: Progress | None
) -> tuple[Race | None, Operators | None]:
    """The race of both files and where their time goes; nothing where it is not wanted."""
    if wanted is None or model is None:
        return None, None
    if progress is not None:
        progress.stage("bench", None)
    found = bench(
        [model, made],
        wanted.data,
        shapes=wanted.shapes,
        options=wanted.options,
        batch_size=wanted.batch_size,
        rounds=wanted.rounds,
        seconds=wanted.seconds,
        threads=wanted.threads,
        provider=wanted.provider,
    )
    label, feeds = found.feeds[0]
    threads = found.comparison.timings[0].threads
    ops = operators(
        model,
        made,
        label,
        feeds,
        threads=threads,
        provider=wanted.provider,
        seconds=wanted.seconds / 5,
    )
    return found, ops


def build(
    result: PruneResult,
    model: Path | None,
    out: Path,
    written: Sequence[Path],
    *,
    command: Sequence[str] = (),
    race: Race | None = None,
    operators: Operators | None = None,
    stages: Sequence[Mapping[str, Any]] = (),
    classes: Sequence[str] = (),
) -> Report:
    """The report of a result. `written`: the files it was saved to, wherever they lie now; `out`:
    what the model will be called."""
    behind = result.background
    quality = _quality(behind.quality, behind.held_out) if behind else None
    latency = _latency(race) if race else None
    changed = behind.signature_changed if behind else False
    report = Report(
        mipack=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        name=model.name if model else out.name,
        command=shlex.join(command),
        verdict=Verdict(answer="look", headline=""),  # judged when all else is there
        before=result.before,
        after=result.after,
        unread=result.unread,
        groups=_groups(behind.groups if behind else (), result.plan.groups),
        frozen=_frozen(behind.groups if behind else ()),
        quality=quality,
        latency=latency,
        operators=operators,
        stages=_stages(stages),
        checks=result.checks,
        warnings=result.warnings,
        settings=_settings(result.plan.settings),
        promises=result.promises,
        sizes=result.plan.sizes,
        timings=result.timings,
        peak_memory=result.peak_memory,
        files=_files(model, out, written),
        model_digest=result.plan.model,
        data=behind.data if behind else (),
        data_digest=behind.data_digest if behind else None,
        environment=environment(probe=False),
        signature_changed=changed,
        class_names=tuple(classes),
    )
    return replace(report, verdict=verdict(report))


# ---------------------------------------------------------------- the parts


def _groups(rows: Sequence[GroupRow], planned: Sequence[GroupPlan]) -> tuple[GroupCut, ...]:
    """Every group that may be cut, in the order of the network; what no plan names stays whole."""
    plans = {plan.name: plan for plan in planned}
    cuts = []
    for row in rows:
        plan = plans.get(row.name)
        if row.state == "frozen" and plan is None:
            continue
        cut = GroupCut(
            name=row.name,
            kind=row.kind,
            state=row.state,
            size=row.size,
            kept=plan.kept if plan else row.size,
            macs=row.macs_share,
            information=plan.information if plan else None,
            loss=plan.loss if plan else None,
            rotated=plan.rotated if plan else False,
        )
        cuts.append(cut)
    return tuple(cuts)


def _frozen(rows: Sequence[GroupRow]) -> tuple[FrozenClass, ...]:
    return tuple(
        FrozenClass(
            reason=entry.reason,
            groups=entry.groups,
            units=entry.units,
            example=entry.example,
            node=entry.node,
        )
        for entry in frozen_classes(rows)
    )


def _quality(found: Evaluation | None, source: str) -> Quality | None:
    if found is None:
        return None
    first = found.fidelity[0]
    interval = None if first.flips is None else wilson(first.rows - first.flips, first.rows)
    return Quality(
        samples=found.samples,
        source=source,
        score=found.score,
        fidelity=found.fidelity,
        interval=interval,
        changes=found.changes,
    )


def wilson(hits: int, rows: int) -> tuple[float, float] | None:
    """The 95 % interval of a share by Wilson (1927): honest also where no answer differs."""
    if not rows:
        return None
    share, square = hits / rows, Z95**2 / rows
    centre = (share + square / 2) / (1 + square)
    reach = sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _latency(race: Race) -> Latency:
    """The race with the models called by their part in it, whatever their files are called."""
    found: Comparison = race.comparison
    parts = dict(zip((size.name for size in race.models), ("original", "pruned"), strict=True))
    return Latency(
        timings=tuple(
            Timing(
                name=parts[entry.name],
                shape=entry.shape,
                median_ms=entry.median_ms,
                p95_ms=entry.p95_ms,
                load_ms=entry.load_ms,
                peak_memory_bytes=entry.peak_memory_bytes,
                threads=entry.threads,
                provider=entry.provider,
                repeats=entry.repeats,
                samples_ms=tuple(float(f"{sample:.5g}") for sample in entry.samples_ms),
            )
            for entry in found.timings
        ),
        contrasts=tuple(
            Contrast(
                name=parts[entry.name],
                base=parts[entry.base],
                shape=entry.shape,
                ratio=entry.ratio.value,
                interval=(entry.ratio.low, entry.ratio.high),
                noisy=entry.ratio.noisy,
            )
            for entry in found.contrasts
        ),
        warning=found.warning,
        notes=race.notes,
    )


def _stages(listed: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
    """Records of finishing as this report keeps them; what it does not know is left out."""
    known = Stage.__dataclass_fields__
    stages = []
    for entry in listed:
        given = {name: value for name, value in entry.items() if name in known}
        bounds = given.get("interval")
        given["interval"] = (float(bounds[0]), float(bounds[1])) if bounds else None
        given["notes"] = tuple(map(str, given.get("notes") or ()))
        stages.append(Stage(**given))
    return tuple(stages)


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value not in (None, (), [], {})}


def _files(model: Path | None, out: Path, written: Sequence[Path]) -> tuple[File, ...]:
    files = []
    if model is not None:
        files.append(_file("original", model, str(model), file_bytes(model)))
    for path in written:
        role = "plan" if path.name == plan_path(out).name else "weights"
        role = "result" if path.name == out.name else role
        files.append(_file(role, path, str(out.with_name(path.name)), path.stat().st_size))
    return tuple(files)


def _file(role: str, path: Path, name: str, size: int) -> File:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return File(role=role, path=name, bytes=size, sha256=digest)
