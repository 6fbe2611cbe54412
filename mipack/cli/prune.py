"""mipack prune: a smaller model, its plan and the proof beside it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mipack.cli._options import (
    DataOptions,
    LoadOptions,
    Model,
    OutputOptions,
    RunOptions,
    Shape,
    flat,
    sizes,
)
from mipack.cli.finish import STEPS, finish_blocks, names, tell
from mipack.errors import InputError

if TYPE_CHECKING:
    from mipack.cli._out import Sink
    from mipack.data.dataset import ReadOptions
    from mipack.front.finishing import Finished
    from mipack.report.terminal import Block
    from mipack.result import PruneResult

PLAN = ".plan.json"
SHARES = ("keep", "macs", "params", "size", "latency")

Calib = Annotated[
    Path | None, typer.Option(help="a file or folder of unlabelled data", show_default=False)
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
    shape: Shape = None
    max_drop: Annotated[
        float | None,
        typer.Option(help="lose no more than this on held-out samples", metavar="POINTS", min=0),
    ] = None
    from_plan: Annotated[
        Path | None, typer.Option(help="cut as this plan says", metavar="FILE")
    ] = None

    def settings(self) -> dict[str, Any]:
        """As `PruneOptions` names them."""
        return {**_fields(self), "shape": sizes(self.shape)}


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
    iterations: Annotated[
        int, typer.Option(help="select in N rounds, each by what the last one left", min=1)
    ] = 1
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
    moments: Annotated[
        Path | None,
        typer.Option(help="save the statistics here, and use them again", metavar="FILE"),
    ] = None

    def settings(self) -> dict[str, Any]:
        """As `PruneOptions` names them."""
        given = _fields(self)
        patterns = {name: tuple(given[name] or ()) for name in ("only", "exclude")}
        refit = not given.pop("no_refit")
        return {**given, **patterns, "refit": refit}


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
    finish: Annotated[
        str | None,
        typer.Option(help=f"then, comma-separated and in order: {STEPS}", metavar="STEP,..."),
    ] = None

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
    finished: Finished | None = None

    def to_json(self) -> Mapping[str, Any]:
        """The result's document with the stages of finishing, if any, and the paths written."""
        last = {} if self.finished is None else {"finish": self.finished.to_json()}
        return {**self.result.to_json(), **last, "files": [str(path) for path in self.files]}


@flat
def prune(
    context: typer.Context,
    model: Model,
    *,
    calib: Calib = None,
    budget: Budget,
    target: Target,
    choice: Choice,
    reading: DataOptions,
    run: RunOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Make a model smaller, prove it, and write it with its plan."""
    with output.sink("prune") as sink, load.libraries():
        out = target.path(model)
        _check_budget(budget, choice)
        _check_finish(target, calib)
        if not target.dry_run:
            _check_target(model, out, target.force, context.obj)
        read = reading.read(samples=512)
        from mipack import rounds

        result = rounds.prune(
            model,
            calib,
            read=read,
            progress=sink,
            decide_only=target.dry_run or target.plan_only,
            **budget.settings(),
            **choice.settings(),
            seed=reading.seed,
            provider=run.provider,
            batch_size=run.batch_size,
        )
        finished = _finished(result, model, calib, budget, target, read, run, sink)
        if finished is not None:
            result = replace(result, model=finished.model)
        files = () if target.dry_run else result.save(out, force=target.force)
        for text in result.warnings:
            sink.warn(text)
        done = Pruned(result, files, finished)
        sink.result(done, lambda: _blocks(done, target, every=output.verbose))


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


def _check_finish(target: Target, calib: Path | None) -> None:
    """The mistakes in the steps that need no look at the model."""
    if target.finish is None:
        return
    from mipack.finish.order import checked_steps

    if target.dry_run or target.plan_only:
        other = "dry-run" if target.dry_run else "plan-only"
        raise InputError(
            f"--finish and --{other} exclude each other", hint="only a model that is made has steps"
        )
    checked_steps(names(target.finish), data=calib is not None)


def _finished(
    result: PruneResult,
    model: Path,
    calib: Path | None,
    budget: Budget,
    target: Target,
    read: ReadOptions,
    run: RunOptions,
    sink: Sink,
) -> Finished | None:
    """The pruned model after the steps of --finish, if there are any, held to the same bound."""
    if target.finish is None or result.model is None:
        return None
    from mipack.front import finishing

    found = finishing.finish(
        result.model,
        names(target.finish),
        calib,
        original=model,
        read=read,
        max_drop=budget.max_drop,
        batch_size=run.batch_size,
        provider=run.provider,
        progress=sink,
    )
    tell(found, sink.note, sink.warn)
    return found


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
    result = done.result
    blocks: list[Block] = [_sizes(result, predicted=result.model is None)]
    if result.model is not None:
        blocks += [_fidelity(result), *_promises(result), *_checks(result, every=every)]
    if every:
        blocks += [_groups(result), _timings(result)]
    if done.finished is not None:
        blocks += finish_blocks(done.finished)
    written = ", ".join(map(str, done.files))
    return [*blocks, f"wrote {written}" if written else "wrote nothing (--dry-run)"]


def _sizes(result: PruneResult, *, predicted: bool) -> Block:
    from mipack.report.terminal import change, count, volume

    before, after = result.before, result.after
    rows = [("MACs per sample", before.macs, after.macs, count)]
    if result.unread is not None:
        rows.append((" without what nobody reads", before.macs, result.unread.macs, count))
    rows.append(("parameters", before.params, after.params, count))
    rows.append(("bytes of weights", before.bytes, after.bytes, volume))
    return change(rows, "predicted" if predicted else "after")


def _fidelity(result: PruneResult) -> str:
    from mipack.report.terminal import real, share

    found = result.fidelity
    if not found:
        return "agreement and KL: not measured, there is no calibration data"
    return (
        f"on held-out calibration rows: agreement {share(found.get('agreement'), 2)}, "
        f"KL {real(found.get('kl'))} nats, cosine {real(found.get('cosine'), 6)}"
    )


def _promises(result: PruneResult) -> list[str]:
    """What was measured of budgets that are no counts."""
    named = [check for check in result.checks if check.name.split()[0] in ("latency", "max-drop")]
    return [f"--{check.name}: {check.detail}" for check in named]


def _checks(result: PruneResult, *, every: bool) -> list[str]:
    if not every:
        return [f"verified: {'; '.join(check.name for check in result.checks)}"]
    return [f"verified: {check.name} ({check.detail})" for check in result.checks]


def _groups(result: PruneResult) -> Block:
    from mipack.report.terminal import Column, Table, real

    titles = ("units", "kept", "loss (nats)")
    columns = (Column("group", "name"), Column("kind", "word"), *map(Column, titles))
    rows = tuple(
        (group.name, group.kind, f"{group.size:,}", f"{group.kept:,}", real(group.loss))
        for group in result.plan.groups
    )
    return Table(columns, rows)


def _timings(result: PruneResult) -> Block:
    from mipack.report.terminal import Column, Table, volume

    rows = tuple((stage, f"{seconds:.2f}") for stage, seconds in result.timings.items())
    title = f"seconds per stage; peak memory {volume(result.peak_memory)}"
    return Table((Column("stage", "word"), Column("seconds")), rows, title)
