"""mipack inspect: what can be cut, what it holds, what is frozen and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mipack.cli._options import DataOptions, LoadOptions, Model, OutputOptions, Shape, flat, sizes

if TYPE_CHECKING:
    pass

Calib = Annotated[
    Path | None,
    typer.Option(help="a file or folder of data to run the model on (default: made-up inputs)"),
]

Page = Annotated[
    Path | None,
    typer.Option("--html", help="write it as one searchable page", metavar="FILE"),
]
Force = Annotated[bool, typer.Option("--force", help="overwrite an existing page")]


@flat
def inspect(
    model: Model,
    *,
    calib: Calib = None,
    shape: Shape = None,
    html: Page = None,
    force: Force = False,
    data: DataOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Show what may be cut, what it costs, what is frozen and why."""
    from mipack.front import survey
    from mipack.result import check_page

    with output.sink("inspect") as sink, load.libraries():
        if html is not None:
            check_page(html, force)
        found = survey.inspect(model, calib, sizes=sizes(shape), options=data.read(samples=512))
        for note in found.notes:
            sink.note(note)
        if html is not None:
            sink.note(f"wrote {survey.write_page(found, html, force=force)}")
        sink.result(found, lambda: found.blocks(every=output.verbose))
