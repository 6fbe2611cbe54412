"""`report`: several runs side by side, from the report.json that each left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mipack.graph.load import write_text
from mipack.report.compare import Comparison, compare
from mipack.report.files import read
from mipack.report.html import render_comparison
from mipack.result import check_page


def compared(paths: Sequence[Path]) -> Comparison:
    """The runs whose reports lie there, each called by the part of its path that tells it apart.

    Raises InputError for files that are no reports, damaged, or of another version.
    """
    names = _names(paths)
    return compare([(name, read(Path(path))) for name, path in zip(names, paths, strict=True)])


def write_page(comparison: Comparison, out: Path, *, force: bool = False) -> Path:
    """Write the page that compares them, atomically. InputError where it exists."""
    check_page(out, force)
    write_text(out, render_comparison(comparison))
    return out


def _names(paths: Sequence[Path]) -> list[str]:
    """File names without the ending where they differ, else the paths; doubles are numbered."""
    short = [Path(path).name.removesuffix(".json").removesuffix(".report") for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: at + 1].count(name)})"
        for at, name in enumerate(names)
    ]
