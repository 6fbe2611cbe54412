"""mipack inspect: what can be cut, what it holds, what is frozen and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mipack.cli._options import DataOptions, LoadOptions, Model, OutputOptions, Shape, flat, sizes

if TYPE_CHECKING:
    from mipack.front.survey import Inspection
    from mipack.report.terminal import Block

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
        sink.result(found, lambda: _blocks(found, every=output.verbose))


def _blocks(found: Inspection, *, every: bool) -> Sequence[Block]:
    from mipack.report.terminal import count, share, volume

    free = found.free
    blocks: list[Block] = [
        f"{found.model}: {count(found.macs)} MACs per sample, {count(found.params)} parameters, "
        f"{volume(found.bytes)} of weights",
        _groups(found, every=every),
    ]
    if not free:
        blocks.append("nothing in this model may be cut")
    else:
        whole = sum(row.removable for row in free)
        blocks.append(
            f"{len(free)} free groups of {sum(row.size for row in free):,} units"
            + (f"; {whole} may go entirely, with the branch that they are in" if whole else "")
        )
    if found.unread:
        part = share(found.unread / found.macs)
        blocks.append(f"nobody reads what {part} of the MACs compute: prune and slim leave it out")
    if any(row.state == "family" for row in found.groups):
        blocks.append("family: chosen for each unit of another group; mipack why names it")
    if found.frozen:
        blocks.append(_frozen(found))
    if found.unknown_ops:
        listed = ", ".join(f"{op} ({n})" for op, n in found.unknown_ops.items())
        blocks.append(f"no rule for: {listed}; all axes that they touch are frozen")
    return blocks


def _groups(found: Inspection, *, every: bool) -> Block:
    """Free groups, widths and families; frozen ones are summed up elsewhere unless asked for."""
    from mipack.report.terminal import Column, Table, share

    columns = (
        Column("group", "name"),
        Column("kind", "word"),
        Column("state", "word"),
        Column("size"),
        Column("MACs"),
        Column("weights"),
    )
    rows = tuple(
        (
            row.name,
            row.kind,
            row.state,
            f"{row.size:,}",
            share(row.macs_share),
            f"{len({name for name, _ in row.weights})}",
        )
        for row in found.groups
        if every or row.state != "frozen"
    )
    return Table(columns, rows, "groups (MACs: of all layers that a group takes part in)")


def _frozen(found: Inspection) -> Block:
    from mipack.report.terminal import Column, Table

    columns = (
        Column("frozen because", "text"),
        Column("groups"),
        Column("units"),
        Column("for example", "name"),
        Column("by", "name"),
    )
    rows = tuple(
        (entry.reason, f"{entry.groups:,}", f"{entry.units:,}", entry.example, entry.node)
        for entry in found.frozen
    )
    return Table(columns, rows)
