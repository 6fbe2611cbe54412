"""mipack sweep: several budgets from one calibration, judged, timed and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mipack.cli._options import (
    DataOptions,
    LoadOptions,
    Model,
    OutputOptions,
    RunOptions,
    flat,
    sizes,
)
from mipack.cli.prune import Choice
from mipack.errors import InputError
from mipack.explore.budgets import parsed

if TYPE_CHECKING:
    from mipack.explore.points import Point, Sweep
    from mipack.explore.sweep import Timing
    from mipack.report.terminal import Block

Calib = Annotated[Path, typer.Option(help="a file or folder of data", show_default=False)]
Folder = Annotated[
    Path,
    typer.Option("--out", "-o", help="a new folder, or that of the same sweep", show_default=False),
]
Shares = "LOW..HIGH|A,B,.."


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """What is tried."""

    keep: Annotated[
        str | None,
        typer.Option(help="the shares of --keep to prune at", metavar=Shares),
    ] = None
    macs: Annotated[
        str | None, typer.Option(help="the shares of the MACs to prune at", metavar=Shares)
    ] = None
    points: Annotated[
        int | None, typer.Option(help="how many budgets a range stands for (default 4)")
    ] = None

    def settings(self) -> dict[str, Any]:
        """The budgets of the one kind that is given, as `mipack.sweep` names them. InputError."""
        given = {k: v for k, v in (("keep", self.keep), ("macs", self.macs)) if v is not None}
        if len(given) != 1:
            raise InputError(
                "a sweep has budgets of one kind, " + ("two are given" if given else "none given"),
                hint="give --keep or --macs, e.g. --keep 0.2..0.8",
            )
        return {option: parsed(option, text, self.points) for option, text in given.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What points are judged by."""

    data: Annotated[
        Path | None,
        typer.Option(
            help="judge on this data, all of it; labels are read from it "
            "(default: the calibration rows that fit nothing)"
        ),
    ] = None
    no_bench: Annotated[bool, typer.Option("--no-bench", help="do not time the models")] = False
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="sizes to time at, e.g. batch=8,sequence=128; repeat it for more races",
            metavar="NAME=N,...",
        ),
    ] = None
    seconds: Annotated[float, typer.Option(help="time for the race of a point")] = 10.0
    threads: Annotated[
        int | None, typer.Option(help="threads of each model (default: physical cores)", min=1)
    ] = None

    def timing(self) -> Timing | None:
        """How points are raced. Raises InputError."""
        from mipack.explore.sweep import Timing

        if self.no_bench:
            return None
        shapes = tuple(sizes(text) for text in self.shape or ())
        return Timing(shapes=shapes, seconds=self.seconds, threads=self.threads)


@flat
def sweep(
    model: Model,
    *,
    calib: Calib,
    out: Folder,
    budgets: Budgets,
    judging: Judging,
    choice: Choice,
    reading: DataOptions,
    run: RunOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Prune at several budgets from one calibration; judge, time and compare the models.

    It goes on where an earlier run in the same folder stopped, and adds budgets to it.
    """
    with output.sink("sweep") as sink, load.libraries():
        shares = budgets.settings()
        timing = judging.timing()
        read = reading.read(samples=512)
        from mipack.explore.sweep import sweep as explored

        apart: dict[str, Any] = {}
        if judging.data is not None:
            apart = {"data": judging.data, "data_read": replace(read, samples=None)}
            read = replace(read, labels=None)
        found = explored(
            model,
            calib,
            out,
            **shares,
            **apart,
            read=read,
            timing=timing,
            progress=sink,
            seed=reading.seed,
            provider=run.provider,
            batch_size=run.batch_size,
            **choice.settings(),
        )
        for text in found.warnings:
            sink.warn(text)
        sink.result(found, lambda: _blocks(found))


def _blocks(found: Sweep) -> Sequence[Block]:
    blocks: list[Block] = [_table(found)]
    made = [point for point in found.points if point.problem is None]
    blocks += [f"{p.name}: no model: {p.problem}" for p in found.points if p.problem is not None]
    first = next((point.quality for point in made if point.quality is not None), None)
    if first is not None:
        blocks.append(f"{first.metric} on {first.samples:,} samples; *: no other model beats it")
    if any(entry.noisy for point in made for entry in point.pace):
        blocks.append(
            "some ratios are noisy: stop other work and time the models with mipack bench"
        )
    return [*blocks, f"wrote {', '.join(map(str, found.files))}"] if found.files else blocks


def _table(found: Sweep) -> Block:
    from mipack.report.terminal import Column, Table

    metric = next((p.quality.metric for p in found.points if p.quality is not None), "quality")
    shapes = next(([s.shape for s in p.pace] for p in found.points if p.pace), [])
    titles = ("MACs", "parameters", "file", metric, "difference", "agreement", "KL")
    timed = [f"time, {shape}" for shape in shapes] + (["95 % interval"] if shapes else [])
    columns = (Column("", "word"), Column("model", "name"), *map(Column, (*titles, *timed)))
    front = found.front
    listed = (found.original, *(p for p in found.points if p.problem is None))
    rows = tuple(
        ("*" if point.name in front else "", point.name, *_cells(point, found, len(shapes)))
        for point in listed
    )
    return Table(columns, rows)


def _cells(point: Point, found: Sweep, shapes: int) -> tuple[str, ...]:
    from mipack.report.terminal import count, real, share, volume

    sizes_ = (count(point.macs), count(point.params), volume(point.bytes))
    quality = point.quality
    if point is found.original:
        first = next((p.quality.original for p in found.points if p.quality is not None), None)
        return (*sizes_, share(first, 2), "", "", "", *(["1"] * shapes), "")[: 7 + shapes + 1]
    judged = ("-",) * 4
    if quality is not None:
        lost = f"{100 * (quality.value - quality.original):+.2f}"
        judged = (
            share(quality.value, 2), lost, share(quality.agreement, 2), real(quality.kl)
        )  # fmt: skip
    ratios = tuple(f"{entry.ratio:.3f}" for entry in point.pace)
    bounds = [entry.interval for entry in point.pace][:1]
    interval = tuple(f"{low:.3f} to {high:.3f}" for low, high in bounds)
    return (*sizes_, *judged, *ratios, *interval)
