"""The picture of a comparison: quality over cost, the Pareto front joined by a line."""

from __future__ import annotations

from dataclasses import dataclass

from mipack.report.compare import Comparison, Point
from mipack.report.shapes import Chart, shortened, ticks

WIDTH, HEIGHT = 960.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 90.0, 30.0, 24.0, 50.0


@dataclass(frozen=True, slots=True)
class _Plane:
    """Where values lie in the picture: cost from 0 to `far`, quality from `low` to `high`."""

    far: float
    low: float
    high: float

    def at(self, cost: float, quality: float) -> tuple[float, float]:
        """The place of a point."""
        x = LEFT + cost / self.far * (WIDTH - LEFT - RIGHT)
        share = (quality - self.low) / (self.high - self.low)
        return x, HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


Known = tuple[Point, float, float]
"""A run with its cost and its quality."""


def scatter(found: Comparison) -> Chart | None:
    """All runs whose cost and quality are known, and the original; None where there is no run."""
    known = [
        (point, point.cost, point.quality)
        for point in found.points
        if point.cost is not None and point.quality is not None
    ]
    if not known:
        return None
    chart = Chart(
        f"{found.quality} over {found.cost}",
        "; ".join(f"{point.name}: {y:.3g} at {x:.3g}" for point, x, y in known)
        + ". Runs on the Pareto front are joined.",
        WIDTH,
        HEIGHT,
    )
    same = 0.0 if found.metric else 100.0  # the original's own quality
    plane = _plane(known, same)
    _grid(chart, plane, found)
    front = sorted((x, y) for point, x, y in known if point.front)
    if len(front) > 1:
        chart.curve([plane.at(*spot) for spot in front], "s-after")
    x, y = plane.at(1.0, same)
    chart.dot(x, y, 6, "f-before", "the original")
    chart.text(x - 10, y - 8, "original", "end", "soft")
    for run in known:
        _mark(chart, plane, run)
    return chart


def _plane(known: list[Known], same: float) -> _Plane:
    xs = [1.0, *(value for p, x, _ in known for value in (x, *(p.cost_interval or ())))]
    ys = [same, *(value for p, _, y in known for value in (y, *(p.quality_interval or ())))]
    room = 0.06 * (max(ys) - min(ys)) or 1.0
    return _Plane(max(xs) * 1.03, min(ys) - room, max(ys) + room)


def _grid(chart: Chart, plane: _Plane, found: Comparison) -> None:
    for value in ticks(0.0, plane.far, 10):
        x, y = plane.at(value, plane.low)
        chart.line(x, TOP, x, y)
        chart.text(x, y + 18, f"{value:.3g}", "middle", "soft")
    for value in ticks(plane.low, plane.high):
        x, y = plane.at(0.0, value)
        chart.line(x, y, WIDTH - RIGHT, y)
        chart.text(x - 8, y + 4, f"{value:.4g}", "end", "soft")
    chart.text(WIDTH / 2, HEIGHT - 8, found.cost, "middle")
    chart.text(4, 12, found.quality)


def _mark(chart: Chart, plane: _Plane, run: Known) -> None:
    """A run with its intervals as whiskers and its name."""
    point, cost, quality = run
    x, y = plane.at(cost, quality)
    kind = "s-after" if point.front else "s-third"
    if point.quality_interval is not None:
        low, high = point.quality_interval
        chart.line(x, plane.at(0.0, low)[1], x, plane.at(0.0, high)[1], kind)
    if point.cost_interval is not None:
        low, high = point.cost_interval
        chart.line(plane.at(low, 0.0)[0], y, plane.at(high, 0.0)[0], y, kind)
    told = f"{point.name}: {quality:.4g} at {cost:.4g}"
    chart.dot(x, y, 6, "f-after" if point.front else "f-third", told)
    chart.text(x + 10, y + 18, shortened(point.name, 40))
