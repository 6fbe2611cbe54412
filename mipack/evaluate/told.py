"""How an evaluation reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mipack.show.blocks import Block, Column, Table, count, real, share

if TYPE_CHECKING:
    from mipack.evaluate.compare import Evaluation, Score


def evaluation_blocks(found: Evaluation, *, every: bool) -> Sequence[Block]:
    """The score, what is lost and gained, fidelity; `every`: by class too."""
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
    columns = tuple(map(Column, ("class", "samples", "first", "second")))
    rows = tuple(
        (str(c.label), f"{c.samples:,}", share(c.first), share(c.second)) for c in score.classes
    )
    return Table(columns, rows)
