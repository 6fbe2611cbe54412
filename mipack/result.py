"""What a pruning run leaves behind: the model, the plan, the checks, and the files of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from mipack.couple.listing import GroupRow
from mipack.errors import InputError, VerificationError
from mipack.evaluate.compare import Evaluation
from mipack.graph.load import save, write_text
from mipack.select.plan import Plan
from mipack.show.blocks import Block, Column, Table, change, count, real, share, volume
from mipack.show.shown import Shown


@dataclass(frozen=True, slots=True)
class Size:
    """Multiply-adds per sample, parameters, and bytes of the weights."""

    macs: int
    params: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was verified, in words."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Background:
    """What a report tells beside the result: every group of the model in its order, what the
    model says on held-out rows compared with the original, and what the data was."""

    groups: tuple[GroupRow, ...]
    quality: Evaluation | None = None
    held_out: str = ""
    data: tuple[str, ...] = ()
    data_digest: str | None = None
    signature_changed: bool = False


@dataclass(frozen=True, repr=False)
class PruneResult(Shown):
    """A pruned model with its plan and proof.

    `model` is None where only a decision was asked for. `fidelity` compares it with the original
    on held-out calibration rows (agreement, kl, cosine). `timings`: seconds per stage. `promises`:
    what was measured of the budgets that are no counts (latency, size, drop). `after` is what the
    cut leaves, `unread` what is left of that without work whose result nobody reads; None where
    there is no such work, or it was kept. `background`: what else a report tells.
    """

    model: ir.Model | None
    plan: Plan
    before: Size
    after: Size
    fidelity: Mapping[str, float | None]
    checks: tuple[Check, ...]
    timings: Mapping[str, float]
    peak_memory: int | None
    warnings: tuple[str, ...] = ()
    promises: Mapping[str, Any] = field(default_factory=dict)
    unread: Size | None = None
    background: Background | None = None

    def blocks(self, *, every: bool = False) -> Sequence[Block]:
        """Sizes, quality and checks; `every`: groups and timings too."""
        found: list[Block] = [_sizes(self, predicted=self.model is None)]
        if self.model is not None:
            found += [_fidelity(self), *_promises(self), *_checks(self, every=every)]
        return [*found, _groups(self), _timings(self)] if every else found

    def to_json(self) -> dict[str, Any]:
        """Plain data; the plan's group lists are in the plan file."""
        plan = self.plan.to_json()
        plan["groups"] = [
            {**{k: v for k, v in group.items() if k != "keep"}, "kept": planned.kept}
            for group, planned in zip(plan["groups"], self.plan.groups, strict=True)
        ]
        return {
            "plan": plan,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "unread": asdict(self.unread) if self.unread else None,
            "fidelity": dict(self.fidelity),
            "promises": dict(self.promises),
            "checks": [asdict(check) for check in self.checks],
            "timings": dict(self.timings),
            "peak_memory": self.peak_memory,
            "warnings": list(self.warnings),
        }

    def save(self, path: Path | str, *, force: bool = False) -> tuple[Path, ...]:
        """Write the model and the plan beside it; the files written.

        Raises InputError where a file exists (unless `force`) or cannot be written, and
        VerificationError where a check failed.
        """
        failed = [check for check in self.checks if not check.passed]
        if failed:
            raise VerificationError(f"{failed[0].name}: {failed[0].detail}")
        path = Path(path)
        refuse_existing(path, force)
        written: tuple[Path, ...] = ()
        if self.model is not None:
            written = save(self.model, path)
        plan = plan_path(path)
        write_text(plan, self.plan.dumps())
        return (*written, plan)


def plan_path(out: Path) -> Path:
    """`x.onnx` -> `x.plan.json`."""
    return out.with_name(f"{out.stem}.plan.json")


def report_paths(out: Path) -> tuple[Path, Path]:
    """`x.onnx` -> `x.report.html` and `x.report.json`."""
    return out.with_name(f"{out.stem}.report.html"), out.with_name(f"{out.stem}.report.json")


def companions(out: Path) -> tuple[Path, ...]:
    """Every file that `prune` may write for OUT, OUT first."""
    return (out, plan_path(out), out.with_name(out.name + ".data"), *report_paths(out))


def refuse_existing(out: Path, force: bool) -> None:
    """InputError where a file would be overwritten without --force."""
    existing = [path for path in companions(out) if path.exists()]
    if existing and not force:
        raise InputError(f"{existing[0]} exists", hint="add --force to overwrite it")


def check_target(model: Path | None, out: Path, force: bool) -> None:
    """InputError where OUT cannot be written: checked before any work is done."""
    if not out.parent.is_dir():
        raise InputError(f"the folder {out.parent} does not exist", hint="create it first")
    if model is not None and out.exists() and model.exists() and out.samefile(model):
        raise InputError(f"{out} is the input itself", hint="choose another -o OUT")
    if out.is_dir():
        raise InputError(f"{out} is a folder", hint="give a file name with -o OUT")
    refuse_existing(out, force)


def check_page(out: Path, force: bool) -> None:
    """InputError where a page cannot be written there: before any work is done."""
    if not out.parent.is_dir():
        raise InputError(f"the folder {out.parent} does not exist", hint="create it first")
    if out.is_dir():
        raise InputError(f"{out} is a folder", hint="give a file name")
    if out.exists() and not force:
        raise InputError(f"{out} exists", hint="add --force to overwrite it")


# ---------------------------------------------------------------- for people


def _sizes(result: PruneResult, *, predicted: bool) -> Block:
    """What the cut costs and saves."""
    before, after = result.before, result.after
    rows = [("MACs per sample", before.macs, after.macs, count)]
    if result.unread is not None:
        rows.append((" without what nobody reads", before.macs, result.unread.macs, count))
    rows.append(("parameters", before.params, after.params, count))
    rows.append(("bytes of weights", before.bytes, after.bytes, volume))
    return change(rows, "predicted" if predicted else "after")


def _fidelity(result: PruneResult) -> str:
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
    titles = ("units", "kept", "loss (nats)")
    columns = (Column("group", "name"), Column("kind", "word"), *map(Column, titles))
    rows = tuple(
        (group.name, group.kind, f"{group.size:,}", f"{group.kept:,}", real(group.loss))
        for group in result.plan.groups
    )
    return Table(columns, rows)


def _timings(result: PruneResult) -> Block:
    rows = tuple((stage, f"{seconds:.2f}") for stage, seconds in result.timings.items())
    title = f"seconds per stage; peak memory {volume(result.peak_memory)}"
    return Table((Column("stage", "word"), Column("seconds")), rows, title)
