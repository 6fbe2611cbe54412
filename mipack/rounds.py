"""Selection in rounds (`--iterations N`): each ranks by the moments of what the last one left.

The compute falls by the same factor in every round. What a round keeps is taken back to the units
of the original, and in the end the original is cut once by the plan of all rounds, proved, and
refitted, as any plan is. Dims that were rotated lie in their order of importance: of them only the
number counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import onnx_ir as ir

from mipack import pipeline
from mipack.calibrate.sites import Array
from mipack.couple.solve import Coupling, Group
from mipack.data.dataset import Dataset, ReadOptions
from mipack.errors import InputError, UnsupportedError
from mipack.options import Logged, Progress, PruneOptions, Settings, checked
from mipack.prepare import Data, Source, prepare
from mipack.result import PruneResult
from mipack.select.decide import chosen_groups
from mipack.select.plan import GroupPlan, Plan, kept_units
from mipack.select.request import BUDGETS

Tables = dict[str, Array]
"""Group -> the units of the original that are left, [contexts.., kept]."""


def prune(
    model: Source | str,
    calib: Data | None = None,
    *,
    iterations: int = 1,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
    decide_only: bool = False,
    **settings: Unpack[Settings],
) -> PruneResult:
    """`pipeline.prune`, the selection in `iterations` rounds.

    More than one raise InputError beside anything but a budget of `keep` or `macs`, and without
    data.
    """
    say = progress or Logged()
    if iterations == 1:
        return pipeline.prune(
            model, calib, read=read, progress=progress, decide_only=decide_only, **settings
        )
    options = checked(settings)
    _require_rounds(options, iterations, calib)
    original, data = pipeline.opened(model, calib, read or ReadOptions(), say)
    prepared = prepare(original, data, allow_signature=options.allow_signature)
    plan, seconds = _planned(original, data, prepared.coupling, options, iterations, settings, say)
    with tempfile.TemporaryDirectory(prefix="mipack-") as folder:
        path = Path(folder) / "rounds.plan.json"
        path.write_text(plan.dumps(), encoding="utf-8")
        given: dict[str, Any] = {**settings, **dict.fromkeys(BUDGETS), "from_plan": path}
        result = pipeline.prune(original, data, progress=progress, decide_only=decide_only, **given)
    return replace(result, timings={"rounds": round(seconds, 3), **result.timings})


def _require_rounds(options: PruneOptions, iterations: int, calib: Data | None) -> None:
    if iterations < 1:
        raise InputError(
            f"--iterations {iterations}: not a number of rounds", hint="give 1 or more"
        )
    given = [name for name in BUDGETS if getattr(options, name) is not None]
    others = ("width", "max_drop", "moments", "from_plan")
    beside = [
        f"--{name.replace('_', '-')}" for name in others if getattr(options, name) is not None
    ]
    beside += ["--count-unread"] if options.count_unread else []
    if beside or given not in (["keep"], ["macs"]):
        raise InputError(
            "--iterations needs one budget of compute and nothing else that decides the widths"
            + (f", not {beside[0]}" if beside else ""),
            hint="give --keep R or --macs R",
        )
    if calib is None:
        raise InputError(
            "--iterations ranks by moments of the pruned model, which need data",
            hint="give --calib DATA",
        )


def _planned(
    original: ir.Model,
    data: Dataset | None,
    coupling: Coupling,
    options: PruneOptions,
    iterations: int,
    settings: Mapping[str, Any],
    say: Progress,
) -> tuple[Plan, float]:
    """The plan of all rounds, and their seconds."""
    groups, _ = chosen_groups(coupling, options.only, options.exclude)
    (budget,) = options.request().budgets(groups, coupling.cost)
    share = budget.target / budget.full
    rest = {name: value for name, value in settings.items() if name not in BUDGETS}
    rest["keep_unread"] = True
    named = {group.name: group for group in coupling.groups}
    current, left, seconds = original, 1.0, 0.0
    tables: Tables = {}
    first: Plan | None = None
    for number in range(1, iterations + 1):
        say.note(f"round {number} of {iterations}: to {share ** (number / iterations):.1%}")
        macs = min(1.0, share ** (number / iterations) / left)
        made = pipeline.prune(current, data, progress=say, macs=macs, **rest)
        first = first or made.plan
        tables = through(named, tables, made.plan)
        assert made.model is not None
        current, left = made.model, left * made.after.macs / made.before.macs
        seconds += sum(made.timings.values())
    assert first is not None
    planned = tuple(_composed(group, tables) for group in first.groups)
    said = {**first.settings, "budget": {budget.of: share}, "iterations": iterations}
    after = round(first.macs[0] * left)
    return replace(first, groups=planned, settings=said, macs=(first.macs[0], after)), seconds


def _composed(planned: GroupPlan, tables: Tables) -> GroupPlan:
    if planned.name not in tables:
        return planned
    return replace(planned, keep=kept_units(tables[planned.name]))


def through(named: Mapping[str, Group], before: Tables, plan: Plan) -> Tables:
    """The units left after a plan for what `before` left. UnsupportedError where the plan cuts a
    group that the original does not have."""
    after = dict(before)
    for planned in plan.groups:
        group = named.get(planned.name)
        if group is None and planned.kept < planned.size:
            raise UnsupportedError(
                f"a later round cut a group that the original does not have: {planned.name}",
                hint="prune without --iterations, or --exclude it",
                node=planned.name,
                op="",
            )
        if group is not None and planned.kept < planned.size:
            after[planned.name] = _picked(named, before, group, planned)
    return after


def _picked(named: Mapping[str, Group], before: Tables, group: Group, planned: GroupPlan) -> Array:
    table = before.get(group.name, _whole(group))
    leading = table[..., : planned.kept].copy()  # also of contexts that are gone
    if planned.rotated or not planned.kept:
        return leading
    rows = np.array(planned.keep, np.int64)
    if table.ndim == 1:
        return table[rows]
    atoms = {other.atom: other for other in named.values()}
    outer = [before.get(atoms[c].name, _whole(atoms[c])) for c in group.within]
    inner = np.ix_(*outer)
    rows = rows.reshape(*map(len, outer), planned.kept)
    leading[inner] = np.take_along_axis(table[inner], rows, -1)
    return leading


def _whole(group: Group) -> Array:
    return np.broadcast_to(np.arange(group.size), group.shape).copy()
