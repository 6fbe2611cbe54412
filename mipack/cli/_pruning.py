"""What `mipack prune` is told, and the mistakes in it that need no look at a model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from mipack.cli._options import sizes
from mipack.cli.finish import STEPS, names
from mipack.errors import InputError

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

    def settings(self) -> dict[str, Any]:
        """As `prune` names them."""
        return _fields(self)


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


def check_budget(budget: Budget, choice: Choice) -> None:
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


def check_bench(budget: Budget, target: Target) -> None:
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


def check_finish(target: Target, calib: Path | None) -> None:
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
