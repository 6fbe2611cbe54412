"""mipack slim: the same outputs without the work that nobody reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mipack.cli._options import DataOptions, LoadOptions, Model, OutputOptions, Shape, flat, sizes

if TYPE_CHECKING:
    from mipack.front.lossless import Slimmed
    from mipack.show.blocks import Block

Calib = Annotated[
    Path | None,
    typer.Option(help="a file or folder of data to compare on (default: made-up inputs)"),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="default: ./<model>.slim.onnx", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="overwrite existing files")]


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a run and the files it left."""

    result: Slimmed
    files: tuple[Path, ...]

    def to_json(self) -> Mapping[str, Any]:
        """The result's document with the paths written."""
        return {**self.result.to_json(), "files": [str(path) for path in self.files]}


@flat
def slim(
    model: Model,
    *,
    calib: Calib = None,
    shape: Shape = None,
    out: Out = None,
    force: Force = False,
    data: DataOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Leave out work whose result nobody reads: same outputs, no data needed."""
    from mipack.front import lossless
    from mipack.result import check_target

    with output.sink("slim") as sink, load.libraries():
        target = out or Path(f"{model.stem}.slim.onnx")
        check_target(model, target, force)
        found = lossless.slim(model, calib, sizes=sizes(shape), options=data.read(samples=512))
        for note in found.notes:
            sink.note(note)
        done = Written(found, found.save(target, force=force))
        sink.result(done, lambda: _blocks(done))


def _blocks(done: Written) -> Sequence[Block]:
    return [*done.result.blocks(), f"wrote {', '.join(map(str, done.files))}"]
