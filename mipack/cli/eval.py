"""mipack eval: two models on the same data, the difference with its paired interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mipack.cli._options import DataOptions, LoadOptions, Model, OutputOptions, RunOptions, flat

if TYPE_CHECKING:
    from mipack.evaluate.compare import Evaluation, Score
    from mipack.report.terminal import Block

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
        sink.result(found, lambda: _blocks(found, every=output.verbose))


def _blocks(found: Evaluation, *, every: bool) -> Sequence[Block]:
    blocks: list[Block] = [f"{found.names[0]} against {found.names[1]}, {found.samples:,} samples"]
    if found.score is not None:
        blocks += _score(found.score)
    blocks.append(_fidelity(found))
    if found.score is not None and found.score.classes and every:
        blocks.append(_classes(found.score))
    return blocks


def _score(score: Score) -> list[str]:
    points = score.unit == "points"
    first, second = (
        f"{100 * v:.2f} %" if points else f"{v:.6g}" for v in (score.first, score.second)
    )
    form = "+.2f" if points else "+.4g"
    bounds = score.interval
    interval = f", 95 % interval {bounds[0]:{form}} to {bounds[1]:{form}}" if bounds else ""
    unit = " points" if points else ""
    lines = [
        f"{score.metric} of {score.output}: {first} -> {second}, "
        f"difference {score.difference:{form}}{unit}{interval}"
    ]
    if score.lost is not None and score.gained is not None:
        lines.append(f"samples lost: {score.lost:,}, gained: {score.gained:,}")
    return lines


def _fidelity(found: Evaluation) -> Block:
    from mipack.report.terminal import Column, Table, count, real, share

    columns = tuple(map(Column, ("rows", "agreement", "flips", "KL", "cosine", "relative L2")))
    rows = tuple(
        (
            entry.output,
            f"{entry.rows:,}",
            share(entry.agreement, 2),
            count(entry.flips),
            real(entry.kl),
            real(entry.cosine, 6),
            real(entry.relative_l2),
        )
        for entry in found.fidelity
    )
    return Table((Column("output", "name"), *columns), rows)


def _classes(score: Score) -> Block:
    from mipack.report.terminal import Column, Table, share

    columns = tuple(map(Column, ("class", "samples", "first", "second")))
    rows = tuple(
        (str(c.label), f"{c.samples:,}", share(c.first), share(c.second)) for c in score.classes
    )
    return Table(columns, rows)
