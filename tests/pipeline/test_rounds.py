"""Selection in rounds: what each keeps is taken back to the units of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pipeline.test_units import transformer
from toys import mlp

import mipack
from mipack.errors import InputError, UnsupportedError
from mipack.prepare import prepare
from mipack.rounds import through
from mipack.select.plan import GroupPlan, Plan

DIGITS = Path(__file__).parents[2] / "models/digits"


def plan(*groups: GroupPlan) -> Plan:
    return Plan(groups, "digest")


def test_units_are_counted_as_the_original_does() -> None:
    toy = mlp(4, 10, 6, 3)
    named = {group.name: group for group in toy.coupling.free}
    first, second = list(named)
    tables = through(named, {}, plan(GroupPlan(first, "inner", 10, (1, 3, 5, 7, 9))))
    tables = through(named, tables, plan(GroupPlan(first, "inner", 5, (0, 4))))
    assert tables[first].tolist() == [1, 9] and second not in tables


def test_a_branch_that_goes_keeps_nothing() -> None:
    toy = mlp(4, 10, 6, 3)
    named = {group.name: group for group in toy.coupling.free}
    name = next(iter(named))
    assert through(named, {}, plan(GroupPlan(name, "inner", 10, ())))[name].size == 0


def test_a_group_that_only_a_later_round_knows_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="does not have"):
        through({}, {}, plan(GroupPlan("new", "inner", 4, (0,))))


def test_dims_of_heads_are_followed_through_the_heads() -> None:
    named = {group.name: group for group in prepare(transformer()).coupling.free}
    dims = next(group for group in named.values() if group.within)
    (heads,) = (group for group in named.values() if group.atom in dims.within)
    count, size = dims.shape
    rows = tuple(tuple(range(h % 2, h % 2 + size - 1)) for h in range(count))
    tables = through(named, {}, plan(GroupPlan(dims.name, "inner", size, rows)))
    tables = through(named, tables, plan(GroupPlan(heads.name, "heads", count, (1, count - 1))))
    later = ((0,), (size - 2,))
    tables = through(named, tables, plan(GroupPlan(dims.name, "inner", size - 1, later)))
    assert tables[heads.name].tolist() == [1, count - 1]
    assert tables[dims.name][1] == rows[1][0] and tables[dims.name][-1] == rows[-1][-1]
    turned = GroupPlan(dims.name, "inner", size, tuple((size - 2,) for _ in rows), rotated=True)
    assert (through(named, {}, plan(turned))[dims.name] == 0).all()  # in order of importance


def test_rounds_end_at_the_budget_with_a_plan_of_the_original(tmp_path: Path) -> None:
    data = DIGITS / "calib.npz"
    settings: dict[str, Any] = {"macs": 0.1, "seed": 1}
    result = mipack.prune(DIGITS / "model.onnx", data, iterations=2, **settings)
    assert 0.08 < result.after.macs / result.before.macs <= 0.1
    assert all(check.passed for check in result.checks)
    assert result.plan.settings["iterations"] == 2
    _, plan_file = result.save(tmp_path / "rounds.onnx")[:2]
    again = mipack.prune(DIGITS / "model.onnx", data, from_plan=plan_file, seed=1)
    assert again.after == result.after and again.fidelity == result.fidelity
    once = mipack.prune(DIGITS / "model.onnx", data, **settings)
    assert [g.keep for g in once.plan.groups] != [g.keep for g in result.plan.groups]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"keep": 0.5, "iterations": 0}, "not a number of rounds"),
        ({"params": 0.5, "iterations": 2}, "one budget of compute"),
        ({"keep": 0.5, "macs": 0.5, "iterations": 2}, "one budget of compute"),
        ({"keep": 0.5, "max_drop": 1.0, "iterations": 2}, "not --max-drop"),
        ({"keep": 0.5, "iterations": 2}, "--calib"),
    ],
)
def test_what_rounds_cannot_do_is_said(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        mipack.prune(DIGITS / "model.onnx", **settings)
    assert says in f"{caught.value} {caught.value.hint}"
