"""Results for people: tables and lines as records, as plain text, and as HTML.

Names and texts come from models and files: control characters are taken out of text, and all of it
is escaped in HTML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

GAP = 2
"""Blanks between two columns."""
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


def plain(blocks: Sequence[Block]) -> str:
    """The blocks one below the other, tables set off by a blank line; nothing is shortened."""
    return stacked(blocks, _plain_table)


def stacked(blocks: Sequence[Block], draw: Callable[[Table], str]) -> str:
    """The same with tables as `draw` has them."""
    parts: list[str] = []
    for at, block in enumerate(blocks):
        apart = isinstance(block, Table) or (at > 0 and isinstance(blocks[at - 1], Table))
        if at and apart:
            parts.append("")
        parts.append(clean(block) if isinstance(block, str) else draw(block))
    return "\n".join(parts) + "\n"


def clean(text: str) -> str:
    """Text from a file without the control characters that would steer the terminal."""
    return _CONTROL.sub("?", text)


def _plain_table(table: Table) -> str:
    titles = tuple(column.title for column in table.columns)
    rows = [tuple(map(clean, row)) for row in (titles, *table.rows)]
    widths = [max(map(len, entries)) for entries in zip(*rows, strict=True)]
    lines = [clean(table.title)] if table.title else []
    for row in rows:
        cells = [
            cell.rjust(width) if column.kind == "number" else cell.ljust(width)
            for cell, column, width in zip(row, table.columns, widths, strict=True)
        ]
        lines.append((" " * GAP).join(cells).rstrip())
    return "\n".join(lines)


def html(blocks: Sequence[Block]) -> str:
    """The blocks as a fragment of HTML that brings no script and no style sheet."""
    return "<div>" + "".join(map(_html_block, blocks)) + "</div>"


def _html_block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{escape(clean(block))}</p>"
    title = f"<caption>{escape(clean(block.title))}</caption>" if block.title else ""
    head = "".join(_html_cell("th", column, column.title) for column in block.columns)
    rows = "".join(
        "<tr>" + "".join(map(_html_cell, ["td"] * len(row), block.columns, row)) + "</tr>"
        for row in block.rows
    )
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _html_cell(tag: str, column: Column, text: str) -> str:
    side = "right" if column.kind == "number" else "left"
    return f'<{tag} style="text-align: {side}">{escape(clean(text))}</{tag}>'


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
