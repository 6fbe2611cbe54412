"""Records as text for a terminal or a pipe: tables whose numbers are never wrapped or cut.

In a terminal names that are too long lose their left part (the right one tells them apart);
in a pipe nothing is shortened, so that the output can be searched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable

GAP = 2
"""Blanks between two columns."""
SHORTEST_NAME = 16
UNSET = "-"
"""Stands for a value that does not exist."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `text` flows over lines, `name` is shortened from the left; `word` (to the left)
    and `number` (to the right) stay as they are."""

    title: str
    kind: str = "number"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of finished text, as many entries as columns."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


Block = Table | str


def render(blocks: Sequence[Block], *, width: int | None = None, styled: bool = False) -> str:
    """The blocks one below the other, tables set off by a blank line.

    `width` is that of the terminal, None for a pipe; `styled` adds colours and bold heads.
    """
    parts: list[str] = []
    for at, block in enumerate(blocks):
        apart = isinstance(block, Table) or (at > 0 and isinstance(blocks[at - 1], Table))
        if at and apart:
            parts.append("")
        parts.append(clean(block) if isinstance(block, str) else _draw(block, width, styled))
    return "\n".join(parts) + "\n"


def clean(text: str) -> str:
    """Text from a file without the control characters that would steer the terminal."""
    return _CONTROL.sub("?", text)


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


# ---------------------------------------------------------------- numbers for people


def count(number: int | None) -> str:
    """A count: exact up to five digits, else with three significant ones (`5.04 M`)."""
    if number is None:
        return UNSET
    return f"{number:,}" if abs(number) < 100_000 else _scaled(number, ("k", "M", "G", "T", "P"))


def volume(number: int | None) -> str:
    """Bytes in decimal units (`1.23 MB`)."""
    if number is None:
        return UNSET
    return f"{number} B" if abs(number) < 1000 else _scaled(number, ("kB", "MB", "GB", "TB"))


def share(value: float | None, digits: int = 1) -> str:
    """A share of 1 as percent."""
    return UNSET if value is None else f"{100 * value:.{digits}f} %"


def quotient(after: int, before: int) -> str:
    """`after` as a multiple of `before`."""
    return f"{after / before:.3f}" if before else UNSET


def change(
    rows: Sequence[tuple[str, int, int, Callable[[int], str]]], after: str = "after"
) -> Table:
    """(what, before, after, how to write it), with the ratio."""
    columns = (Column("", "word"), *map(Column, ("before", after, "ratio")))
    return Table(columns, tuple((n, say(b), say(a), quotient(a, b)) for n, b, a, say in rows))


def real(value: float | None, digits: int = 4) -> str:
    """A number with that many significant digits."""
    return UNSET if value is None else f"{value:.{digits}g}"


def _scaled(number: int, units: Sequence[str]) -> str:
    value, at = number / 1000, 0
    while abs(value) >= 999.5 and at + 1 < len(units):
        value, at = value / 1000, at + 1
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {units[at]}"
