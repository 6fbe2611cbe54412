"""mipack package: a folder that an inference server loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mipack.cli._options import DataOptions, Model, OutputOptions, flat

if TYPE_CHECKING:
    from mipack.front.deploy import Packaged
    from mipack.show.blocks import Block


class Target(StrEnum):
    """What the folder is for; a model repository is part of all of them."""

    TRITON = "triton"
    KSERVE = "kserve"
    DOCKER = "docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the server runs the model."""

    max_batch_size: Annotated[
        int | None,
        typer.Option(
            min=0, help="samples in one run (default 32, 0 where the model cannot be batched)"
        ),
    ] = None
    queue_delay: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="MICROSECONDS",
            help="how long a request waits for others to be batched with; a lone client pays it",
        ),
    ] = 0
    instances: Annotated[int, typer.Option(min=1, help="copies that run at once")] = 1
    device: Annotated[Literal["cpu", "gpu"], typer.Option(help="where the server runs it")] = "cpu"
    intra_threads: Annotated[
        int, typer.Option(min=0, help="threads inside an op, per instance; 0: all cores")
    ] = 1
    inter_threads: Annotated[int, typer.Option(min=0, help="threads between ops; 0: all")] = 1

    def settings(self) -> dict[str, Any]:
        """As `Settings` names them."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@flat
def package(
    model: Model,
    *,
    name: Annotated[str, typer.Option(help="what clients call the model", show_default=False)],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="the folder", show_default=False)
    ],
    target: Annotated[
        list[Target] | None,
        typer.Option(
            help="triton: the model repository; kserve, docker: with a manifest, a Dockerfile "
            "(may be repeated)"
        ),
    ] = None,
    calib: Annotated[
        Path | None, typer.Option(help="warm up with samples of it, and take a few along")
    ] = None,
    with_original: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="serve it beside, as NAME-original")
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option(help="class names, one per line, that the server tells")
    ] = None,
    storage_uri: Annotated[
        str | None, typer.Option(help="where a cluster finds the folder (kserve)")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a package of before")] = False,
    serving: Serving,
    reading: DataOptions,
    output: OutputOptions,
) -> None:
    """Write a Triton model repository: configuration, warm-up, README with the commands."""
    from mipack.front.deploy import package as pack
    from mipack.serve.triton import Settings

    with output.sink("package") as sink:
        targets = target or [Target.TRITON]
        done = pack(
            model,
            out,
            name=name,
            calib=calib,
            original=with_original,
            settings=Settings(**serving.settings()),
            labels=labels_file,
            docker=Target.DOCKER in targets,
            kserve=Target.KSERVE in targets,
            storage_uri=storage_uri,
            read=reading.read(samples=512),
            force=force,
        )
        for line in done.notes:
            sink.note(line)
        sink.result(done, lambda: _blocks(done))


def _blocks(done: Packaged) -> Sequence[Block]:
    from mipack.show.blocks import Column, Table

    columns = (
        Column("model", "name"),
        Column("batch up to"),
        Column("warm-up", "word"),
        Column("from", "name"),
    )
    rows = tuple(
        (
            model.name,
            str(model.max_batch_size) if model.batched else "no batching",
            ", ".join(sample.name for sample in model.samples) or "none",
            str(model.source),
        )
        for model in done.models
    )
    return [
        Table(columns, rows),
        f"wrote {done.folder}: {len(done.files)} files; how to run and to ask it: "
        f"{done.folder / 'README.md'}",
    ]
