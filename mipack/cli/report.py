"""mipack report: several runs side by side, quality over what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mipack.cli._options import OutputOptions, flat

if TYPE_CHECKING:
    from mipack.report.compare import Comparison
    from mipack.show.blocks import Block

Reports = Annotated[
    list[Path],
    typer.Argument(metavar="REPORT..", help="x.report.json of each run", show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="write the comparison as an HTML page", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="overwrite an existing page")]


@dataclass(frozen=True, slots=True)
class Written:
    """The comparison and the page it was written to, if it was."""

    comparison: Comparison
    files: tuple[Path, ...]

    def to_json(self) -> Mapping[str, Any]:
        """The comparison's document with the path written."""
        return {**self.comparison.to_json(), "files": [str(path) for path in self.files]}


@flat
def report(
    reports: Reports, *, out: Out = None, force: Force = False, output: OutputOptions
) -> None:
    """Compare runs of prune: quality over time (or MACs), and the Pareto front."""
    from mipack.front import compared as front
    from mipack.result import check_page

    with output.sink("report", runtime=False) as sink:
        if out is not None:
            check_page(out, force)
        found = front.compared(reports)
        for note in found.notes:
            sink.warn(note)
        files = () if out is None else (front.write_page(found, out, force=force),)
        sink.result(Written(found, files), lambda: _blocks(found, files))


def _blocks(found: Comparison, files: Sequence[Path]) -> Sequence[Block]:
    written = [f"wrote {', '.join(map(str, files))}"] if files else []
    return [*found.blocks(), *written]
