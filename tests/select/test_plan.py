"""plan.json: the contract is read back as it was written, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import cnn, mlp

from mipack.errors import InputError, PlanMismatch
from mipack.select.plan import GroupPlan, Plan, load_plan

TOY = mlp(6, 10, 8, 3)


@st.composite
def group_plans(draw: st.DrawFn) -> GroupPlan:
    size = draw(st.integers(1, 40))
    keep = sorted(draw(st.sets(st.integers(0, size - 1))))
    share = st.floats(0, 1)
    return GroupPlan(draw(st.text()), "inner", size, tuple(keep), draw(share), draw(share))


COUNT = st.integers(0, 10**15)
PLANS = st.builds(
    Plan,
    groups=st.lists(group_plans(), max_size=4, unique_by=lambda group: group.name).map(tuple),
    model=st.text(),
    settings=st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none())),
    sizes=st.dictionaries(st.text(), COUNT),
    macs=st.tuples(COUNT, COUNT),
)


@given(PLANS)
@settings(deadline=None)
def test_a_plan_is_read_back_as_it_was_written(plan: Plan) -> None:
    text = plan.dumps()
    assert json.loads(text) == json.loads(json.dumps(plan.to_json()))
    found = loaded(text)
    assert found == plan and found.dumps() == text


@given(st.sampled_from(["@", '"@"', "groups", "[", "], ["]), PLANS)
@settings(deadline=None)
def test_no_name_confuses_the_file(name: str, plan: Plan) -> None:
    odd = replace(plan, settings={name: name}, sizes={name: 3}, model=name)
    assert loaded(odd.dumps()) == odd


def loaded(text: str) -> Plan:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(text, encoding="utf-8")
        return load_plan(path)


def test_a_plan_is_made_to_be_read_and_diffed() -> None:
    """One line per group, whatever it keeps."""
    groups = tuple(GroupPlan(f"g{k}", "inner", 500, tuple(range(k, 400))) for k in range(5))
    lines = Plan(groups, "model").dumps().splitlines()
    assert all(sum(f'"g{k}"' in line for line in lines) == 1 for k in range(5))
    assert len(lines) < 30


# ---------------------------------------------------------------- onto a model


def plan_of(**keep: tuple[int, ...]) -> Plan:
    sizes = {g.name: g.size for g in TOY.coupling.groups}
    names = {name: f"{name}:out" for name in keep}
    return Plan(
        tuple(GroupPlan(names[n], "inner", sizes[names[n]], k) for n, k in keep.items()), ""
    )


def test_tables_name_the_kept_units_of_cut_groups() -> None:
    tables = plan_of(fc0=(1, 4), fc1=tuple(range(8))).tables(TOY.coupling)
    assert {group.name: array.tolist() for group, array in tables.items()} == {
        TOY.group("fc0").name: [1, 4]
    }
    assert all(array.dtype == np.int64 for array in tables.values())


@pytest.mark.parametrize("change", [{"name": "elsewhere:out"}, {"size": 11}])
def test_a_group_of_another_model_is_a_mismatch(change: dict[str, Any]) -> None:
    group = replace(plan_of(fc0=(0, 1)).groups[0], **change)
    with pytest.raises(PlanMismatch, match=r"no group '.*' of \d+ units") as caught:
        Plan((group,), "").tables(TOY.coupling)
    assert caught.value.hint and "\n" not in str(caught.value)


def test_a_frozen_group_stays_whole() -> None:
    assert plan_of(fc2=(0, 1, 2)).tables(TOY.coupling) == {}
    with pytest.raises(PlanMismatch, match="may not be cut: interface"):
        plan_of(fc2=(0, 1)).tables(TOY.coupling)


def test_a_group_that_others_need_keeps_a_unit() -> None:
    with pytest.raises(PlanMismatch, match=r"no unit of 'fc0:out', which may not go entirely"):
        plan_of(fc0=()).tables(TOY.coupling)


def test_a_branch_may_keep_nothing() -> None:
    coupling = cnn().coupling
    group = next(g for g in coupling.groups if g.name.startswith("inner"))
    planned = GroupPlan(group.name, group.kind, group.size, ())
    (table,) = Plan((planned,), "").tables(coupling).values()
    assert planned.kept == 0 and table.shape == (0,)


# ---------------------------------------------------------------- damaged files

GOOD = plan_of(fc0=(1, 4), fc1=(0,)).to_json()


def edited(change: Callable[[dict[str, Any]], object]) -> str:
    data = json.loads(json.dumps(GOOD))
    change(data)
    return json.dumps(data)


def in_group(**values: Any) -> str:
    return edited(lambda data: data["groups"][0].update(values))


DAMAGED = {
    "empty": "",
    "no json": "{",
    "binary": "\x00\x01",
    "no groups": edited(lambda data: data.pop("groups")),
    "groups are text": edited(lambda data: data.update(groups="all")),
    "a group is a list": edited(lambda data: data.update(groups=[[1, 2]])),
    "a group without keep": edited(lambda data: data["groups"][0].pop("keep")),
    "unit out of range": in_group(keep=[0, 10]),
    "negative unit": in_group(keep=[-1, 2]),
    "not ascending": in_group(keep=[4, 1]),
    "a unit twice": in_group(keep=[1, 1]),
    "half a unit": in_group(keep=[0, 1.5]),
    "units as text": in_group(keep="0123"),
    "keep is a number": in_group(keep=3),
    "size is text": in_group(size="many"),
    "loss is text": in_group(loss="little"),
    "a group twice": edited(lambda data: data["groups"].append(data["groups"][0])),
    "macs are three": edited(lambda data: data.update(macs=[1, 2, 3])),
    "sizes are a number": edited(lambda data: data.update(sizes=3)),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_plan_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.plan.json"
    path.write_text(DAMAGED[kind], encoding="utf-8")
    with pytest.raises(InputError, match=r"x\.plan\.json") as caught:
        load_plan(path)
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "3", '{"format": "mipack-plan/9"}', "{}"])
def test_another_format_is_a_mismatch(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanMismatch, match="format"):
        load_plan(path)


def test_no_file_and_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "x"):
        with pytest.raises(InputError, match="cannot read the plan"):
            load_plan(path)
