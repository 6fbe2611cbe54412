"""How a race and the stages of finishing read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mipack.show.blocks import UNSET, Block, Column, Table, count, real, share, volume

if TYPE_CHECKING:
    from mipack.bench.load import Throughput
    from mipack.bench.loop import Contrast, Timing
    from mipack.bench.stats import Ratio
    from mipack.finish.judge import Stage
    from mipack.front.finishing import Finished
    from mipack.front.race import Race

Setting = tuple[str, int, str]
"""Shape, threads, provider."""


def race_blocks(found: Race) -> Sequence[Block]:
    """The setting, the size of every model, and a table for every race."""
    races = dict.fromkeys((t.shape, t.threads, t.provider) for t in found.comparison.timings)
    settings = dict.fromkeys(race[1:] for race in races)
    tables: list[Block] = []
    for race in races:
        title = race[0] if len(settings) == 1 else f"{race[0]}, {_setting(*race[1:])}"
        tables += [_race(found, race, title), *_loads(found, race, title)]
    head = [_setting(*setting) for setting in settings] if len(settings) == 1 else []
    return [*head, _sizes(found), *tables]


def _setting(threads: int, provider: str) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}, {provider}"


def _sizes(found: Race) -> Block:
    columns = (
        Column("model", "name"),
        Column("MACs/sample"),
        Column("parameters"),
        Column("file"),
    )
    rows = tuple(
        (m.name, count(m.macs), count(m.params), volume(m.file_bytes)) for m in found.models
    )
    return Table(columns, rows)


def _race(found: Race, race: Setting, title: str) -> Block:
    titles = ("median ms", "p95 ms", "load ms", "peak memory", "time ratio", "95 % interval")
    columns = (Column("model", "name"), *map(Column, titles))
    contrasts = {c.name: c.ratio for c in found.comparison.contrasts if _of(c) == race}
    rows = tuple(
        (
            timing.name,
            f"{timing.median_ms:.3f}",
            f"{timing.p95_ms:.3f}",
            real(timing.load_ms, 3),
            volume(timing.peak_memory_bytes),
            *_ratio(contrasts.get(timing.name)),
        )
        for timing in found.comparison.timings
        if _of(timing) == race
    )
    return Table(columns, rows, title)


def _loads(found: Race, race: Setting, title: str) -> list[Block]:
    """Requests per second, where they were counted."""
    loads = [load for load in found.comparison.throughput if _of(load) == race]
    if not loads:
        return []
    titles = ("clients", "requests/s", "p50 ms", "p95 ms", "rate ratio", "95 % interval")
    columns = (Column("model", "name"), *map(Column, titles))
    rows = tuple(
        (
            load.name,
            str(load.concurrency),
            f"{load.per_second:.4g}",
            f"{load.p50_ms:.3f}",
            f"{load.p95_ms:.3f}",
            *_ratio(load.ratio),
        )
        for load in loads
    )
    return [Table(columns, rows, f"{title}: so many clients ask one session")]


def _of(record: Timing | Contrast | Throughput) -> Setting:
    return record.shape, record.threads, record.provider


def _ratio(ratio: Ratio | None) -> tuple[str, str]:
    """Time (or rate) as a multiple of the base's, and its interval; the base has neither."""
    if ratio is None:
        return "1", ""
    return f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}"


def finish_blocks(found: Finished) -> Sequence[Block]:
    """The stages against the original, and what every step changed by itself."""
    titles = ("bytes", "score", "agreement", "KL", "time ratio", "95 % interval")
    columns = (Column("stage", "word"), *map(Column, titles))
    stages = Table(columns, tuple(map(_stage, found.stages)), "against the original")
    shares = ("of the bytes", "of the time", "score", "agreement")
    columns = (Column("part", "word"), Column("step", "word"), *map(Column, shares))
    return [stages, Table(columns, tuple(map(_part, found.parts())), "each step by itself")]


def _stage(stage: Stage) -> tuple[str, ...]:
    bounds = stage.interval if stage.part != "original" else None
    return (
        stage.name,
        volume(stage.bytes),
        real(stage.score),
        share(stage.agreement, 2),
        real(stage.kl),
        UNSET if stage.ratio is None else f"{stage.ratio:.3f}",
        f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else "",
    )


def _part(part: Mapping[str, Any]) -> tuple[str, ...]:
    def signed(value: float | None, form: str = "+.4f") -> str:
        return UNSET if value is None else f"{value:{form}}"

    ratios = (part["bytes"], part["ratio"])
    shares = (signed(value, ".3f") for value in ratios)
    return part["part"], part["name"], *shares, signed(part["score"]), signed(part["agreement"])
