"""sweep(): one calibration and one ranking, then a model for every budget.

A point costs what follows a decision: cut, proof, refit, checks, evaluation and a race against the
original. It is the model that `prune` makes at that budget, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import mipack
from mipack.data.dataset import Batch, Dataset, ReadOptions
from mipack.errors import InputError, MipackError, VerificationError
from mipack.evaluate.compare import Evaluation, evaluate
from mipack.explore.budgets import checked as checked_shares
from mipack.explore.budgets import name_of
from mipack.explore.folder import SweepFolder, finish_point
from mipack.explore.points import ORIGINAL, Point, Sweep, pace_of, quality_of, read_point
from mipack.front.race import Race, bench
from mipack.gather import collect, rotated
from mipack.graph.load import file_bytes, runnable
from mipack.lossless import count
from mipack.material import Material
from mipack.options import Progress, PruneOptions, Silent, Stopwatch, checked
from mipack.pipeline import carried_out, understood
from mipack.prepare import Data, read_data
from mipack.ranking import planned, ranked
from mipack.result import PruneResult
from mipack.select.decide import Decider
from mipack.select.evidence import Evidence
from mipack.settle import Settled
from mipack.surgery.keep import Keep

DECIDED = ("keep", "macs", "params", "size", "latency", "max_drop", "moments", "from_plan")
"""Settings of prune that a sweep decides itself or that say nothing to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How points are raced against the original: see `mipack.front.bench`. `seconds` per point."""

    shapes: tuple[Mapping[str, int], ...] = ()
    seconds: float = 10.0
    rounds: int = 30
    threads: int | None = None


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
    timing: Timing | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Sweep:
    """Prune a model at several budgets and keep the results in `folder`.

    Budgets are shares of one kind, `keep` or `macs`. Points are judged on `data`, read as
    `data_read` says (default: all of it), else on the calibration rows that fit nothing; they are
    raced against the original where `timing` is given. `settings` are those of `mipack.prune`
    beside budgets. What `folder` already holds of the same model, data and settings is used.

    Raises InputError for what the user can fix, PlanMismatch where the folder belongs to another
    sweep, and VerificationError where no budget gives a model that passes its proof.
    """
    option, shares = _budgets(keep, macs)
    path, place, say = Path(model), SweepFolder(Path(folder)), progress or Silent()
    options = _options(settings, {option: shares[0]}, place)
    with place.held():
        material = understood(path, calib, options, read or ReadOptions(), say, Stopwatch())
        test = _test_data(material, path, data, data_read)
        place.agree(_common(material, test, options, timing))
        judge = Judge(material, test)
        judge.require()
        study = Study(path, material, judge, timing)
        points = []
        for at, share in enumerate(shares, 1):
            name = name_of(option, share)
            known = place.point(name)
            if known is None:
                say.note(f"point {at} of {len(shares)}: {name}")
                budget: dict[str, Any] = {option: share}
                _add(place, study, name, replace(options, **budget))
                known = place.point(name)
                assert known is not None
            points.append(read_point(known, place.path / name))
        _require_some(points)
        return Sweep(
            folder=place.path,
            model=str(path),
            original=study.original,
            points=tuple(points),
            warnings=material.warnings(),
        )


def _budgets(keep: Iterable[float], macs: Iterable[float]) -> tuple[str, tuple[float, ...]]:
    given = {"keep": tuple(keep), "macs": tuple(macs)}
    named = [option for option, shares in given.items() if shares]
    if len(named) != 1:
        raise InputError(
            "a sweep has budgets of one kind" + (", two are given" if named else ", none is given"),
            hint="give --keep or --macs, e.g. --keep 0.2..0.8",
        )
    return named[0], checked_shares(named[0], given[named[0]])


def _options(
    settings: Mapping[str, Any], budget: Mapping[str, float], place: SweepFolder
) -> PruneOptions:
    for name in DECIDED:
        if settings.get(name) is not None:
            raise InputError(
                f"{name} says nothing to a sweep", hint="its budgets are given as keep or macs"
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
    material: Material, test: Dataset | None, options: PruneOptions, timing: Timing | None
) -> dict[str, Any]:
    """What all points of a folder have in common, as plain values."""
    assert material.prepared.dataset is not None
    settings = {k: v for k, v in asdict(options).items() if k not in DECIDED and k != "shape"}
    raced = timing and {"shapes": [dict(s) for s in timing.shapes], "threads": timing.threads}
    return {
        "mipack": mipack.__version__,
        "model": material.prepared.digest,
        "data": material.prepared.dataset.digest,
        "judged_on": test.digest if test is not None else None,
        "settings": settings,
        "timing": raced,
    }


class Judge:
    """The samples that every point is judged on."""

    def __init__(self, material: Material, test: Dataset | None) -> None:
        self._material, self._test = material, test

    def __call__(self, name: str, model: bytes | Path) -> Evaluation:
        """The original and a model of this name."""
        return self._compared(name, model, self._batches())

    def require(self) -> None:
        """Before anything costs time: InputError where labels and outputs do not fit together."""
        batches = self._batches()
        with runnable(self._material.prepared.original) as source:
            self._compared(ORIGINAL, source, batches[:1])

    def _batches(self) -> Sequence[Batch]:
        return self._material.batches(self._test) if self._test else self._material.held_out

    def _compared(self, name: str, model: bytes | Path, batches: Sequence[Batch]) -> Evaluation:
        data = self._test or self._material.prepared.dataset
        with runnable(self._material.prepared.original) as first:
            return evaluate(
                [(ORIGINAL, first), (name, model)],
                batches,
                mask=data.mask if data else None,
                provider=self._material.provider,
            )


class Study:
    """A model with what was learned of it once: it makes points of any budget."""

    def __init__(self, path: Path, material: Material, judge: Judge, timing: Timing | None) -> None:
        self.path, self.material, self._judge, self._timing = path, material, judge, timing
        before, _ = material.sizes(Keep.of({}))
        self.original = Point(
            name=ORIGINAL,
            option="",
            share=1.0,
            macs=before.macs,
            params=before.params,
            bytes=file_bytes(path),
            model=str(path),
        )
        self._dataset = material.prepared.dataset

    @cached_property
    def learned(self) -> tuple[Decider, Evidence]:
        """Calibrated and ranked when the first point is missing; never again."""
        material, watch = self.material, Stopwatch()
        count(material)
        evidence = rotated(material, collect(material, watch), None)
        return ranked(material, evidence, watch, material.prepared.coupling.cost)

    def decided(
        self, options: PruneOptions, learned: tuple[Decider, Evidence]
    ) -> tuple[Material, Settled]:
        """The plan for a budget. Raises InputError where it is out of reach."""
        decider, evidence = learned
        material = self.material.at(options)
        material.announce(None)
        request = options.request()
        decision = decider.decide(request)
        return material, Settled(planned(material, evidence, request, decision), decider)

    def made(self, material: Material, settled: Settled, watch: Stopwatch) -> PruneResult:
        """Its model. Raises VerificationError where that fails its proof."""
        return carried_out(material, self.learned[1], settled, watch)

    def judged(self, name: str, model: Path) -> tuple[Evaluation, Race | None]:
        """A finished model beside the original."""
        self.material.say.stage(f"evaluate {name}", None)
        found = self._judge(name, model)
        timing, options = self._timing, self.material.options
        if timing is None:
            return found, None
        self.material.say.stage(f"race {name} against the original", None)
        return found, bench(
            [self.path, model],
            self._dataset,
            shapes=timing.shapes,
            batch_size=options.batch_size,
            rounds=timing.rounds,
            seconds=timing.seconds,
            threads=timing.threads,
            provider=options.provider,
        )


def _add(place: SweepFolder, study: Study, name: str, options: PruneOptions) -> None:
    """Make one point, complete or not at all."""
    ((option, share),) = options.budgets().items()
    point = Point(name=name, option=option, share=share)
    learned = study.learned  # what goes wrong here is not this budget's fault
    try:
        material, settled = study.decided(options, learned)
    except InputError as error:
        _add_problem(place, study, point, error)
        return
    try:
        result = study.made(material, settled, Stopwatch())
    except VerificationError as error:
        _add_problem(place, study, point, error)
        return
    with place.adding(name) as staged:
        file = staged / f"{name}.onnx"
        result.save(file)
        evaluation, race = study.judged(name, file)
        finish_point(staged, asdict(_told(point, result, file, evaluation, race)))


def _add_problem(place: SweepFolder, study: Study, point: Point, error: MipackError) -> None:
    """A budget that has no model is a result too: it is not tried again."""
    study.material.say.warn(f"{point.name}: {error}")
    with place.adding(point.name) as staged:
        finish_point(staged, asdict(replace(point, problem=str(error))))


def _told(
    point: Point, result: PruneResult, file: Path, evaluation: Evaluation, race: Race | None
) -> Point:
    left = result.unread or result.after
    contrasts = race.comparison.contrasts if race is not None else ()
    return replace(
        point,
        macs=left.macs,
        params=left.params,
        bytes=file_bytes(file),
        quality=quality_of(evaluation),
        pace=tuple(pace_of(contrast.shape, contrast.ratio) for contrast in contrasts),
        model=f"{point.name}/{file.name}",
        seconds=round(sum(result.timings.values()), 3),
        warnings=result.warnings,
    )


def _require_some(points: Sequence[Point]) -> None:
    """Raises VerificationError where no budget gives a model."""
    if all(point.problem is not None for point in points):
        raise VerificationError(
            f"no budget gives a model; {points[0].name}: {points[0].problem}",
            hint="ask for larger shares",
        )
