"""Records as text for a terminal or a pipe: tables whose numbers are never wrapped or cut.

In a terminal names that are too long lose their left part (the right one tells them apart);
in a pipe nothing is shortened, so that the output can be searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any

from mipack.show.blocks import GAP, Block, Column, Table, clean, plain, stacked

if TYPE_CHECKING:
    from rich.table import Table as RichTable


SHORTEST_NAME = 16


def render(blocks: Sequence[Block], *, width: int | None = None, styled: bool = False) -> str:
    """The blocks one below the other, tables set off by a blank line.

    `width` is that of the terminal, None for a pipe; `styled` adds colours and bold heads.
    """
    if width is None and not styled:
        return plain(blocks)
    return stacked(blocks, partial(_draw, width=width, styled=styled))


def _draw(table: Table, width: int | None, styled: bool) -> str:
    from rich.console import Console

    rows = [tuple(clean(cell) for cell in row) for row in table.rows]
    if width is not None:
        rows = _shorten_names(table.columns, rows, width)
    console = Console(
        file=StringIO(),
        width=max(width or 0, _needed(table.columns, rows, width)),
        force_terminal=styled,
        color_system="standard" if styled else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    with console.capture() as capture:
        if table.title:
            console.print(clean(table.title), style="bold", soft_wrap=True)
        console.print(_rich(table.columns, rows))
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def _rich(columns: Sequence[Column], rows: Sequence[tuple[str, ...]]) -> RichTable:
    from rich.table import Table as RichTable

    drawn = RichTable(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        options: dict[str, Any] = {"no_wrap": column.kind != "text"}
        options["justify"] = "right" if column.kind == "number" else "left"
        drawn.add_column(column.title, **options)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def _widths(columns: Sequence[Column], rows: Sequence[tuple[str, ...]]) -> list[int]:
    """The widest entry of every column."""
    return [
        max([len(column.title), *(len(row[at]) for row in rows)])
        for at, column in enumerate(columns)
    ]


def _needed(columns: Sequence[Column], rows: Sequence[tuple[str, ...]], width: int | None) -> int:
    """The width at which no number is cut; in a pipe the one at which no text is wrapped."""
    widths = [
        min(natural, SHORTEST_NAME) if column.kind == "text" and width is not None else natural
        for column, natural in zip(columns, _widths(columns, rows), strict=True)
    ]
    return sum(widths) + GAP * (len(widths) - 1)


def _shorten_names(
    columns: Sequence[Column], rows: list[tuple[str, ...]], width: int
) -> list[tuple[str, ...]]:
    """Names cut so that the widest fit into what the other columns leave them."""
    names = {at for at, column in enumerate(columns) if column.kind == "name"}
    missing = _needed(columns, rows, width) - width
    if not names or missing <= 0:
        return rows
    widths = [natural for at, natural in enumerate(_widths(columns, rows)) if at in names]
    room = max(widths)
    while room > SHORTEST_NAME and sum(max(0, natural - room) for natural in widths) < missing:
        room -= 1
    return [
        tuple(_tail(cell, room) if at in names else cell for at, cell in enumerate(row))
        for row in rows
    ]


def _tail(text: str, room: int) -> str:
    return text if len(text) <= room else "..." + text[len(text) - room + 3 :]
