"""mipack sweep: several budgets from one calibration, judged, timed and compared."""

from __future__ import annotations

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
from mipack.cli._pruning import Choice
from mipack.errors import InputError
from mipack.explore.budgets import parsed

if TYPE_CHECKING:
    from mipack.front.reports import Bench

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

    def race(self, run: RunOptions) -> Bench | None:
        """How points are raced. Raises InputError."""
        shapes = [sizes(text) for text in self.shape or ()]
        if self.no_bench:
            return None
        from mipack.front.reports import Bench

        return Bench(
            shapes=shapes,
            batch_size=run.batch_size,
            seconds=self.seconds,
            threads=self.threads,
            provider=run.provider,
        )


@flat
def sweep(
    context: typer.Context,
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
        shares, read = budgets.settings(), reading.read(samples=512)
        apart: dict[str, Any] = {}
        if judging.data is not None:
            apart = {"data": judging.data, "data_read": replace(read, samples=None)}
            read = replace(read, labels=None)
        race = judging.race(run)
        from mipack.data.labels import read_classes
        from mipack.explore.sweep import sweep as explored

        found = explored(
            model,
            calib,
            out,
            **shares,
            **apart,
            read=read,
            race=race,
            command=("mipack", *context.obj),
            classes=read_classes(reading.classes) if reading.classes is not None else (),
            progress=sink,
            seed=reading.seed,
            provider=run.provider,
            batch_size=run.batch_size,
            **choice.settings(),
        )
        for text in found.comparison.notes:
            sink.note(text)
        for text in found.warnings:
            sink.warn(text)
        sink.result(found, found.blocks)
