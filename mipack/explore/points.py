"""What a sweep found: its points, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mipack.errors import InputError
from mipack.explore.budgets import OPTIONS, name_of
from mipack.explore.folder import SweepFolder, make_again
from mipack.report.compare import Comparison
from mipack.show.blocks import Block
from mipack.show.shown import Shown

COMPARISON = "comparison.html"


@dataclass(frozen=True, slots=True)
class Point:
    """One budget; `problem`: why it has no model."""

    name: str
    option: str
    share: float
    problem: str | None = None

    @property
    def model(self) -> str:
        """The model's file in the sweep's folder."""
        return f"{self.name}/{self.name}.onnx"

    @property
    def report(self) -> str:
        """The report's file in the sweep's folder."""
        return f"{self.name}/{self.name}.report.json"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, repr=False)
class Sweep(Shown):
    """All points in a folder, the mildest cut first; `comparison` of those that have a model."""

    folder: Path
    model: str
    points: tuple[Point, ...]
    comparison: Comparison
    page: Path
    warnings: tuple[str, ...] = ()

    def blocks(self, *, every: bool = False) -> Sequence[Block]:
        """The comparison, the budgets without a model, and where the page is."""
        missing = [point for point in self.points if point.problem is not None]
        problems = [f"{point.name}: no model: {point.problem}" for point in missing]
        return [*self.comparison.blocks(), *problems, f"wrote {self.page}"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "folder": str(self.folder),
            "model": self.model,
            "points": [
                {**point.to_json(), "model": None if point.problem else point.model}
                for point in self.points
            ],
            "comparison": self.comparison.to_json(),
            "files": [str(self.page)],
            "warnings": list(self.warnings),
        }


def read_points(place: SweepFolder) -> tuple[Point, ...]:
    """All points of a folder. InputError where one is damaged."""
    names = [entry.name for entry in place.path.iterdir() if entry.is_dir()]
    mine = [name for name in names if name.partition("-")[0] in OPTIONS]
    found = [_point(place.point(name), place.path / name) for name in mine]
    return tuple(sorted(found, key=lambda point: (point.option, -point.share)))


def _point(document: Mapping[str, Any] | None, place: Path) -> Point:
    try:
        assert document is not None
        option, share, problem = (document[name] for name in ("option", "share", "problem"))
        if name_of(option, share) != place.name or not isinstance(problem, (str, type(None))):
            raise ValueError("it is another budget's")
        point = Point(place.name, option, float(share), problem)
        if problem is None and Path(point.report).name not in document["sha256"]:
            raise ValueError("it has no report")
        return point
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the point {place} is damaged: {error!r}", hint=make_again(place)
        ) from error
