"""mipack eval: two models on the same data, the difference with its paired interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mipack.cli._options import DataOptions, LoadOptions, Model, OutputOptions, RunOptions, flat

if TYPE_CHECKING:
    pass

Pruned = Annotated[
    Path, typer.Argument(metavar="PRUNED", help="the model to compare", show_default=False)
]
Data = Annotated[
    Path, typer.Option(help="a file or folder of data, all of it by default", show_default=False)
]
Metric = Annotated[
    str | None,
    typer.Option(help="accuracy, top5, f1, token-accuracy, mse or mae (default: what fits)"),
]
Output = Annotated[
    str | None, typer.Option("--output", help="the output to judge (default: the first that fits)")
]


@flat
def eval(
    model: Model,
    pruned: Pruned,
    *,
    data: Data,
    metric: Metric = None,
    output_name: Output = None,
    reading: DataOptions,
    run: RunOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Compare two models: task metric, agreement, KL, cosine."""
    from mipack.front import scores

    with output.sink("eval") as sink, load.libraries():
        found = scores.evaluate(
            model,
            pruned,
            data,
            options=reading.read(samples=None),
            metric=metric,
            output=output_name,
            batch_size=run.batch_size,
            provider=run.provider,
            progress=sink,
        )
        for entry in found.fidelity:
            if entry.nonfinite:
                sink.warn(
                    f"{entry.output}: {entry.nonfinite:,} samples are finite in {found.names[0]} "
                    f"but not in {found.names[1]}"
                )
        sink.result(found, lambda: found.blocks(every=output.verbose))
