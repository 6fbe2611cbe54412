"""mipack prune: a smaller model, its plan and the proof beside it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from mipack.cli._pruning import (
    Budget,
    Calib,
    Choice,
    Effort,
    Target,
    check_bench,
    check_budget,
    check_finish,
)
from mipack.cli.finish import names, tell
from mipack.errors import InputError

if TYPE_CHECKING:
    from mipack.cli._out import Sink
    from mipack.cli._script import Script
    from mipack.data.dataset import ReadOptions
    from mipack.front.finishing import Finished
    from mipack.front.reports import Bench
    from mipack.result import PruneResult
    from mipack.show.blocks import Block


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
    effort: Effort,
    reading: DataOptions,
    run: RunOptions,
    load: LoadOptions,
    output: OutputOptions,
) -> None:
    """Make a model smaller, prove it, and write it with its plan and a report."""
    with output.sink("prune") as sink, load.libraries():
        out = target.path(model)
        check_budget(budget, choice)
        check_bench(budget, target)
        check_finish(target, calib)
        read = reading.read(samples=512)
        settings = {
            **budget.settings(),
            **choice.settings(),
            **effort.settings(),
            "seed": reading.seed,
            "provider": run.provider,
            "batch_size": run.batch_size,
        }
        race = _race(calib, budget, read, run) if target.bench else None
        if target.show_python:
            script = _script(model, calib, out, target, settings, read, race, load)
            sink.result(script, lambda: [script.text()])
            return
        if not target.dry_run:
            _check_target(model, out, target.force, context.obj)
        _check_race(model, race)
        from mipack import rounds

        result = rounds.prune(
            model,
            calib,
            read=read,
            progress=sink,
            decide_only=target.dry_run or target.plan_only,
            **settings,
        )
        finished = _finished(result, model, calib, budget, target, read, run, sink)
        files = _written(
            result, model, out, target, race, finished, context.obj, reading.classes, sink
        )
        for text in result.warnings:
            sink.warn(text)
        done = Pruned(result, files, finished)
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
        finish=names(target.finish) if target.finish else (),
    )


def _race(calib: Path | None, budget: Budget, read: ReadOptions, run: RunOptions) -> Bench:
    """How the models will be raced."""
    from mipack.front.reports import Bench

    shapes = [sizes(text) for text in budget.shape or ()]
    return Bench(
        data=calib, shapes=shapes, options=read, batch_size=run.batch_size, provider=run.provider
    )


def _check_race(model: Path, race: Bench | None) -> None:
    """InputError where the model has no such dimension: before any work is done."""
    if race is not None:
        from mipack.front.reports import check

        check(model, race)


def _written(
    result: PruneResult,
    model: Path,
    out: Path,
    target: Target,
    race: Bench | None,
    finished: Finished | None,
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
        finished=finished,
        classes=read_classes(classes) if classes is not None else (),
        progress=sink,
    )


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
        bench=target.bench,
        shape=sizes(budget.shape[0]) if budget.shape else None,
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
    written = ", ".join(map(str, done.files))
    last = f"wrote {written}" if written else "wrote nothing (--dry-run)"
    steps = [] if done.finished is None else done.finished.blocks()
    return [*done.result.blocks(every=every), *steps, last]
