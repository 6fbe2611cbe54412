"""mipack bench: models side by side on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mipack.cli._options import DataOptions, LoadOptions, OutputOptions, flat, numbers, sizes

if TYPE_CHECKING:
    from mipack.bench.load import Throughput
    from mipack.bench.loop import Contrast, Timing
    from mipack.bench.stats import Ratio
    from mipack.front.race import Race
    from mipack.show.blocks import Block

Setting = tuple[str, int, str]
"""Shape, threads, provider."""

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
    str | None,
    typer.Option(help="threads of each model, e.g. 1,2 (default: physical cores)", metavar="N,..."),
]
Concurrency = Annotated[
    str | None,
    typer.Option(
        help="also count requests per second of so many clients, e.g. 1,4", metavar="N,.."
    ),
]
Provider = Annotated[
    str,
    typer.Option(
        help="where to run: auto, or names such as cpu,cuda, which then run everything themselves",
        metavar="NAME,...",
    ),
]
BatchSize = Annotated[int, typer.Option(help="samples per run", min=1)]
Rounds = Annotated[int, typer.Option(help="rounds before it may stop early", min=6)]
Seconds = Annotated[float, typer.Option(help="time for all rounds of all shapes")]


@flat
def bench(
    models: Models,
    *,
    data: Data = None,
    shape: Shapes = None,
    threads: Threads = None,
    concurrency: Concurrency = None,
    provider: Provider = "auto",
    batch_size: BatchSize = 32,
    rounds: Rounds = 30,
    seconds: Seconds = 10.0,
    reading: DataOptions,
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
            batch_size=batch_size,
            rounds=rounds,
            seconds=seconds,
            threads=None if threads is None else numbers("--threads", threads),
            concurrency=numbers("--concurrency", concurrency) if concurrency is not None else (),
            provider=[name.strip() for name in provider.split(",")],
        )
        for note in found.notes:
            sink.note(note)
        for text in found.warnings:
            sink.warn(text)
        sink.result(found, lambda: _blocks(found))


def _blocks(found: Race) -> Sequence[Block]:
    races = dict.fromkeys((t.shape, t.threads, t.provider) for t in found.comparison.timings)
    settings = dict.fromkeys(race[1:] for race in races)
    tables: list[Block] = []
    for race in races:
        title = race[0] if len(settings) == 1 else f"{race[0]}, {_setting(*race[1:])}"
        tables += [_race(found, race, title), *_loads(found, race, title)]
    head = [_setting(*setting) for setting in settings] if len(settings) == 1 else []
    return [*head, _sizes(found), *tables]


def _setting(threads: int, provider: str) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}, {provider}"


def _sizes(found: Race) -> Block:
    from mipack.show.blocks import Column, Table, count, volume

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


def _race(found: Race, race: Setting, title: str) -> Block:
    from mipack.show.blocks import Column, Table, real, volume

    titles = ("median ms", "p95 ms", "load ms", "peak memory", "time ratio", "95 % interval")
    columns = (Column("model", "name"), *map(Column, titles))
    contrasts = {c.name: c.ratio for c in found.comparison.contrasts if _of(c) == race}
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
        if _of(timing) == race
    )
    return Table(columns, rows, title)


def _loads(found: Race, race: Setting, title: str) -> list[Block]:
    """Requests per second, where they were counted."""
    from mipack.show.blocks import Column, Table

    loads = [load for load in found.comparison.throughput if _of(load) == race]
    if not loads:
        return []
    titles = ("clients", "requests/s", "p50 ms", "p95 ms", "rate ratio", "95 % interval")
    columns = (Column("model", "name"), *map(Column, titles))
    rows = tuple(
        (
            load.name,
            str(load.concurrency),
            f"{load.per_second:.4g}",
            f"{load.p50_ms:.3f}",
            f"{load.p95_ms:.3f}",
            *_ratio(load.ratio),
        )
        for load in loads
    )
    return [Table(columns, rows, f"{title}: so many clients ask one session")]


def _of(record: Timing | Contrast | Throughput) -> Setting:
    return record.shape, record.threads, record.provider


def _ratio(ratio: Ratio | None) -> tuple[str, str]:
    """Time (or rate) as a multiple of the base's, and its interval; the base has neither."""
    if ratio is None:
        return "1", ""
    return f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}"
