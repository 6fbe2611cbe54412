"""Several runs side by side: quality over what they cost, and which no other run beats in both.

Cost is the share of the original's time where every run was timed on one shape, else of its MACs.
Quality is the difference of the task metric where all have the same, else the agreement; cosine
where the outputs are no answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mipack.errors import InputError
from mipack.report.record import Contrast, Report
from mipack.show.blocks import UNSET, Block, Column, Table, real, share
from mipack.show.shown import Shown

FORMAT = "mipack-comparison/1"
SMALLER_IS_BETTER = ("mse", "mae")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run. `cost` is a share of the original's, `quality` in the comparison's `unit`, both with
    their 95 % interval where there is one; `front`: no other run is at least as good in both and
    better in one."""

    name: str
    model: str
    command: str
    cost: float | None
    cost_interval: tuple[float, float] | None
    quality: float | None
    quality_interval: tuple[float, float] | None
    agreement: float | None
    kl: float | None
    macs: float
    params: float
    bytes: float
    verdict: str
    front: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison(Shown):
    """The runs in the order given; `cost` and `quality` say what is compared: times if `timed`, a
    difference of `metric` if there is one. `notes`: where runs cannot be compared as they stand."""

    cost: str
    quality: str
    timed: bool
    metric: str | None
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()
    format: str = FORMAT

    def blocks(self, *, every: bool = False) -> Sequence[Block]:
        """The runs as a table."""
        titles = ("time" if self.timed else "MACs", "quality", "95 % interval")
        numbers = map(Column, (*titles, "agreement", "KL", "bytes"))
        columns = (Column("run", "name"), Column("front", "word"), *numbers)
        rows = tuple(
            (
                point.name,
                "*" if point.front else "",
                real(point.cost, 3),
                "-" if point.quality is None else f"{point.quality:.2f}",
                _bounds(point.quality_interval),
                share(point.agreement, 2),
                real(point.kl),
                real(point.bytes, 3),
                point.verdict,
            )
            for point in self.points
        )
        title = f"{self.quality} over {self.cost}; *: Pareto front"
        return [Table((*columns, Column("verdict", "word")), rows, title)]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _bounds(bounds: tuple[float, float] | None) -> str:
    return UNSET if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"


def compare(reports: Sequence[tuple[str, Report]]) -> Comparison:
    """Compare runs, each with the name it is to be called. Raises InputError for none."""
    if not reports:
        raise InputError("there is no report to compare", hint="name some x.report.json")
    shape = _common_shape([report for _, report in reports])
    metric = _common_metric([report for _, report in reports])
    points = [_point(name, report, shape, metric) for name, report in reports]
    small = metric in SMALLER_IS_BETTER
    known = [*points, _original(metric)]
    fronted = tuple(
        _placed(point, any(_beats(other, point, small) for other in known)) for point in points
    )
    return Comparison(
        cost=f"share of the original's time on {shape}" if shape else "share of the MACs",
        quality=f"difference of {metric}" if metric else _likeness(points),
        timed=shape is not None,
        metric=metric,
        points=fronted,
        notes=_notes([report for _, report in reports], timed=shape is not None),
    )


def _common_shape(reports: Sequence[Report]) -> str | None:
    """The first shape that all were timed on."""
    listed = [
        [entry.shape for entry in report.latency.contrasts] if report.latency else []
        for report in reports
    ]
    return next((s for s in listed[0] if all(s in other for other in listed)), None)


def _common_metric(reports: Sequence[Report]) -> str | None:
    found = {r.quality.score.metric if r.quality and r.quality.score else None for r in reports}
    return found.pop() if len(found) == 1 else None


def _point(name: str, report: Report, shape: str | None, metric: str | None) -> Point:
    cost, bounds = _cost(report, shape)
    quality, quality_bounds = _quality(report, metric)
    first = report.quality.fidelity[0] if report.quality and report.quality.fidelity else None
    return Point(
        name=name,
        model=report.name,
        command=report.command,
        cost=cost,
        cost_interval=bounds,
        quality=quality,
        quality_interval=quality_bounds,
        agreement=first.agreement if first else None,
        kl=first.kl if first else None,
        macs=_ratio(report.after.macs, report.before.macs),
        params=_ratio(report.after.params, report.before.params),
        bytes=_ratio(report.after.bytes, report.before.bytes),
        verdict=report.verdict.answer,
    )


def _original(metric: str | None) -> Point:
    """What every run is a share of: a run that is slower and no better is beaten by it."""
    return Point(
        name="original",
        model="",
        command="",
        cost=1.0,
        cost_interval=None,
        quality=0.0 if metric else 100.0,
        quality_interval=None,
        agreement=1.0,
        kl=0.0,
        macs=1.0,
        params=1.0,
        bytes=1.0,
        verdict="",
    )


def _cost(report: Report, shape: str | None) -> tuple[float | None, tuple[float, float] | None]:
    if shape is None:
        return _ratio(report.after.macs, report.before.macs), None
    listed: Sequence[Contrast] = report.latency.contrasts if report.latency else ()
    entry = next(entry for entry in listed if entry.shape == shape)
    return entry.ratio, entry.interval


def _quality(report: Report, metric: str | None) -> tuple[float | None, tuple[float, float] | None]:
    found = report.quality
    if found is None:
        return None, None
    if metric is not None and found.score is not None:
        return found.score.difference, found.score.interval
    first = found.fidelity[0] if found.fidelity else None
    if first is not None and first.agreement is None and first.cosine is not None:
        return 100 * first.cosine, None
    if first is None or first.agreement is None:
        return None, None
    bounds = found.interval
    return 100 * first.agreement, (100 * bounds[0], 100 * bounds[1]) if bounds else None


def _likeness(points: Sequence[Point]) -> str:
    """What a quality is where no task metric is known."""
    values = all(point.agreement is None and point.quality is not None for point in points)
    return f"{'cosine' if values else 'agreement'} with the original, %"


def _ratio(after: int, before: int) -> float:
    return after / before if before else 1.0


def _beats(one: Point, other: Point, small: bool) -> bool:
    """At least as good in both, better in one."""
    if None in (one.cost, one.quality, other.cost, other.quality):
        return False
    sign = -1 if small else 1
    gain = sign * ((one.quality or 0.0) - (other.quality or 0.0))
    spared = (other.cost or 0.0) - (one.cost or 0.0)
    return gain >= 0 and spared >= 0 and (gain > 0 or spared > 0)


def _placed(point: Point, beaten: bool) -> Point:
    known = point.cost is not None and point.quality is not None
    return replace(point, front=known and not beaten)


def _notes(reports: Sequence[Report], *, timed: bool) -> tuple[str, ...]:
    notes = []
    if len({report.model_digest for report in reports}) > 1:
        notes.append("these runs started from different models")
    if len({report.data_digest for report in reports}) > 1:
        notes.append("these runs were calibrated and judged on different data")
    machines = {str(report.environment.get("cpu")) for report in reports}
    if timed and len(machines) > 1:
        notes.append(f"timed on different machines: {', '.join(sorted(machines))}")
    if not timed:
        notes.append("not every run was timed on one shape (--bench): cost is told in MACs")
    if any(report.quality is None for report in reports):
        notes.append("some runs had no data: their quality is unknown")
    return tuple(notes)
