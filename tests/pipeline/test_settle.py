"""Budgets that are measured, and the search by what is lost; a made-up clock, no time asserted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from toys import Net, Toy, cnn, mlp

from mipack import settle
from mipack.bench.law import Counted, Law
from mipack.bench.stats import Ratio
from mipack.errors import InputError, VerificationError
from mipack.gate import Drop
from mipack.graph.load import from_proto, stored_bytes
from mipack.material import Material
from mipack.options import Logged, checked
from mipack.pipeline import prune
from mipack.prepare import Prepared, prepare
from mipack.result import PruneResult
from mipack.timing import Race

NET = cnn(samples=64)
FAST: dict[str, Any] = {"criterion": "magnitude", "refit": False}


class MadeUp:
    """A clock whose law is MACs and a fixed part; its machine makes `truth` of the prediction."""

    fixed, truth, noise = 0.2, staticmethod(lambda share: share), 0.0
    races: list[float]
    saved = False

    def __init__(self, material: Material) -> None:
        self._material, self.shape = material, dict(material.options.shape)
        self.races = MadeUp.races = []

    def law(self) -> Law:
        products = self._material.prepared.coupling.said.products.values()
        steps = [(1.0, Counted([axes])) for listed in products for axes in listed]
        return Law(self.fixed * len(steps), steps)

    def race(self, model: ir.Model) -> Race:
        law, groups = self.law(), self._material.groups
        cut = prepare(model).coupling
        sizes = {g.name: g.size for g in cut.groups}
        share = law.total({g.atom: sizes.get(g.name, g.size) for g in groups}) / law.full
        found = self.truth(share)
        self.races.append(found)
        low, high = found * (1 - self.noise), found * (1 + self.noise)
        return Race(Ratio(found, low, high, self.noise), self._material.options.latency or 1.0)

    def save(self) -> None:
        MadeUp.saved = True


def per_sample(prepared: Prepared) -> float:
    return prepared.coupling.cost.macs({}) / prepared.samples


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the clock: how what is measured follows from what was predicted, and the noise."""

    def make(truth: Callable[[float], float] = lambda s: s, noise: float = 0.0) -> None:
        monkeypatch.setattr(settle, "Clock", MadeUp)
        monkeypatch.setattr(MadeUp, "truth", staticmethod(truth))
        monkeypatch.setattr(MadeUp, "noise", noise)

    return make


def slowed(monkeypatch: pytest.MonkeyPatch, when: Callable[[int], bool]) -> None:
    """Nine tenths of the time wherever that many races say so."""
    right = MadeUp.race

    def race(self: MadeUp, model: ir.Model) -> Race:
        found = right(self, model)
        slow = Race(Ratio(0.9, 0.89, 0.91, 0.01), found.share)
        return slow if when(len(self.races)) else found

    monkeypatch.setattr(MadeUp, "race", race)


def cut(toy: Toy = NET, **settings: Any) -> PruneResult:
    return prune(toy.proto, toy.feeds, **{**FAST, **settings})


# ---------------------------------------------------------------- time


def test_a_true_prediction_is_measured_once(machine: Callable[..., None]) -> None:
    machine()
    result = cut(latency=0.6)
    assert len(MadeUp.races) == 2 and MadeUp.saved  # in the loop, and at the end
    assert 0.57 <= MadeUp.races[-1] <= 0.6
    assert result.promises["latency"] == {
        "ratio": MadeUp.races[-1],
        "interval": [MadeUp.races[-1]] * 2,
        "shape": {},
    }
    assert result.plan.settings["budget"] == {"latency": 0.6}


@pytest.mark.parametrize(
    "truth", [lambda s: 0.8 * s + 0.2, lambda s: 0.9 * s, lambda s: s**1.5, lambda s: 0.3 + 0.7 * s]
)
def test_a_wrong_prediction_is_corrected(
    truth: Callable[[float], float], machine: Callable[..., None]
) -> None:
    machine(truth)
    cut(latency=0.7)
    assert MadeUp.races[-1] == pytest.approx(0.7, rel=0.04)
    assert len(MadeUp.races) <= 2 + settle.CORRECTIONS


def test_a_cut_within_the_tolerance_is_still_brought_nearer(machine: Callable[..., None]) -> None:
    machine(lambda share: 1.025 * share)
    cut(mlp(16, 200, 160, 4), latency=0.5)
    assert MadeUp.races[0] > 0.5 * (1 + settle.NEARER) >= MadeUp.races[-1]


def test_time_below_the_floor_says_the_floor(machine: Callable[..., None]) -> None:
    machine()
    with pytest.raises(InputError, match=r"0\.0500 of the latency.*leaves 0\.[1-9]") as caught:
        cut(latency=0.05)
    assert "--latency 0." in caught.value.hint


def test_a_floor_that_only_measuring_shows_is_said_too(machine: Callable[..., None]) -> None:
    machine(lambda share: 0.5 + 0.5 * share)
    with pytest.raises(InputError, match=r"measured 0\.\d+ of the time .*by that the budget is"):
        cut(latency=0.45)


def test_a_restless_machine_gets_the_benefit_of_the_doubt(machine: Callable[..., None]) -> None:
    machine(lambda share: 1.2 * share, noise=0.3)
    result = cut(latency=0.6)
    assert len(MadeUp.races) == 2 and not result.warnings


def test_time_above_the_budget_is_refused_and_the_time_said(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds for the cut may not hold for the finished model."""
    machine()
    slowed(monkeypatch, lambda races: races >= 2)
    with pytest.raises(VerificationError, match=r"--latency 0\.6 is not met: measured 0\.900"):
        cut(latency=0.6)


def test_a_machine_that_is_busy_for_a_moment_refuses_nothing(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    slowed(monkeypatch, lambda races: races == 2)  # the finished model, for the first time
    assert cut(latency=0.6).promises["latency"]["ratio"] <= 0.6 * 1.03  # type: ignore[index]


def test_time_and_parameters_both_hold(machine: Callable[..., None]) -> None:
    machine()
    result = cut(latency=0.8, params=0.4)
    assert result.after.params <= 0.4 * result.before.params
    assert MadeUp.races[-1] <= 0.8 * 1.03


def test_uniform_widths_meet_a_time_too(machine: Callable[..., None]) -> None:
    machine()
    cut(latency=0.6, allocate="uniform")
    assert MadeUp.races[-1] <= 0.6 * 1.03


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize("refit", [False, True])
def test_the_file_has_the_share_of_bytes(refit: bool, tmp_path: Path) -> None:
    """Biases that refit adds count."""
    net = Net(0)
    x = net.input("x", ("batch", 8))
    h = net.relu(net.dense(x, 8, 64, name="fc0", bias=False))
    y = net.dense(net.relu(net.dense(h, 64, 64, name="fc1", bias=False)), 64, 3, name="fc2")
    toy = Toy(net.proto(y), [{"x": net.rng.normal(size=(128, 8)).astype(np.float32)}])
    result = prune(toy.proto, toy.feeds, size=0.5, refit=refit)
    result.save(tmp_path / "o.onnx")
    original, stored = stored_bytes(from_proto(toy.proto)), (tmp_path / "o.onnx").stat().st_size
    assert 0.4 * original < stored <= 0.5 * original
    assert result.promises["size"] == {"bytes": stored, "original": original}


def test_bytes_where_a_branch_goes(tmp_path: Path) -> None:
    """What stands for it is a constant, not a weight with a bias."""
    net = Net(0)
    h = net.relu(net.dense(net.input("x", ("batch", 8)), 8, 16, name="stem", bias=False))
    weak = net.weight("weak", 1e-6 * net.rng.normal(size=(64, 16)).astype(np.float32))
    inner = net.relu(net.dense(h, 16, 64, name="inner", bias=False))
    total = net.node("Add", h, net.node("MatMul", inner, weak, name="outer"))
    y = net.dense(total, 16, 3, name="head")
    toy = Toy(net.proto(y), [{"x": net.rng.normal(size=(128, 8)).astype(np.float32)}])
    result = prune(toy.proto, toy.feeds, size=0.15)
    (gone,) = [group for group in result.plan.groups if group.name.startswith("inner")]
    assert not len(gone.keep)
    result.save(tmp_path / "o.onnx")
    assert (tmp_path / "o.onnx").stat().st_size <= 0.15 * stored_bytes(from_proto(toy.proto))


def test_bytes_below_what_is_no_weight_say_the_floor() -> None:
    with pytest.raises(InputError, match=r"of the size, but .* leaves") as caught:
        cut(size=0.01)
    assert "--size" in caught.value.hint


# ---------------------------------------------------------------- what is lost


def labelled(classes: int = 3, samples: int = 400) -> Toy:
    """The labels are the model's own answers."""
    return mlp(6, 40, classes, samples=samples)


def test_the_deepest_cut_within_the_drop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drop that follows from the MACs alone: 20 points at 0.3."""
    toy, seen = mlp(6, 64, 64, 3, samples=200), []

    def drop(material: Material, model: ir.Model) -> Any:
        share = per_sample(prepare(model)) / per_sample(toy.prepared)
        seen.append(share)
        return Drop(100 * max(0.0, 0.5 - share), "agreement", 1000)

    monkeypatch.setattr(settle, "drop", drop)
    result = cut(toy, max_drop=20)
    share = result.after.macs / result.before.macs
    assert 0.29 <= share <= 0.34 and len(seen) <= settle.TRIALS + 1
    assert result.plan.settings["max_drop"] == 20
    assert result.promises["drop"]["points"] <= 20


def test_agreement_is_measured_where_there_are_no_labels() -> None:
    result = cut(labelled(), max_drop=5, refit=True, criterion="mi")
    found = result.promises["drop"]
    assert (found["metric"], found["answers"]) == ("agreement", 80)
    assert found["points"] <= 5 and result.after.macs < result.before.macs


def test_a_cut_that_drops_more_is_refused_with_what_it_drops() -> None:
    with pytest.raises(VerificationError, match=r"--max-drop 2 .*loses [\d.]+ points of agreement"):
        cut(labelled(), macs=0.05, max_drop=2)


def test_no_cut_within_the_drop_is_the_answer_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "drop", lambda *_: Drop(50.0, "agreement", 1000))
    with pytest.raises(VerificationError, match=r"no cut that was tried loses at most 2 points"):
        cut(labelled(), max_drop=2)


def test_values_are_judged_by_their_relative_error() -> None:
    net = Net(0)
    x = net.input("x", ("batch", 6))
    y = net.dense(net.relu(net.dense(x, 6, 40, name="fc0")), 40, 1, name="fc1")
    toy = Toy(net.proto(y), [{"x": net.rng.normal(size=(200, 6)).astype(np.float32)}])
    result = prune(toy.proto, toy.feeds, max_drop=30)
    found = result.promises["drop"]
    assert found["metric"] == "relative error" and 0 < found["points"] <= 30


@pytest.mark.parametrize("samples", [1, 2, 30])
def test_too_few_samples_are_refused(samples: int) -> None:
    with pytest.raises(InputError, match=r"--max-drop.*(held-out|too small)") as caught:
        cut(mlp(6, 40, 3, samples=samples), max_drop=1)
    assert "samples" in caught.value.hint


def test_the_gate_decides_nothing_else() -> None:
    """No sample of the gate fits or judges the refit."""
    toy = labelled()
    material = Material(toy.prepared, checked({"max_drop": 5}), Logged(), None)
    assert material.fit and material.test and material.gate
    parts = [material.fit, material.test, material.gate]
    rows = [next(iter(part.batches(400))).feeds["x"] for part in parts]
    every = np.concatenate(rows)
    assert len(every) == 400 and len(np.unique(every, axis=0)) == 400


def test_a_plan_can_be_held_to_a_drop(tmp_path: Path) -> None:
    toy = labelled()
    cut(toy, macs=0.05).save(tmp_path / "o.onnx")
    with pytest.raises(VerificationError, match="--max-drop 2"):
        cut(toy, from_plan=tmp_path / "o.plan.json", max_drop=2)
