"""mipack bench: models side by side on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mipack.cli._options import DataOptions, LoadOptions, OutputOptions, flat, numbers, sizes

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
        sink.result(found, found.blocks)
