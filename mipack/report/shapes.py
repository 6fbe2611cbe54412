"""A picture as shapes with coordinates; the templates write them down as SVG and escape all text.

`kind` is a class of the style sheet, which knows colours for light, dark and paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor, log10


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with an optional tip."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """From one point to another."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str = "axis"


@dataclass(frozen=True, slots=True)
class Dot:
    """A filled circle with an optional tip."""

    x: float
    y: float
    r: float
    kind: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """An open line through points, as SVG spells it."""

    d: str
    kind: str


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text; `anchor` start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    kind: str = ""


@dataclass
class Chart:
    """A picture with a title and a description for those who do not see it."""

    title: str
    desc: str
    width: float
    height: float
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    def box(
        self, x: float, y: float, width: float, height: float, kind: str, title: str = ""
    ) -> None:
        """Add a rectangle, coordinates rounded to what a screen shows."""
        wide, high = round(max(width, 0.0), 2), round(max(height, 0.0), 2)
        self.boxes.append(Box(round(x, 2), round(y, 2), wide, high, kind, title))

    def text(self, x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> None:
        """Add a text."""
        self.texts.append(Text(round(x, 1), round(y, 1), text, anchor, kind))

    def curve(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Add an open line through points."""
        d = "M" + " L".join(f"{x:.2f} {y:.2f}" for x, y in points)
        self.curves.append(Curve(d, kind))

    def dot(self, x: float, y: float, r: float, kind: str, title: str = "") -> None:
        """Add a circle."""
        self.dots.append(Dot(round(x, 2), round(y, 2), r, kind, title))

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> None:
        """Add a line."""
        self.lines.append(Line(round(x1, 2), round(y1, 2), round(x2, 2), round(y2, 2), kind))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, at most about `most` of them."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / most
    unit = 10.0 ** floor(log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    first = int(-(-low // step))
    return [step * at for at in range(first, int(high // step) + 1)]


def shortened(text: str, room: int) -> str:
    """A text that takes no more than so many characters."""
    return text if len(text) <= room else text[: room - 1] + "…"
