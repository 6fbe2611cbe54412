"""Rows of text files: .txt (one text per line), .tsv and .csv (with a header), .jsonl."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mipack.errors import InputError

USUAL_TEXT = ("sentence", "text")
USUAL_LABEL = "label"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """All rows of some files; `place` names them, `columns` are those of every row."""

    place: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def values(self, column: str) -> list[Any]:
        """One column. Raises InputError for an unknown one."""
        if column not in self.columns:
            raise InputError(
                f"{self.place}: no column {column!r}",
                hint=f"every row has {', '.join(self.columns)}",
            )
        return [row[column] for row in self.rows]

    def text_column(self, *, label: str | None) -> str:
        """The column that obviously holds the text: a usual name, or the only one with words.

        Raises InputError where it is not obvious.
        """
        usual = [name for name in USUAL_TEXT if name in self.columns]
        wordy = [c for c in self.columns if c not in (label, USUAL_LABEL) and self._is_wordy(c)]
        for candidates in (usual, wordy):
            if len(candidates) == 1:
                return candidates[0]
        raise InputError(
            f"{self.place}: which column holds the text?",
            hint=f"name it with --text-column: {', '.join(self.columns)}",
        )

    def _is_wordy(self, column: str) -> bool:
        return all(isinstance(row[column], str) for row in self.rows[:20]) and any(
            not _is_number(row[column]) for row in self.rows[:20]
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_lines(path: Path) -> Iterator[Row]:
    """A .txt file: every line that is not blank."""
    for line in _lines(path):
        if line.strip():
            yield {"text": line}


def read_table(path: Path) -> Iterator[Row]:
    """A .csv file (quotes as usual) or a .tsv file (quotes are part of the text)."""
    tabs = path.suffix.lower() == ".tsv"
    lines = (f"{line}\n" for line in _lines(path))
    if tabs:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, [])
        _check_columns(path, header)
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{path}: line {rows.line_num} has {len(row)} fields, the header {len(header)}",
                    hint="is the separator a " + ("tab?" if tabs else "comma?"),
                )
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: {error}") from error


def _check_columns(path: Path, header: Sequence[str]) -> None:
    """The first line must hold names. Raises InputError otherwise."""
    if not header or any(_is_number(name) for name in header) or len(set(header)) < len(header):
        raise InputError(
            f"{path}: the first line does not name the columns", hint="add a header line"
        )


def read_json_lines(path: Path) -> Iterator[Row]:
    """A .jsonl file: one object per line."""
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: line {number} is not JSON") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {number} is not a JSON object")
        yield row


def _lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file; only real line ends count, not every Unicode separator."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as UTF-8 text") from error
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def read_rows(root: Path, files: Sequence[Path], parse: Callable[[Path], Iterator[Row]]) -> Table:
    """All rows of these files in order. Raises InputError where there are none."""
    rows = tuple(row for path in files for row in parse(path))
    if not rows:
        raise InputError(f"{root}: no rows in it", hint="give at least one text")
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return Table(str(root), tuple(shared), rows)
