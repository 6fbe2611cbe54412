"""sweep(): one calibration and one ranking, then a model for every budget.

A point costs what follows a decision: cut, proof, refit, checks, evaluation and a race against the
original. It is the model that `prune` makes at that budget, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from mipack import __version__
from mipack.data.dataset import Dataset, ReadOptions
from mipack.errors import InputError, MipackError, VerificationError
from mipack.explore.budgets import checked as checked_shares
from mipack.explore.budgets import name_of
from mipack.explore.folder import SweepFolder, finish_point
from mipack.explore.points import COMPARISON, Point, Sweep, read_points
from mipack.explore.study import Judge, Study
from mipack.front import reports
from mipack.front.compared import compared, write_page
from mipack.front.reports import Bench
from mipack.material import Material
from mipack.options import Choices, Logged, Progress, PruneOptions, Stopwatch, checked
from mipack.pipeline import understood
from mipack.prepare import Data, read_data
from mipack.result import PruneResult


def sweep(
    model: Path | str,
    calib: Data,
    folder: Path | str,
    *,
    keep: Iterable[float] = (),
    macs: Iterable[float] = (),
    data: Data | None = None,
    read: ReadOptions | None = None,
    data_read: ReadOptions | None = None,
    race: Bench | None = None,
    command: Sequence[str] = (),
    classes: Sequence[str] = (),
    progress: Progress | None = None,
    **settings: Unpack[Choices],
) -> Sweep:
    """Prune a model at several budgets and keep the results in `folder`.

    Budgets are shares of one kind, `keep` or `macs`. Points are judged on `data`, read as
    `data_read` says (default: all of it), else on the calibration rows that fit nothing; they are
    raced against the original where `race` is given (by default on the calibration data).
    `settings` are those of `mipack.prune` beside budgets. What `folder` already holds of the same
    model, data and settings is used; the result tells all points in it. `command` and `classes` are
    for the reports.

    Raises InputError for what the user can fix, PlanMismatch where the folder belongs to another
    sweep, and VerificationError where no budget gives a model that passes its proof.
    """
    option, shares = _budgets(keep, macs)
    path, place, say = Path(model), SweepFolder(Path(folder)), progress or Logged()
    options = _options(settings, {option: shares[0]}, place)
    if race is not None:
        reports.check(path, race)
    material = understood(path, calib, options, read or ReadOptions(), say, Stopwatch())
    test = _test_data(material, path, data, data_read)
    study = Study(path, material, Judge(material, test))
    if race is not None and race.data is None:
        race = replace(race, data=material.prepared.dataset)
    with place.held():
        place.agree(_common(material, test, options, race))
        maker = _Maker(place, study, race, command, classes)
        for at, share in enumerate(shares, 1):
            name = name_of(option, share)
            if place.point(name) is None:
                say.note(f"point {at} of {len(shares)}: {name}")
                budget: dict[str, Any] = {option: share}
                maker.add(Point(name, option, share), replace(options, **budget))
        return _finished(place, path, material)


def _budgets(keep: Iterable[float], macs: Iterable[float]) -> tuple[str, tuple[float, ...]]:
    given = {"keep": tuple(keep), "macs": tuple(macs)}
    named = [option for option, shares in given.items() if shares]
    if len(named) != 1:
        raise InputError(
            "a sweep has budgets of one kind" + (", two are given" if named else ", none is given"),
            hint="give keep or macs, e.g. keep=[0.2, 0.4, 0.6]",
        )
    return named[0], checked_shares(named[0], given[named[0]])


def _options(
    settings: Mapping[str, Any], budget: Mapping[str, float], place: SweepFolder
) -> PruneOptions:
    """Raises InputError for settings that a sweep decides itself, or that mean nothing."""
    known = Choices.__annotations__
    strange = next((name for name in settings if name not in known), None)
    if strange is not None:
        raise InputError(
            f"{strange} is nothing that a sweep is told",
            hint=f"beside its budgets it takes {', '.join(known)}",
        )
    return checked({**settings, **budget, "moments": place.moments})


def _test_data(
    material: Material, model: Path, data: Data | None, options: ReadOptions | None
) -> Dataset | None:
    if data is None:
        return None
    wanted = options or ReadOptions(samples=None)
    test = read_data(model, material.prepared.original, data, wanted)
    for line in test.description:
        material.say.note(line)
    return test


def _common(
    material: Material, test: Dataset | None, options: PruneOptions, race: Bench | None
) -> dict[str, Any]:
    """What all points of a folder have in common, as plain values."""
    data = material.prepared.dataset
    settings = {name: getattr(options, name) for name in Choices.__annotations__}
    if race is not None:
        settings |= {"bench shapes": [dict(s) for s in race.shapes], "bench threads": race.threads}
    return {
        "mipack": __version__,
        "model": material.prepared.digest,
        "data": data.digest if data else None,
        "judged_on": test.digest if test else None,
        "settings": {**settings, "bench": race is not None},
    }


class _Maker:
    """Adds points to a folder."""

    def __init__(
        self,
        place: SweepFolder,
        study: Study,
        race: Bench | None,
        command: Sequence[str],
        classes: Sequence[str],
    ) -> None:
        self._place, self._study, self._race = place, study, race
        self._command, self._classes = command, classes

    def add(self, point: Point, options: PruneOptions) -> None:
        """Make one point, complete or not at all; that a budget has no model is a result too."""
        study, learned = self._study, self._study.learned
        try:
            settled = study.decided(options, learned)
        except InputError as error:  # out of reach: nothing else was asked
            self._add_problem(point, error)
            return
        try:
            result = study.made(*settled)
        except VerificationError as error:
            self._add_problem(point, error)
            return
        with self._place.adding(point.name) as staged:
            self._fill(staged, point, result)
            finish_point(staged, point.to_json())

    def _fill(self, staged: Path, point: Point, result: PruneResult) -> None:
        """The model, its plan and its report, which names them as they will be called."""
        study, out = self._study, self._place.path / point.name / f"{point.name}.onnx"
        reports.fill(
            staged,
            study.judged(result),
            study.path,
            out,
            command=self._command,
            race=self._race,
            classes=self._classes,
            progress=study.material.say,
        )

    def _add_problem(self, point: Point, error: MipackError) -> None:
        self._study.material.say.warn(f"{point.name}: {error}")
        with self._place.adding(point.name) as staged:
            finish_point(staged, replace(point, problem=str(error)).to_json())


def _finished(place: SweepFolder, model: Path, material: Material) -> Sweep:
    """All points of the folder compared, and the page that shows it."""
    points = read_points(place)
    made = [point for point in points if point.problem is None]
    if not made:
        raise VerificationError(
            f"no budget gives a model; {points[0].name}: {points[0].problem}",
            hint="ask for larger shares",
        )
    comparison = compared([place.path / point.report for point in made])
    page = write_page(comparison, place.path / COMPARISON, force=True)
    return Sweep(place.path, str(model), points, comparison, page, material.warnings())
