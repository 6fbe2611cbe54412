"""A plan decides: it can be edited and replayed, with data, with moments, or with neither."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from toys import cnn, mlp, run

from mipack import PruneResult, prune
from mipack.errors import InputError, PlanMismatch

TOY = cnn(samples=48)
OUTPUT = TOY.prepared.signature.outputs[0].name


class Ears:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, total: int | None) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """out.onnx, out.plan.json and moments.npz of one run."""
    folder = tmp_path_factory.mktemp("replay")
    result = prune(TOY.proto, TOY.feeds, keep=0.5, moments=folder / "moments.npz")
    result.save(folder / "out.onnx")
    return folder


def replay(path: Path, calib: Any = None, **settings: Any) -> PruneResult:
    return prune(TOY.proto, calib, from_plan=path, **settings)


def answers(result: PruneResult) -> np.ndarray:
    return run(result.model, TOY.feeds[0])[OUTPUT]


def edited(folder: Path, tmp_path: Path, name: str, keep: Sequence[int]) -> Path:
    plan = json.loads((folder / "out.plan.json").read_text())
    next(g for g in plan["groups"] if g["name"] == name)["keep"] = list(keep)
    path = tmp_path / "edited.plan.json"
    path.write_text(json.dumps(plan))
    return path


# ---------------------------------------------------------------- with data, with moments, without


def test_with_data_the_result_is_the_same_again(folder: Path, tmp_path: Path) -> None:
    result = replay(folder / "out.plan.json", TOY.feeds)
    for name, path in zip(("out.onnx", "out.plan.json"), result.save(tmp_path / "x.onnx"),
                          strict=True):  # fmt: skip
        assert path.read_bytes() == (folder / name).read_bytes()


def test_with_moments_alone_it_is_refitted_locally_and_said(folder: Path) -> None:
    ears = Ears()
    result = replay(folder / "out.plan.json", moments=folder / "moments.npz", progress=ears)
    assert any("refitted locally" in text for text in [*ears.said, *result.warnings])
    assert result.fidelity == {} and all(check.passed for check in result.checks)
    assert not result.checks[1].detail.startswith("0 refitted")
    plain = replay(folder / "out.plan.json", refit=False)
    want = run(TOY.proto, TOY.feeds[0])[OUTPUT]
    errors = [np.square(answers(r) - want).mean() for r in (result, plain)]
    assert errors[0] < errors[1]


def test_with_neither_it_needs_no_refit(folder: Path) -> None:
    with pytest.raises(InputError, match="refit needs") as caught:
        replay(folder / "out.plan.json")
    assert "--no-refit" in caught.value.hint and "--moments" in caught.value.hint
    assert replay(folder / "out.plan.json", refit=False).after.macs > 0


def test_moments_of_another_model_are_refused(folder: Path) -> None:
    other = cnn(seed=1)
    with pytest.raises(PlanMismatch, match="another model"):
        prune(other.proto, from_plan=folder / "out.plan.json", moments=folder / "moments.npz")


def test_missing_moments_are_no_moments(folder: Path) -> None:
    with pytest.raises(InputError, match="refit needs"):
        replay(folder / "out.plan.json", moments=folder / "missing.npz")


def test_a_replay_decides_nothing_itself(folder: Path) -> None:
    for budget in ({"keep": 0.5}, {"macs": 0.5}):
        with pytest.raises(InputError, match="a plan has its widths"):
            replay(folder / "out.plan.json", refit=False, **budget)


def test_a_replay_can_be_looked_at_first(folder: Path) -> None:
    dry = replay(folder / "out.plan.json", decide_only=True)
    wet = replay(folder / "out.plan.json", refit=False)
    assert dry.model is None and dry.after == wet.after


# ---------------------------------------------------------------- edited, and on other models


def test_an_edited_plan_is_obeyed(folder: Path, tmp_path: Path) -> None:
    path = edited(folder, tmp_path, "inner:out", [1, 6])
    result = replay(path, TOY.feeds)
    kept = {group.name: group.keep for group in result.plan.groups}
    assert kept["inner:out"] == (1, 6)
    weight = result.model.graph.initializers["inner.w"].const_value
    assert weight.shape[0] == 2 and all(check.passed for check in result.checks)


def test_an_edited_plan_cuts_these_units(folder: Path, tmp_path: Path) -> None:
    path = edited(folder, tmp_path, "hidden:out", [0, 5, 9])
    result = replay(path, refit=False)
    original = {i.name: numpy_helper.to_array(i) for i in TOY.proto.graph.initializer}
    head = result.model.graph.initializers["head.w"].const_value.numpy()
    np.testing.assert_array_equal(head, original["head.w"][[0, 5, 9]])


def test_a_sibling_of_the_same_structure_takes_the_plan(folder: Path) -> None:
    """Fine-tuned weights: groups are found by name and size, and it is said."""
    ears, sibling = Ears(), cnn(seed=1, samples=48)
    result = prune(sibling.proto, sibling.feeds, from_plan=folder / "out.plan.json", progress=ears)
    assert all(check.passed for check in result.checks)
    assert any("another model of this structure" in text for text in ears.said)


def test_another_structure_is_a_mismatch(folder: Path) -> None:
    other = mlp(6, 16, 12, 4)
    with pytest.raises(PlanMismatch, match="no group 'stem:out'"):
        prune(other.proto, other.feeds, from_plan=folder / "out.plan.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "mipack-plan/1"}'])
def test_a_damaged_plan_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.plan.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.plan\.json"):
        replay(path, refit=False)


def test_no_plan_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        prune(tmp_path / "model.onnx", from_plan=tmp_path / "missing.plan.json")


# ---------------------------------------------------------------- saved moments


def test_saved_moments_give_the_same_plan(folder: Path) -> None:
    first = prune(TOY.proto, TOY.feeds, keep=0.3)
    second = prune(TOY.proto, TOY.feeds, keep=0.3, moments=folder / "moments.npz")
    assert second.plan == first.plan
    assert "calibrate: moments" in first.timings and "calibrate: moments" not in second.timings


def test_moments_do_not_depend_on_the_budget_or_the_batch_size(folder: Path) -> None:
    result = prune(TOY.proto, TOY.feeds, macs=0.4, batch_size=5, moments=folder / "moments.npz")
    assert all(check.passed for check in result.checks)


def test_moments_alone_decide_and_refit(folder: Path) -> None:
    """No data at hand: curves as predicted, the refit local, the proof on made-up feeds."""
    result = prune(TOY.proto, keep=0.5, moments=folder / "moments.npz")
    assert result.after.macs < 0.5 * result.before.macs
    assert all(check.passed for check in result.checks)
