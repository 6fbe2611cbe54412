"""mipack query: samples sent to a server, its answers compared with the model here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mipack.cli._options import DataOptions, LoadOptions, OutputOptions, flat

if TYPE_CHECKING:
    from mipack.front.ask import Answers
    from mipack.show.blocks import Block


@flat
def query(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="e.g. http://127.0.0.1:8000", show_default=False),
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="the model's name there", show_default=False)
    ],
    *,
    data: Annotated[Path, typer.Option(help="a file or folder of samples", show_default=False)],
    model: Annotated[
        Path | None, typer.Option(help="compare the answers with this ONNX model, run here")
    ] = None,
    protocol: Annotated[
        Literal["http", "grpc"] | None,
        typer.Option(help="default: what the URL says", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="samples per request", min=1)] = 1,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="difference allowed, relative to an output's largest value (default: 1e-4; 1e-2 "
            "for 16 bits)",
        ),
    ] = None,
    reading: DataOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Ask a server over the v2 protocol; exit 1 where it answers otherwise than the model here."""
    from mipack.front import ask as front

    with output.sink("query") as sink, load.libraries():
        found = front.query(
            url,
            name,
            data,
            model=model,
            protocol=protocol,
            batch_size=batch_size,
            tolerance=tolerance,
            read=reading.read(samples=front.SAMPLES),
            progress=sink,
        )
        sink.result(found, lambda: _blocks(found))
    if not found.passed:
        raise typer.Exit(1)


def _blocks(found: Answers) -> Sequence[Block]:
    from mipack.show.blocks import Column, Table, real, share

    blocks: list[Block] = [
        f"{found.model} on {found.server} at {found.url} ({found.protocol}): {found.samples:,} "
        f"samples in {found.requests:,} requests, p50 {found.latency_p50:.2f} ms, p95 "
        f"{found.latency_p95:.2f} ms"
    ]
    if not found.outputs:
        return [*blocks, "not compared: give --model to compare with ONNX Runtime here"]
    titles = ("largest difference", "relative", "allowed", "agreement", "verdict")
    rows = tuple(
        (
            one.output,
            real(one.max_absolute, 3),
            real(one.max_relative, 3),
            real(one.tolerance, 3),
            share(one.agreement, 2),
            "equal to the bit" if one.equal else "same" if one.passed else "DIFFERS",
        )
        for one in found.outputs
    )
    return [*blocks, Table((Column("output", "name"), *map(Column, titles)), rows)]
