"""Accuracy over cost as an SVG picture: one line per method through the means of its budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

COLOURS = (
    "#0b6e4f", "#c1121f", "#1d4ed8", "#b45309", "#7c3aed", "#0e7490", "#9d174d", "#4d7c0f",
    "#334155", "#ea580c", "#0369a1", "#a16207",
)  # fmt: skip
WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 40, 52


@dataclass(frozen=True)
class Frame:
    """Maps values to pixels."""

    low: Point
    high: Point

    @classmethod
    def of(cls, points: Sequence[Point]) -> Frame:
        """Room around all points."""
        spans = [(min(axis), max(axis)) for axis in zip(*points, strict=True)]
        (x0, x1), (y0, y1) = ((a, b if b > a else a + 1e-3) for a, b in spans)
        return cls((x0 - 0.04 * (x1 - x0), y0 - 0.06 * (y1 - y0)),
                   (x1 + 0.04 * (x1 - x0), y1 + 0.06 * (y1 - y0)))  # fmt: skip

    def x(self, value: float) -> float:
        """Pixels from the left."""
        share = (value - self.low[0]) / (self.high[0] - self.low[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (value - self.low[1]) / (self.high[1] - self.low[1])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers in a range."""
    step = 10.0 ** (len(str(int(1 / (high - low)))) * -1) if high - low < 1 else 1.0
    while (high - low) / step > 9:
        step *= 2 if (high - low) / step < 18 else 5
    while (high - low) / step < 4:
        step /= 2
    first = int(low / step) - 1
    return [k * step for k in range(first, first + 24) if low <= k * step <= high]


def curves(title: str, across: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """The picture; `lines` are points (cost, accuracy in %) by method."""
    lines = {name: sorted(points) for name, points in lines.items() if points}
    frame = Frame.of([point for points in lines.values() for point in points])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
        *_axes(frame, across),
    ]
    for number, (name, points) in enumerate(lines.items()):
        parts += _line(frame, name, points, number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(frame: Frame, across: str) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in ticks(frame.low[1], frame.high[1]):
        y = frame.y(value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(frame.low[0], frame.high[0]):
        x = frame.x(value)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#eee"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{round(value, 6):g}</text>'
        )
    middle = (LEFT + right) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across)}</text>'
    )
    parts.append(
        f'<text x="16" y="{(TOP + bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(TOP + bottom) / 2})">accuracy (%)</text>'
    )
    return parts


def _line(frame: Frame, name: str, points: Sequence[Point], number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    thick = 3 if number == 0 else 1.5
    dash = "" if number < len(COLOURS) else ' stroke-dasharray="5 3"'
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
    dots = [
        f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{1 + thick}" fill="{colour}"/>'
        for x, y in points
    ]
    y = TOP + 6 + 17 * number
    start = WIDTH - RIGHT + 14
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{thick}"{dash}/>',
        *dots,
        f'<line x1="{start}" y1="{y}" x2="{start + 22}" y2="{y}" stroke="{colour}" '
        f'stroke-width="{thick}"{dash}/>',
        f'<text x="{start + 28}" y="{y + 4}">{escape(name)}</text>',
    ]
