"""What a sweep found: its points, and which of them no other point beats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mipack.bench.stats import Ratio
from mipack.errors import InputError
from mipack.evaluate.compare import Evaluation

Pair = tuple[float, float]
ORIGINAL = "original"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good a model is beside the original, on `samples` samples that fitted nothing.

    `metric`: of the task where there are labels; else agreement with the original, or cosine where
    the output has no classes. `interval`: of the difference (95 %, paired), where there is one.
    """

    metric: str
    original: float
    value: float
    interval: Pair | None
    agreement: float | None
    kl: float | None
    cosine: float | None
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Time as a share of the original's, with its 95 % interval, in `shape`."""

    shape: str
    ratio: float
    interval: Pair
    noisy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One budget. `macs` per sample; `bytes` of the file; `problem`: why there is no model, in
    which case nothing else is known."""

    name: str
    option: str
    share: float
    macs: int | None = None
    params: int | None = None
    bytes: int | None = None
    quality: Quality | None = None
    pace: tuple[Pace, ...] = ()
    model: str | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def ratio(self) -> float | None:
        """Of time, in the first shape."""
        return self.pace[0].ratio if self.pace else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The points that were asked for, the mildest cut first, and the original as a point."""

    folder: Path
    model: str
    original: Point
    points: tuple[Point, ...]
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def front(self) -> tuple[str, ...]:
        """The names of what nothing beats: no other is as good and costs less, or is better and
        costs no more. Cost is the measured time where all points were timed, else the MACs."""
        costs = self._costs()
        known = [(n, c, q) for n, c, q in costs if q is not None]
        return tuple(
            name
            for name, cost, good in known
            if not any(
                c <= cost and q >= good and (c < cost or q > good)
                for other, c, q in known
                if other != name
            )
        )

    def _costs(self) -> list[tuple[str, float, float | None]]:
        """(name, cost as a share of the original's, quality), the original first."""
        made = [point for point in self.points if point.problem is None]
        timed = all(point.ratio is not None for point in made)
        found: list[tuple[str, float, float | None]] = []
        for point in made:
            share = (point.macs or 0) / max(self.original.macs or 1, 1)
            cost = point.ratio if timed and point.ratio is not None else share
            found.append((point.name, cost, point.quality.value if point.quality else None))
        first = next((p.quality.original for p in made if p.quality), None)
        return [(ORIGINAL, 1.0, first), *found]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "folder": str(self.folder),
            "model": self.model,
            "original": asdict(self.original),
            "points": [asdict(point) for point in self.points],
            "front": list(self.front),
            "files": [str(file) for file in self.files],
            "warnings": list(self.warnings),
        }


def quality_of(found: Evaluation) -> Quality | None:
    """What is compared between points; None where no output can be compared."""
    score, first = found.score, found.fidelity[0]
    if score is not None:
        metric, original, value = score.metric, score.first, score.second
    elif first.agreement is not None:
        metric, original, value = "agreement", 1.0, first.agreement
    elif first.cosine is not None:
        metric, original, value = "cosine", 1.0, first.cosine
    else:
        return None
    return Quality(
        metric=metric,
        original=original,
        value=value,
        interval=score.interval if score is not None else None,
        agreement=first.agreement,
        kl=first.kl,
        cosine=first.cosine,
        samples=found.samples,
    )


def pace_of(shape: str, ratio: Ratio) -> Pace:
    """A measured ratio as plain numbers."""
    return Pace(shape=shape, ratio=ratio.value, interval=(ratio.low, ratio.high), noisy=ratio.noisy)


def read_point(document: Mapping[str, Any], place: Path) -> Point:
    """The point that a document describes. InputError where it does not."""
    try:
        given = {field.name: document[field.name] for field in fields(Point)}
        quality = given["quality"]
        given["quality"] = Quality(**_numbers(quality)) if quality is not None else None
        given["pace"] = tuple(Pace(**_numbers(entry)) for entry in given["pace"])
        given["warnings"] = tuple(map(str, given["warnings"]))
        for name in ("macs", "params", "bytes"):
            if given["problem"] is None and type(given[name]) is not int:
                raise ValueError(name)
        return Point(**given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the point {place} is damaged: {error!r}",
            hint=f"delete the folder {place}: the next run makes it again",
        ) from error


def _numbers(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record, numbers where numbers belong."""
    found = dict(entry)
    for name in ("original", "value", "ratio"):
        if name in found and type(found[name]) not in (int, float):
            raise ValueError(f"{name}: {found[name]!r}")
    if found.get("interval") is not None:
        low, high = found["interval"]
        found["interval"] = (float(low), float(high))
    return found
