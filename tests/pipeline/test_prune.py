"""prune() through the API: budgets, every criterion, what is returned and what is written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from toys import Array, Net, Toy, cnn, mlp, run

import mipack
from mipack import PruneResult, prune
from mipack.errors import InputError, VerificationError
from mipack.graph.load import from_proto, load, weight_count
from mipack.prepare import prepare
from mipack.result import Check
from mipack.select.criteria import CRITERIA
from mipack.select.plan import load_plan
from mipack.select.signal import SIGNALS


@pytest.fixture(scope="module")
def half(digits: Path) -> PruneResult:
    return prune(digits / "model.onnx", digits / "calib.npz", keep=0.5)


def right(model: Any, digits: Path) -> float:
    """Share of right answers on the test images."""
    images = dict(np.load(digits / "test.npz"))
    return float((run(model, images)["logits"].argmax(1) == np.load(digits / "labels.npy")).mean())


def macs(model: Any) -> int:
    """Multiply-adds per sample, counted on a model by itself."""
    prepared = prepare(model)
    return prepared.coupling.cost.macs({}) // prepared.samples


# ---------------------------------------------------------------- digits


def test_half_of_digits_keeps_its_accuracy(half: PruneResult, digits: Path) -> None:
    before = right(load(digits / "model.onnx"), digits)
    assert right(half.model, digits) > before - 0.03
    assert half.fidelity["agreement"] == 1.0 and half.fidelity["kl"] < 0.01


def test_sizes_are_those_of_the_models(half: PruneResult, digits: Path) -> None:
    original = load(digits / "model.onnx")
    assert half.before.macs == macs(original) and half.after.macs == macs(half.model)
    assert half.before.params == weight_count(original)
    assert half.after.params == weight_count(half.model) < half.before.params
    assert half.plan.macs == (half.before.macs, half.after.macs)


@pytest.mark.parametrize("allocate", ["information", "uniform"])
@pytest.mark.parametrize("budget", [{"keep": 0.5}, {"macs": 0.4}, {"params": 0.4}])
def test_budgets_hold(digits: Path, budget: dict[str, float], allocate: str) -> None:
    settings = {**budget, "allocate": allocate, "criterion": "magnitude"}
    result = prune(digits / "model.onnx", digits / "calib.npz", decide_only=True, **settings)
    before, after = result.before, result.after
    if "macs" in budget:
        assert 0.3 < after.macs / before.macs <= budget["macs"]
    elif "params" in budget:
        assert 0.3 < after.params / before.params <= budget["params"] + 1e-3  # biases count little
    else:
        uniform = prune(digits / "model.onnx", digits / "calib.npz", keep=0.5, allocate="uniform",
                        criterion="magnitude", decide_only=True)  # fmt: skip
        assert 0.9 * uniform.after.macs < after.macs <= uniform.after.macs


def test_what_was_checked_is_listed(half: PruneResult) -> None:
    assert all(check.passed for check in half.checks)
    names = " / ".join(check.name for check in half.checks)
    for words in ("masked original", "structure", "signature", "finite", "no worse"):
        assert words in names


def test_the_result_is_plain_data(half: PruneResult) -> None:
    document = json.loads(json.dumps(half.to_json(), allow_nan=False))
    assert document["after"]["macs"] == half.after.macs
    assert {g["name"] for g in document["plan"]["groups"]} == {g.name for g in half.plan.groups}
    assert len(document["checks"]) == len(half.checks) and document["warnings"]
    assert set(document["timings"]) >= {"load", "cut and prove", "refit", "verify"}


def test_a_thin_calibration_set_warns(half: PruneResult) -> None:
    assert any("few calibration rows: 262 for the 1024" in text for text in half.warnings)


SCRIPT = """
import hashlib, sys
from pathlib import Path
from mipack import prune
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
result = prune(folder / "model.onnx", folder / "calib.npz", keep=0.5, exclude="/widen*")
print(*(hashlib.sha256(path.read_bytes()).hexdigest() for path in result.save(out)))
"""


def test_the_same_run_gives_the_same_bytes(digits: Path, tmp_path: Path) -> None:
    """In another process, where sets are ordered by other hashes."""
    calib = digits / "calib.npz"
    ours = prune(digits / "model.onnx", calib, keep=0.5, exclude="/widen*")
    root = Path(mipack.__file__).parent.parent
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SCRIPT, str(digits), str(tmp_path / "there.onnx")]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.split() == [sha(path) for path in ours.save(tmp_path / "here.onnx")]


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---------------------------------------------------------------- what is written


@pytest.fixture(scope="module")
def small() -> PruneResult:
    toy = mlp(6, 16, 12, 4)
    return prune(toy.proto, toy.feeds, keep=0.5)


def test_nothing_is_written_before_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy = mlp(6, 16, 12, 4)
    onnx.save(toy.proto, tmp_path / "model.onnx")
    result = prune(tmp_path / "model.onnx", toy.feeds, keep=0.5)
    assert os.listdir(tmp_path) == ["model.onnx"]
    result.save(Path("out.onnx"))
    assert sorted(os.listdir(tmp_path)) == ["model.onnx", "out.onnx", "out.plan.json"]


def test_what_is_saved_is_the_result(small: PruneResult, tmp_path: Path) -> None:
    written = small.save(tmp_path / "out.onnx")
    assert written == (tmp_path / "out.onnx", tmp_path / "out.plan.json")
    onnx.checker.check_model(str(written[0]), full_check=True)
    feeds = {"x": np.ones((3, 6), np.float32)}
    ours, theirs = (run(model, feeds)["fc2.add"] for model in (small.model, load(written[0])))
    np.testing.assert_array_equal(ours, theirs)
    assert load_plan(written[1]).groups == small.plan.groups


@pytest.mark.parametrize("name", ["out.onnx", "out.plan.json", "out.onnx.data"])
def test_existing_files_are_not_overwritten(small: PruneResult, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} exists") as caught:
        small.save(tmp_path / "out.onnx")
    assert "--force" in caught.value.hint
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "mine"
    small.save(tmp_path / "out.onnx", force=True)
    assert (tmp_path / "out.onnx").stat().st_size > 500


def test_a_missing_folder_is_refused(small: PruneResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        small.save(tmp_path / "missing" / "out.onnx")


def test_paths_may_be_strings(tmp_path: Path) -> None:
    toy = mlp(6, 16, 12, 4)
    onnx.save(toy.proto, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", **toy.feeds[0])
    moments = str(tmp_path / "moments.npz")
    result = prune(str(tmp_path / "model.onnx"), str(tmp_path / "calib.npz"), keep=0.5,
                   moments=moments)  # fmt: skip
    assert result.save(str(tmp_path / "out.onnx"))[0].is_file()
    assert Path(moments).is_file()


def test_a_failed_check_is_never_saved(small: PruneResult, tmp_path: Path) -> None:
    from dataclasses import replace

    failed = replace(small, checks=(*small.checks, Check("finite", False, "output y is not")))
    with pytest.raises(VerificationError, match="finite"):
        failed.save(tmp_path / "out.onnx")
    assert not os.listdir(tmp_path)


def test_a_decision_is_a_plan_without_a_model(tmp_path: Path) -> None:
    toy = mlp(6, 16, 12, 4)
    decision = prune(toy.proto, toy.feeds, keep=0.5, decide_only=True)
    whole = prune(toy.proto, toy.feeds, keep=0.5)
    assert decision.model is None and decision.plan == whole.plan
    assert decision.after == whole.after  # predicted is real
    assert [p.name for p in decision.save(tmp_path / "out.onnx")] == ["out.plan.json"]


# ---------------------------------------------------------------- every way to choose


NET = cnn(samples=48)


def pruned(toy: Toy = NET, **settings: Any) -> PruneResult:
    return prune(toy.proto, toy.feeds, **{"keep": 0.5, **settings})


@pytest.mark.parametrize("allocate", ["information", "uniform"])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion(criterion: str, allocate: str) -> None:
    result = pruned(criterion=criterion, allocate=allocate)
    kept = {g.name: len(g.keep) for g in result.plan.groups}
    if allocate == "uniform":
        assert kept == {"stem:out": 6, "wide:out": 8, "inner:out": 4, "hidden:out": 12}
    assert result.after.macs < 0.5 * result.before.macs
    assert all(check.passed for check in result.checks)
    assert result.plan.settings["criterion"] == criterion


@pytest.mark.parametrize("allocate", ["information", "uniform"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal(signal: str, allocate: str) -> None:
    result = pruned(signal=signal, allocate=allocate)
    assert result.plan.settings["signal"] == signal
    assert result.after.macs < 0.5 * result.before.macs
    assert all(check.passed for check in result.checks)


def test_information_beats_chance(digits: Path) -> None:
    def kl(criterion: str) -> float:
        data = digits / "calib.npz"
        found = prune(digits / "model.onnx", data, macs=0.1, criterion=criterion).fidelity["kl"]
        assert found is not None
        return found

    assert kl("mi") < 0.5 * kl("random")


def test_refit_helps_and_can_be_left_out() -> None:
    plain, refitted = pruned(refit=False), pruned()
    assert "0 refitted weights" in plain.checks[1].detail
    assert refitted.fidelity["kl"] < plain.fidelity["kl"]


def test_keeping_everything_changes_no_number() -> None:
    result = pruned(keep=1.0)
    assert result.after == result.before and result.fidelity["kl"] == pytest.approx(0, abs=1e-9)
    y = NET.prepared.signature.outputs[0].name
    both = [run(model, NET.feeds[0])[y] for model in (NET.proto, result.model)]
    np.testing.assert_allclose(*both, rtol=1e-5, atol=1e-6)


def test_patterns_leave_the_rest_alone() -> None:
    result = pruned(keep=0.5, exclude=("stem*", "hidden*"), allocate="uniform")
    assert {g.name for g in result.plan.groups} == {"wide:out", "inner:out"}
    sizes = {v.name: v.const_value.shape for v in result.model.graph.initializers.values()}
    assert tuple(sizes["stem.w"]) == (12, 3, 3, 3) and tuple(sizes["wide.w"]) == (8, 12, 3, 3)


def test_models_may_be_messages_or_onnx_ir() -> None:
    plans = [prune(m, NET.feeds, keep=0.5).plan for m in (NET.proto, from_proto(NET.proto))]
    assert plans[0] == plans[1]


def test_the_model_given_stays_as_it_was() -> None:
    toy = mlp(6, 16, 12, 4)
    before = toy.proto.SerializeToString()
    prune(toy.proto, toy.feeds, keep=0.5)
    assert toy.proto.SerializeToString() == before
    model = from_proto(toy.proto)
    prune(model, toy.feeds, keep=0.5)
    assert {tuple(v.const_value.shape) for v in model.graph.initializers.values()} >= {(16, 12)}


# ---------------------------------------------------------------- little, odd and no data


def test_a_single_sample_is_enough() -> None:
    toy = mlp(6, 16, 12, 4, samples=1)
    result = prune(toy.proto, toy.feeds, keep=0.5)
    assert all(check.passed for check in result.checks)
    assert any("few calibration rows" in text for text in result.warnings)


def test_without_data_magnitude_and_no_refit() -> None:
    settings = {"criterion": "magnitude", "refit": False}
    result = prune(NET.proto, keep=0.5, **settings)
    assert result.after.macs < 0.5 * result.before.macs and result.fidelity == {}
    for other in ({**settings, "refit": True}, {**settings, "criterion": "mi"}):
        with pytest.raises(InputError, match="needs calibration data") as caught:
            prune(NET.proto, keep=0.5, **other)
        assert "--calib" in caught.value.hint


def test_an_output_without_classes() -> None:
    """[batch]: the squeezed answer of a regression."""
    net = Net(3)
    x = net.input("x", ("batch", 6))
    y = net.dense(net.relu(net.dense(x, 6, 16, name="a")), 16, 1, name="b")
    y = net.node("Squeeze", y, net.weight("axes", np.array([1], np.int64)))
    feeds = [{"x": net.rng.normal(size=(64, 6)).astype(np.float32)}]
    for signal in SIGNALS:
        result = prune(net.proto({y: ("batch",)}), feeds, keep=0.5, signal=signal)
        assert all(check.passed for check in result.checks)


def test_a_data_set_of_one_half_is_not_the_other(tmp_path: Path) -> None:
    """Saved moments are those of the model and the data that they were taken of."""
    toy, path = mlp(6, 16, 12, 4), tmp_path / "moments.npz"
    halves: list[dict[str, Array]] = [
        {"x": toy.feeds[0]["x"][a:b]} for a, b in ((0, 90), (90, 180))
    ]
    prune(toy.proto, halves[:1], keep=0.5, moments=path)
    with pytest.raises(InputError, match="other data"):
        prune(toy.proto, halves[1:], keep=0.5, moments=path)
    with pytest.raises(InputError, match="another model"):
        prune(mlp(6, 16, 12, 4, seed=1).proto, halves[:1], keep=0.5, moments=path)
    again = prune(toy.proto, halves[:1], keep=0.3, moments=path)
    assert "calibrate: moments" not in again.timings


def test_weights_in_constant_nodes_tell_models_apart(tmp_path: Path) -> None:
    """They are large, and equal at both ends: a printed form would not show where they differ."""
    protos = []
    for middle in (0.0, 1.0):
        net = Net(4)
        x = net.input("x", ("batch", 40))
        weight = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32)
        weight[20] += middle
        stored = onnx.numpy_helper.from_array(weight, "stored")
        h = net.relu(net.node("MatMul", x, net.node("Constant", value=stored), name="a"))
        protos.append(net.proto({net.dense(h, 60, 4, name="b"): ("batch", 4)}))
    feeds = [{"x": np.random.default_rng(1).normal(size=(64, 40)).astype(np.float32)}]
    prune(protos[0], feeds, keep=0.5, moments=tmp_path / "moments.npz")
    with pytest.raises(InputError, match="another model"):
        prune(protos[1], feeds, keep=0.5, moments=tmp_path / "moments.npz")
