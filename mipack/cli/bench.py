"""mipack bench: models side by side on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mipack.cli._options import DataOptions, LoadOptions, OutputOptions, RunOptions, flat, sizes

if TYPE_CHECKING:
    from mipack.bench.stats import Ratio
    from mipack.front.race import Race
    from mipack.report.terminal import Block

Models = Annotated[
    list[Path],
    typer.Argument(metavar="MODEL", help="the original, then others", show_default=False),
]
Data = Annotated[
    Path | None,
    typer.Option(help="a file or folder of data for the inputs (default: made-up inputs)"),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        help="sizes of dimensions, e.g. batch=8,sequence=128; repeat it for more races",
        metavar="NAME=N,...",
    ),
]
Threads = Annotated[
    int | None, typer.Option(help="threads of each model (default: physical cores)", min=1)
]
Rounds = Annotated[int, typer.Option(help="rounds before it may stop early", min=6)]
Seconds = Annotated[float, typer.Option(help="time for all rounds of all shapes")]


@flat
def bench(
    models: Models,
    *,
    data: Data = None,
    shape: Shapes = None,
    threads: Threads = None,
    rounds: Rounds = 30,
    seconds: Seconds = 10.0,
    reading: DataOptions,
    run: RunOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Time models side by side, with the interval of the ratio."""
    from mipack.front import race

    with output.sink("bench") as sink, load.libraries():
        sink.stage("bench", None)
        found = race.bench(
            models,
            data,
            shapes=[sizes(text) for text in shape or ()],
            options=reading.read(samples=512),
            batch_size=run.batch_size,
            rounds=rounds,
            seconds=seconds,
            threads=threads,
            provider=run.provider,
        )
        for note in found.notes:
            sink.note(note)
        if found.comparison.warning is not None:
            sink.warn(found.comparison.warning)
        sink.result(found, lambda: _blocks(found))


def _blocks(found: Race) -> Sequence[Block]:
    first = found.comparison.timings[0]
    shapes = dict.fromkeys(timing.shape for timing in found.comparison.timings)
    return [
        f"{first.threads} threads, {first.provider}",
        _sizes(found),
        *(_race(found, shape) for shape in shapes),
    ]


def _sizes(found: Race) -> Block:
    from mipack.report.terminal import Column, Table, count, volume

    columns = (
        Column("model", "name"),
        Column("MACs/sample"),
        Column("parameters"),
        Column("file"),
    )
    rows = tuple(
        (m.name, count(m.macs), count(m.params), volume(m.file_bytes)) for m in found.models
    )
    return Table(columns, rows)


def _race(found: Race, shape: str) -> Block:
    from mipack.report.terminal import Column, Table, real, volume

    titles = ("median ms", "p95 ms", "load ms", "peak memory", "time ratio", "95 % interval")
    columns = (Column("model", "name"), *map(Column, titles))
    contrasts = {c.name: c.ratio for c in found.comparison.contrasts if c.shape == shape}
    rows = tuple(
        (
            timing.name,
            f"{timing.median_ms:.3f}",
            f"{timing.p95_ms:.3f}",
            real(timing.load_ms, 3),
            volume(timing.peak_memory_bytes),
            *_ratio(contrasts.get(timing.name)),
        )
        for timing in found.comparison.timings
        if timing.shape == shape
    )
    return Table(columns, rows, shape)


def _ratio(ratio: Ratio | None) -> tuple[str, str]:
    """Time as a share of the base's, and its interval; the base has neither."""
    if ratio is None:
        return "1", ""
    return f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}"
