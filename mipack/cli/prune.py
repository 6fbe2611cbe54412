"""mipack prune: a smaller model, its plan and the proof beside it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mipack.cli._options import (
    DataOptions,
    LoadOptions,
    Model,
    OutputOptions,
    RunOptions,
    flat,
    sizes,
)
from mipack.errors import InputError

if TYPE_CHECKING:
    from mipack.cli._out import Sink
    from mipack.cli._script import Script
    from mipack.data.dataset import ReadOptions
    from mipack.front.reports import Bench
    from mipack.report.terminal import Block
    from mipack.result import PruneResult

PLAN = ".plan.json"
SHARES = ("keep", "macs", "params", "size", "latency")

Calib = Annotated[
    Path | None, typer.Option(help="a file or folder of unlabelled data", show_default=False)
]


Shapes = Annotated[
    list[str] | None,
    typer.Option(
        help="sizes of dimensions, e.g. batch=8,sequence=128, for --latency and --bench; with "
        "--bench it may be repeated",
        metavar="NAME=N,...",
    ),
]


def _share(text: str | float) -> float:
    """A share; what is none is a usage error that names the option."""
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise typer.BadParameter(f"{text} is not a number above 0 and at most 1")


def _budget(help_text: str) -> Any:
    return typer.Option(parser=_share, metavar="SHARE", help=help_text)


def _fields(options: Any) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in fields(options)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much stays: one of these, or several that must all hold."""

    keep: Annotated[
        float | None, _budget("the compute left if every free group were cut to this share")
    ] = None
    macs: Annotated[float | None, _budget("share of the MACs that may stay")] = None
    params: Annotated[float | None, _budget("share of the parameters that may stay")] = None
    size: Annotated[float | None, _budget("share of the file's bytes that may stay")] = None
    latency: Annotated[float | None, _budget("share of the time on this machine")] = None
    shape: Shapes = None
    max_drop: Annotated[
        float | None,
        typer.Option(help="lose no more than this on held-out samples", metavar="POINTS", min=0),
    ] = None
    from_plan: Annotated[
        Path | None, typer.Option(help="cut as this plan says", metavar="FILE")
    ] = None

    def settings(self) -> dict[str, Any]:
        """As `PruneOptions` names them; --latency is held at the first --shape."""
        shape = sizes(self.shape[0]) if self.shape and self.latency is not None else {}
        return {**_fields(self), "shape": shape}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How it is decided what goes."""

    width: Annotated[
        float | None, _budget("also keep only this share of the hidden size (what norms average)")
    ] = None

    criterion: Annotated[
        str,
        typer.Option(
            help="mi, mi-layerwise, mipp, obs, sdp, taylor, fisher, wanda, magnitude, "
            "magnitude-l1 or random"
        ),
    ] = "mi"
    estimator: Annotated[
        str | None,
        typer.Option(help="mi-layerwise, mipp: pair, joint (default), copula, binned or knn"),
    ] = None
    confidence: Annotated[
        float | None,
        typer.Option(
            help="mipp: keep units that add information so surely (default 0.95); without a "
            "budget that also says how many"
        ),
    ] = None
    mipp_predictor: Annotated[
        str | None, typer.Option(help="mipp: ridge (default) or mlp, trained for every unit")
    ] = None
    signal: Annotated[str, typer.Option(help="what counts in an output, or auto")] = "auto"
    allocate: Annotated[str, typer.Option(help="information, uniform or tau")] = "information"
    round_to: Annotated[
        int | None, typer.Option("--round", help="keep multiples of N units", metavar="N", min=1)
    ] = None
    allow_signature: Annotated[
        bool,
        typer.Option("--allow-signature", help="caches and states of the signature may shrink"),
    ] = False
    only: Annotated[
        list[str] | None,
        typer.Option(help="cut only groups whose name matches", metavar="PATTERN"),
    ] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="leave groups whose name matches", metavar="PATTERN"),
    ] = None
    no_refit: Annotated[
        bool, typer.Option("--no-refit", help="do not solve for the weights that stay")
    ] = False
    keep_unread: Annotated[
        bool, typer.Option("--keep-unread", help="keep work whose result nobody reads")
    ] = False
    count_unread: Annotated[
        bool,
        typer.Option("--count-unread", help="work that nobody reads counts towards the budget"),
    ] = False

    def settings(self) -> dict[str, Any]:
        """As `PruneOptions` names them."""
        given = _fields(self)
        patterns = {name: tuple(given[name] or ()) for name in ("only", "exclude")}
        refit = not given.pop("no_refit")
        return {**given, **patterns, "refit": refit}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How often the model is calibrated, and whether that is kept."""

    iterations: Annotated[
        int, typer.Option(help="select in N rounds, each by what the last one left", min=1)
    ] = 1
    moments: Annotated[
        Path | None,
        typer.Option(help="save the statistics here, and use them again", metavar="FILE"),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is written."""

    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="default: ./<model>.pruned.onnx", show_default=False),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="overwrite existing files")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the predicted size, write nothing")
    ] = False
    plan_only: Annotated[bool, typer.Option("--plan-only", help="write only the plan")] = False
    show_python: Annotated[
        bool, typer.Option("--show-python", help="print the Python script that does the same")
    ] = False
    bench: Annotated[
        bool, typer.Option("--bench", help="time the result against the original, for the report")
    ] = False

    def path(self, model: Path) -> Path:
        """The model to write; with --plan-only OUT may be the plan's own name."""
        if self.out is None:
            return Path(f"{model.stem}.pruned.onnx")
        if self.plan_only and self.out.name.endswith(PLAN):
            return self.out.with_name(self.out.name.removesuffix(PLAN) + ".onnx")
        return self.out


@dataclass(frozen=True, slots=True)
class Pruned:
    """The result of a run and the files it left."""

    result: PruneResult
    files: tuple[Path, ...]

    def to_json(self) -> Mapping[str, Any]:
        """The result's document with the paths written."""
        return {**self.result.to_json(), "files": [str(path) for path in self.files]}


@flat
def prune(
    context: typer.Context,
    model: Model,
    *,
    calib: Calib = None,
    budget: Budget,
    target: Target,
    choice: Choice,
    effort: Effort,
    reading: DataOptions,
    run: RunOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Make a model smaller, prove it, and write it with its plan and a report."""
    with output.sink("prune") as sink, load.libraries():
        out = target.path(model)
        _check_budget(budget, choice)
        _check_bench(budget, target)
        read = reading.read(samples=512)
        settings = {
            **budget.settings(),
            **choice.settings(),
            **_fields(effort),
            "seed": reading.seed,
            "provider": run.provider,
            "batch_size": run.batch_size,
        }
        race = _race(model, calib, budget, read, run) if target.bench else None
        if target.show_python:
            script = _script(model, calib, out, target, settings, read, race, load)
            sink.result(script, lambda: [script.text()])
            return
        if not target.dry_run:
            _check_target(model, out, target.force, context.obj)
        from mipack import rounds

        result = rounds.prune(
            model,
            calib,
            read=read,
            progress=sink,
            decide_only=target.dry_run or target.plan_only,
            **settings,
        )
        files = _written(result, model, out, target, race, context.obj, reading.classes, sink)
        for text in result.warnings:
            sink.warn(text)
        done = Pruned(result, files)
        sink.result(done, lambda: _blocks(done, target, every=output.verbose))


def _script(
    model: Path,
    calib: Path | None,
    out: Path,
    target: Target,
    settings: dict[str, Any],
    read: ReadOptions,
    race: Bench | None,
    load: LoadOptions,
) -> Script:
    """What --show-python prints. Raises InputError for settings that mean nothing."""
    from mipack.cli._script import Script
    from mipack.options import checked

    checked({name: value for name, value in settings.items() if name != "iterations"})
    return Script(
        model=model,
        calib=calib,
        out=None if target.dry_run else out,
        settings=settings,
        read=read,
        race=race,
        decide_only=target.dry_run or target.plan_only,
        force=target.force,
        libraries=load.custom_ops or (),
    )


def _check_budget(budget: Budget, choice: Choice) -> None:
    """The mistakes that need no look at the model, before anything is loaded."""
    shares = [name for name in SHARES if getattr(budget, name) is not None]
    if shares and budget.from_plan is not None:
        raise InputError(
            f"--{' and --'.join(shares)} and --from-plan exclude each other",
            hint="a plan has its widths; --max-drop alone may stand beside it",
        )
    others = (budget.from_plan, budget.max_drop, choice.width, choice.confidence)
    if not shares and all(value is None for value in others):
        raise InputError(
            "no budget is given",
            hint=f"give --{', --'.join(SHARES)}, --max-drop or --from-plan, or --width alone",
        )


def _check_bench(budget: Budget, target: Target) -> None:
    """What is not written cannot be timed, and a shape is for something that is."""
    if target.bench and (target.dry_run or target.plan_only):
        other = "dry-run" if target.dry_run else "plan-only"
        raise InputError(
            f"--bench and --{other} exclude each other", hint="only a model that is made can run"
        )
    if budget.shape and budget.latency is None and not target.bench:
        raise InputError(
            "--shape says where --latency and --bench measure", hint="give one of them too"
        )
    if budget.shape and len(budget.shape) > 1 and not target.bench:
        raise InputError("--latency is held at one --shape", hint="give one, or --bench too")


def _race(
    model: Path, calib: Path | None, budget: Budget, read: ReadOptions, run: RunOptions
) -> Bench:
    """How the models will be raced; InputError where the model has no such dimension."""
    from mipack.front.reports import Bench, check

    shapes = [sizes(text) for text in budget.shape or ()]
    race = Bench(
        data=calib, shapes=shapes, options=read, batch_size=run.batch_size, provider=run.provider
    )
    check(model, race)
    return race


def _written(
    result: PruneResult,
    model: Path,
    out: Path,
    target: Target,
    race: Bench | None,
    arguments: Sequence[str],
    classes: Path | None,
    sink: Sink,
) -> tuple[Path, ...]:
    """Write what is wanted; the files. A plan alone has no report: nothing was cut yet."""
    if target.dry_run:
        return ()
    if target.plan_only:
        return result.save(out, force=target.force)
    from mipack.data.labels import read_classes
    from mipack.front import reports

    return reports.save(
        result,
        model,
        out,
        force=target.force,
        command=("mipack", *arguments),
        race=race,
        classes=read_classes(classes) if classes is not None else (),
        progress=sink,
    )


def _check_target(model: Path, out: Path, force: bool, arguments: Sequence[str]) -> None:
    """Raise InputError where OUT cannot be written; if --force would help, with that command."""
    from mipack.result import check_target

    try:
        check_target(model, out, force)
    except InputError as error:
        if force:
            raise
        check_target(model, out, True)  # raises what --force would not cure
        command = shlex.join(["mipack", *arguments, "--force"])
        raise InputError(error.args[0], hint=f"to overwrite it: {command}") from error


def _blocks(done: Pruned, target: Target, *, every: bool) -> Sequence[Block]:
    written = ", ".join(map(str, done.files))
    last = f"wrote {written}" if written else "wrote nothing (--dry-run)"
    return [*done.result.blocks(every=every), last]
