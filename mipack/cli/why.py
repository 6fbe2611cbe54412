"""mipack why: the chain of operations that ties or freezes an axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mipack.cli._options import DataOptions, LoadOptions, Model, OutputOptions, Shape, flat, sizes

if TYPE_CHECKING:
    from mipack.front.reasons import AxisStory, Explanation, Part, Place
    from mipack.show.blocks import Block

SHOWN = 8
"""Places listed where --verbose does not ask for all."""

Tensor = Annotated[
    str, typer.Argument(metavar="TENSOR", help="a tensor or a group, by name", show_default=False)
]
Axis = Annotated[int | None, typer.Argument(metavar="[AXIS]", help="one axis of it (default: all)")]
Calib = Annotated[
    Path | None,
    typer.Option(help="a file or folder of data to run the model on (default: made-up inputs)"),
]


@flat
def why(
    model: Model,
    tensor: Tensor,
    axis: Axis = None,
    *,
    calib: Calib = None,
    shape: Shape = None,
    data: DataOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Show what ties or freezes an axis of a tensor, step by step."""
    from mipack.front import reasons

    with output.sink("why") as sink, load.libraries():
        found = reasons.why(
            model, tensor, axis, calib, sizes=sizes(shape), options=data.read(samples=512)
        )
        for note in found.notes:
            sink.detail(note)
        sink.result(found, lambda: _blocks(found, every=output.verbose))


def _blocks(found: Explanation, *, every: bool) -> Sequence[Block]:
    return [line for story in found.axes for line in _axis(found.tensor, story, every=every)]


def _axis(tensor: str, story: AxisStory, *, every: bool) -> Iterator[str]:
    yield f"{tensor} axis {story.axis}: {story.layout}"
    for part in story.parts:
        yield f"  {part.group or 'these'} ({part.size:,} units): {_verdict(part)}"
        if part.reason:
            yield from _reason(part)
        if part.state in ("free", "family", "width"):
            yield from _ties(part, every=every)


def _verdict(part: Part) -> str:
    texts = {
        "free": "free, may be cut",
        "frozen": "frozen, may not be cut",
        "width": "a width, something averages over it",
        "family": f"chosen for each unit of {', '.join(part.within)}",
        "dynamic": "dynamic, its size comes with the inputs",
        "plain": "no weights of the file carry it",
    }
    return texts[part.state]


def _reason(part: Part) -> Iterator[str]:
    for step in part.chain:
        yield f"    through {step.op} {step.node} to {step.tensor} axis {step.axis}"
    yield f"    because: {part.reason}"


def _ties(part: Part, *, every: bool) -> Iterator[str]:
    yield from _places("tied in weights", part.weights, every=every)
    others = tuple(place for place in part.tied if place not in set(part.weights))
    yield from _places("carried by", others, every=every)


def _places(title: str, places: tuple[Place, ...], *, every: bool) -> Iterator[str]:
    shown = places if every else places[:SHOWN]
    for name, axis in shown:
        yield f"    {title}: {name} axis {axis}"
    if len(places) > len(shown):
        yield f"    {title}: {len(places) - len(shown):,} more (--verbose lists them)"
