"""mipack finish: fused ops and lower precision, the gain of each by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mipack.cli._options import (
    DataOptions,
    LoadOptions,
    Model,
    OutputOptions,
    RunOptions,
    Shape,
    flat,
    sizes,
)

if TYPE_CHECKING:
    from mipack.front.finishing import Finished

STEPS = "ort-fused, fp16, int8-dynamic, int8-static"

Steps = Annotated[
    str,
    typer.Option(help=f"in their order, comma-separated: {STEPS}", metavar="STEP,..."),
]
Calib = Annotated[
    Path | None,
    typer.Option(help="a file or folder of data to calibrate and judge on", show_default=False),
]
Original = Annotated[
    Path | None,
    typer.Option(help="the model that MODEL was pruned from", show_default=False),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(help="lose no more than this on held-out samples", metavar="POINTS", min=0),
]
Bench = Annotated[bool, typer.Option("--bench", help="race all stages against the original")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="default: ./<model>.finished.onnx", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="overwrite existing files")]


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a run and the files it left."""

    result: Finished
    files: tuple[Path, ...]

    def to_json(self) -> Mapping[str, Any]:
        """The result's document with the paths written."""
        return {**self.result.to_json(), "files": [str(path) for path in self.files]}


@flat
def finish(
    model: Model,
    *,
    steps: Steps,
    calib: Calib = None,
    original: Original = None,
    max_drop: MaxDrop = None,
    bench: Bench = False,
    shape: Shape = None,
    out: Out = None,
    force: Force = False,
    reading: DataOptions,
    run: RunOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Fuse ops and lower the precision for deployment; quality and time after every step."""
    from mipack.front import finishing
    from mipack.result import check_target

    with output.sink("finish") as sink, load.libraries():
        target = out or Path(f"{model.stem}.finished.onnx")
        check_target(model, target, force)
        found = finishing.finish(
            model,
            names(steps),
            calib,
            original=original,
            read=reading.read(samples=512),
            max_drop=max_drop,
            bench=bench,
            shape=sizes(shape),
            batch_size=run.batch_size,
            provider=run.provider,
            progress=sink,
        )
        tell(found, sink.note, sink.warn)
        done = Written(found, found.save(target, force=force))
        sink.result(done, lambda: [*found.blocks(), f"wrote {', '.join(map(str, done.files))}"])


def names(text: str) -> list[str]:
    """A comma list of steps."""
    return [item.strip() for item in text.split(",") if item.strip()]


def tell(found: Finished, note: Any, warn: Any) -> None:
    """What steps have to say, and whether the machine was too noisy to time them."""
    for line in found.notes:
        note(line)
    for stage in found.stages:
        for line in stage.notes:
            note(f"{stage.name}: {line}")
    if found.race is not None and found.race.warning is not None:
        warn(found.race.warning)
