"""The lossless step of a run: shown apart, left out on request, counted on request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from toys import Array, Net, run

from mipack import PruneResult, prune
from mipack.errors import InputError, VerificationError
from mipack.front import inspect, slim
from mipack.graph.unread import Unread, without_unread
from mipack.prepare import prepare
from mipack.verify import slim as checking

WIDTH, HIDDEN = 16, 48


def reader() -> onnx.ModelProto:
    """x [batch, length, 16]: two dense layers, of which a classifier reads the first position."""
    net = Net(3)
    x = net.input("x", ("batch", "length", WIDTH))
    h = net.relu(net.dense(x, WIDTH, HIDDEN, name="up"))
    y = net.node("Add", net.dense(h, HIDDEN, WIDTH, name="down"), x)
    first = net.node("Gather", y, net.weight("zero", np.array(0)), axis=1)
    return net.proto({net.dense(first, WIDTH, 5, name="head"): ("batch", 5)})


def feeds(samples: int = 96, length: int = 6) -> dict[str, Array]:
    return {"x": np.random.default_rng(1).normal(size=(samples, length, WIDTH)).astype(np.float32)}


def pruned(**settings: Any) -> PruneResult:
    return prune(reader(), [feeds()], **{"round_to": 1, "keep": 0.5, **settings})


def macs(model: Any) -> int:
    """Multiply-adds of one sample of length 6."""
    prepared = prepare(model, None, sizes={"batch": 2, "length": 6})
    return prepared.coupling.cost.macs({}) // prepared.samples


def same(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    return all(np.allclose(a[k], b[k], rtol=1e-5, atol=1e-6) for k in a)


def test_it_comes_after_the_cut_and_is_shown_apart() -> None:
    kept, without = pruned(keep_unread=True), pruned()
    assert kept.unread is None and without.unread is not None
    assert kept.after == without.after and kept.plan.groups == without.plan.groups
    assert without.unread.macs < without.after.macs
    assert macs(kept.model) == kept.after.macs and macs(without.model) == without.unread.macs
    assert same(run(kept.model, feeds(7, 9)), run(without.model, feeds(7, 9)))
    assert "nobody reads" in without.checks[-1].name


def test_in_the_json() -> None:
    assert pruned(keep_unread=True).to_json()["unread"] is None
    found = pruned()
    assert found.unread is not None
    assert found.to_json()["unread"]["macs"] == found.unread.macs


def test_a_prediction_foresees_it() -> None:
    done, predicted = pruned(), pruned(decide_only=True)
    assert done.unread is not None and predicted.unread is not None
    assert predicted.model is None and predicted.unread.macs == done.unread.macs


def test_counted_it_makes_room_in_the_budget() -> None:
    plain, counted = pruned(keep=None, macs=0.3), pruned(keep=None, macs=0.3, count_unread=True)
    target = 0.3 * plain.before.macs
    assert plain.after.macs <= target and counted.unread is not None
    assert counted.after.macs > plain.after.macs and counted.unread.macs <= target
    assert counted.plan.settings["count_unread"] is True


def test_where_it_is_all_that_the_budget_asks_nothing_is_cut() -> None:
    found = pruned(keep=None, macs=0.9, count_unread=True)
    assert all(group.kept == group.size for group in found.plan.groups)
    assert found.unread is not None and found.unread.macs < 0.9 * found.before.macs


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep_unread": True, "count_unread": True}, "exclude each other"),
        ({"keep": None, "params": 0.5, "count_unread": True}, "no MACs"),
    ],
)
def test_options_that_contradict(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pruned(**settings)


def wrong(model: ir.Model, probe: Any) -> Unread | None:
    """A step that reads another position."""
    found = without_unread(model, probe)
    if found is not None:
        gather = next(n for n in found.model.graph if n.op_type == "Gather")
        index = gather.inputs[1]
        assert index is not None
        index.const_value = ir.tensor(np.array([1]), name=index.name)
    return found


def test_a_proof_that_fails_leaves_the_model_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(pruned(keep_unread=True).model, feeds(5))
    monkeypatch.setattr(checking, "without_unread", wrong)
    found = pruned()
    assert found.unread is None and any("not left out" in text for text in found.warnings)
    assert same(run(found.model, feeds(5)), expected)


def test_a_proof_that_fails_where_the_budget_counts_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter([without_unread, wrong])
    monkeypatch.setattr(checking, "without_unread", lambda *given: next(steps)(*given))
    with pytest.raises(VerificationError, match="not left out"):
        pruned(count_unread=True)


def test_slim_needs_no_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(reader(), path)
    found = slim(path, sizes={"batch": 2, "length": 6})
    assert found.before.macs == macs(reader()) and found.after.macs == macs(found.model)
    assert found.nodes == 2 and found.check.passed
    assert same(run(found.model, feeds(7, 9)), run(reader(), feeds(7, 9)))
    assert inspect(path).unread > 0


def test_slim_of_its_own_result_changes_nothing(tmp_path: Path) -> None:
    path, again = tmp_path / "m.onnx", tmp_path / "again.onnx"
    onnx.save(reader(), path)
    slim(path).save(again)
    found = slim(again)
    assert found.nodes == 0 and found.after == found.before
    with pytest.raises(InputError, match="exists"):
        found.save(again)


def test_slim_where_the_outputs_would_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(reader(), path)
    monkeypatch.setattr(checking, "without_unread", wrong)
    with pytest.raises(VerificationError, match="differ"):
        slim(path)
