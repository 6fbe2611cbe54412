"""Units of every kind through prune(): heads and the dims inside them, the hidden size, states of
the signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from laws.lawkit import Build
from onnx import TensorProto, helper
from toys import Array, run

from mipack import prune
from mipack.errors import InputError, PlanMismatch
from mipack.prepare import prepare
from mipack.select.plan import Plan, load_plan

HIDDEN, HEADS, SIZE = 16, 4, 6


def transformer(blocks: int = 2) -> onnx.ModelProto:
    b = Build(x=("batch", 6, HIDDEN))
    x = b.lin("x", HIDDEN, HIDDEN)
    for _ in range(blocks):
        q, k, v = (b.heads(b.lin(x, HIDDEN, HEADS * SIZE), HEADS, SIZE) for _ in range(3))
        mixed = b.attend(q, k, v, HEADS, SIZE)
        x = normed(b, b.Add(x, b.lin(mixed, HEADS * SIZE, HIDDEN)))
        x = normed(b, b.Add(x, b.lin(b.Relu(b.lin(x, HIDDEN, 32)), 32, HIDDEN)))
    return b.proto([b.lin(x, HIDDEN, 5)], 17)


def normed(b: Build, x: str) -> str:
    return str(b.LayerNormalization(x, b.positive(HIDDEN), b.w(HIDDEN)))


def tokens(count: int = 24) -> list[dict[str, Array]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(size=(count, 6, HIDDEN)).astype(np.float32)} for _ in range(2)]


def macs(model: Any) -> int:
    prepared = prepare(model)
    return prepared.coupling.cost.macs({}) // prepared.samples


def test_dims_are_chosen_for_every_head_by_itself() -> None:
    result = prune(transformer(), tokens(), keep=0.5, allocate="uniform", criterion="magnitude")
    families = [g for g in result.plan.groups if isinstance(g.keep[0], tuple)]
    assert len(families) == 4  # qk and vo dims of two blocks
    for group in families:
        assert np.shape(group.keep) == (HEADS, SIZE // 2) and group.kept == SIZE // 2
    assert any(len(set(group.keep)) > 1 for group in families)
    assert result.after.macs == macs(result.model)
    assert all(check.passed for check in result.checks)


def test_a_plan_with_rows_is_read_back_and_replayed(tmp_path: Path) -> None:
    first = prune(transformer(), tokens(), keep=0.5, allocate="uniform", refit=False)
    first.save(tmp_path / "a.onnx")
    plan = load_plan(tmp_path / "a.plan.json")
    assert plan.groups == first.plan.groups and any(group.rotated for group in plan.groups)
    path = tmp_path / "a.plan.json"
    with pytest.raises(PlanMismatch, match="principal dims"):
        prune(transformer(), from_plan=path, refit=False)
    again = prune(transformer(), tokens(), from_plan=path, refit=False)
    feeds = tokens()[0]
    (got,), (want,) = (list(run(r.model, feeds).values()) for r in (again, first))
    np.testing.assert_array_equal(got, want)


def test_rows_that_do_not_fit_are_refused() -> None:
    result = prune(transformer(1), tokens(), keep=0.5, allocate="uniform", refit=False)
    group = next(g for g in result.plan.groups if isinstance(g.keep[0], tuple))
    short = type(group)(group.name, group.kind, group.size, group.keep[:2])
    with pytest.raises(PlanMismatch, match="needs 4 rows"):
        Plan((short,), "").tables(prepare(transformer(1)).coupling)


def test_dims_are_a_means_of_the_information_budget() -> None:
    """The target is what cutting whole groups leaves; dims help to meet it."""
    model = transformer()
    coupling = prepare(model).coupling
    outer = {g.atom: round(g.size / 2) for g in coupling.free if not g.within}
    target = coupling.cost.macs(outer) / coupling.cost.macs({})
    result = prune(model, tokens(), keep=0.5)
    assert target - 0.1 < result.after.macs / result.before.macs <= target + 1e-9


def test_the_hidden_size_is_cut_on_request_only() -> None:
    model = transformer()
    plain = prune(model, tokens(), keep=0.5, allocate="uniform")
    narrow = prune(model, tokens(), keep=0.5, allocate="uniform", width=0.5)
    kinds = {g.name: (g.kind, g.size, g.kept) for g in narrow.plan.groups}
    assert ("width", HIDDEN, HIDDEN // 2) in kinds.values()
    assert all(g.kind != "width" for g in plain.plan.groups)
    assert narrow.after.macs == macs(narrow.model) < plain.after.macs
    assert "layer" not in narrow.checks[0].name and narrow.checks[0].passed


def test_width_alone_cuts_nothing_else() -> None:
    result = prune(transformer(1), tokens(), width=0.5)
    cut = [g for g in result.plan.groups if g.kept < g.size]
    assert [g.kind for g in cut] == ["width"]


def test_a_budget_out_of_reach_names_the_way_out() -> None:
    with pytest.raises(InputError) as caught:
        prune(transformer(1), tokens(), macs=0.01)
    assert "--width" in caught.value.hint


def test_width_says_where_there_is_nothing_to_average() -> None:
    b = Build(x=("batch", HIDDEN))
    model = b.proto([b.lin(b.Relu(b.lin("x", HIDDEN, 12)), 12, 3)], 17)
    feeds = [{"x": np.random.default_rng(0).normal(size=(30, HIDDEN)).astype(np.float32)}]
    result = prune(model, feeds, keep=0.5, width=0.5)
    assert any("--width" in text for text in result.warnings)


# ---------------------------------------------------------------- the signature


def cell() -> onnx.ModelProto:
    """One step of a recurrent model: its state comes in and goes out."""
    b = Build(x=("batch", 6), h=("batch", 10))
    new = b.Tanh(b.Add(b.lin("x", 6, 10), b.Mul("h", b.w(10))))
    proto = b.proto([new, b.lin(new, 10, 4)], 17)
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(new, TensorProto.FLOAT, ["batch", 10])
    )
    return proto


def steps() -> list[dict[str, Array]]:
    rng = np.random.default_rng(1)
    x, h = (rng.normal(size=(40, n)).astype(np.float32) for n in (6, 10))
    return [{"x": x, "h": h}]


def test_states_of_the_signature_stay_without_leave() -> None:
    with pytest.raises(InputError, match="nothing can be pruned"):
        prune(cell(), steps(), keep=0.5)


def test_states_shrink_where_allowed_and_it_is_said() -> None:
    result = prune(cell(), steps(), keep=0.5, allocate="uniform", allow_signature=True)
    assert result.model is not None
    values = [*result.model.graph.inputs, *result.model.graph.outputs]
    shapes = {v.name: list(v.shape) for v in values if v.shape is not None}
    assert shapes["x"][1] == 6 and shapes["h"][1] == 5
    assert sum("signature changed" in text for text in result.warnings) == 2
    assert result.checks[-1].name.startswith("signature: changed")
    feeds = {"x": steps()[0]["x"], "h": steps()[0]["h"][:, :5]}
    state, answer = run(result.model, feeds).values()
    assert state.shape == (40, 5) and answer.shape == (40, 4)
