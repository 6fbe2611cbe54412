"""The race: order, repeats, stopping on a clock of its own; real sessions, no time asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mipack.bench import stats
from mipack.bench.loop import Comparison, Contrast, Timing, against, compare, measure
from mipack.bench.memory import Footprint, footprint
from mipack.errors import InputError
from mipack.runtime.session import Session


def dense(width: int, name: str = "x") -> bytes:
    """y = x @ W, W of [width, width]."""
    weight = numpy_helper.from_array(np.ones((width, width), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", [name, "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [weight],
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def lines_of_text() -> bytes:
    """y = Identity(x) on strings."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["n"])],
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


class Stopwatch:
    """A clock that moves only when a run takes time."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, ""

    def __call__(self) -> float:
        return self.now

    def runner(self, name: str, durations: Any) -> Any:
        """A run that takes the next of `durations` seconds."""
        steps = iter(durations)

        def run() -> None:
            self.now += next(steps)
            self.log += name

        return run


def forever(value: float) -> Any:
    while True:
        yield value


def test_models_alternate_and_the_order_turns() -> None:
    clock = Stopwatch()
    runs = [clock.runner(name, forever(0.01)) for name in "abc"]
    measure(runs, rounds=6, warmup=2, seconds=None, clock=clock)
    assert clock.log == "aabbcc" + "abccba" * 3


def test_fast_models_run_several_times_per_sample() -> None:
    clock = Stopwatch()
    runs = [clock.runner("a", forever(0.0005)), clock.runner("b", forever(0.004))]
    samples, repeats = measure(runs, rounds=6, warmup=3, seconds=None, clock=clock)
    assert repeats == [4, 1]
    assert samples[0] == pytest.approx([0.5] * 6) and samples[1] == pytest.approx([4.0] * 6)


def test_spent_time_ends_the_race_but_never_below_six_rounds() -> None:
    clock = Stopwatch()
    runs = [clock.runner("a", forever(100.0)), clock.runner("b", forever(100.0))]
    samples, _ = measure(runs, rounds=30, warmup=5, seconds=10.0, clock=clock)
    assert [len(row) for row in samples] == [6, 6]
    assert clock.log.count("a") == 1 + 6  # the warm-up stops early too


def test_noise_earns_more_rounds_up_to_a_limit() -> None:
    clock, rng = Stopwatch(), np.random.default_rng(0)
    runs = [clock.runner(name, iter(lambda: float(rng.gamma(3.0)), None)) for name in "ab"]
    samples, _ = measure(runs, rounds=6, warmup=1, seconds=None, clock=clock)
    assert len(samples[0]) == 6 * 2**4


def test_two_sessions_may_race_alone() -> None:
    feeds = {"x": np.ones((2, 8), np.float32)}
    base, other = Session(dense(8)), Session(dense(8))
    ratio = against(base, other, feeds, rounds=6, seconds=0.01)
    assert 0 < ratio.low <= ratio.value <= ratio.high
    with pytest.raises(InputError, match="the pruned model"):
        against(base, Session(dense(9)), feeds, rounds=6, seconds=0.01)


def timing(name: str) -> Timing:
    return Timing(name, "x=1", (1.0, 2.0, 3.0), 1, 5.0, None, 2, "CPUExecutionProvider")


def comparison(ratio: stats.Ratio) -> Comparison:
    contrast = Contrast("small", "big", "x=1", ratio, 1, "CPUExecutionProvider")
    return Comparison((timing("big"), timing("small")), (contrast,))


def test_warning_says_what_cannot_be_told() -> None:
    assert comparison(stats.Ratio(0.5, 0.49, 0.51, 0.02)).warning is None
    unsure = comparison(stats.Ratio(0.9, 0.7, 1.2, 0.3))
    assert unsure.noisy and "whether small or big is faster" in str(unsure.warning)
    assert "only known to within 20%" in str(comparison(stats.Ratio(0.5, 0.4, 0.6, 0.2)).warning)


def test_race_of_three_models_on_two_shapes(tmp_path: Path) -> None:
    path = tmp_path / "middle.onnx"
    path.write_bytes(dense(16))
    models: list[tuple[str, bytes | Path]] = [("a", dense(16)), ("b", path), ("a", dense(16))]
    feeds = [(f"n={n}", {"x": np.ones((n, 16), np.float32)}) for n in (1, 4)]
    counts = [{"macs": 256}] * 3
    race = compare(models, feeds, rounds=6, seconds=0.1, threads=1, counts=counts)
    assert [(entry.name, entry.shape) for entry in race.timings] == [
        (name, shape) for shape in ("n=1", "n=4") for name in ("a", "b", "a")
    ]
    assert [entry.base for entry in race.contrasts] == ["a"] * 4
    assert race.interval[0] <= race.ratio <= race.interval[1]
    assert {entry.threads for entry in race.timings} == {1}
    assert {entry.provider for entry in race.timings} == {"CPUExecutionProvider"}
    plain = json.loads(json.dumps(race.to_json(), allow_nan=False))
    assert plain["counts"]["b"] == {"macs": 256}
    assert len(plain["timings"][0]["samples_ms"]) == len(race.timings[0].samples_ms) >= 6


def test_shape_label_comes_from_the_feeds() -> None:
    model: list[tuple[str, bytes | Path]] = [("a", dense(4)), ("b", dense(4))]
    race = compare(model, {"x": np.ones((2, 4), np.float32)}, rounds=6, seconds=0.05)
    assert race.timings[0].shape == "x=2x4"


def test_memory_of_one_model_does_not_hide_the_other() -> None:
    feeds = {"x": np.ones((1, 8), np.float32)}
    wide = {"x": np.ones((1, 2048), np.float32)}
    small = footprint(dense(8), feeds, threads=1).peak_bytes
    large = footprint(dense(2048), wide, threads=1).peak_bytes
    if small is None or large is None:
        pytest.skip("this system does not tell the peak memory of a process")
    assert large > 2048 * 2048 * 4 > small  # the weights alone


def test_memory_is_unknown_where_the_child_fails() -> None:
    assert footprint(b"no model", {"x": np.ones(1)}, threads=1) == Footprint()


def test_text_reaches_the_child_without_pickles() -> None:
    feeds = {"x": np.array(["one", "two"], dtype=object)}
    assert footprint(lines_of_text(), feeds, threads=1).load_ms is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 5}, "no 95 % interval"),
        ({"threads": 0}, "0 threads"),
        ({"seconds": 0.0}, "0 seconds"),
    ],
)
def test_unusable_numbers_are_refused(options: dict[str, Any], words: str) -> None:
    models: list[tuple[str, bytes | Path]] = [("a", dense(4)), ("b", dense(4))]
    with pytest.raises(InputError, match=words):
        compare(models, {"x": np.ones((1, 4), np.float32)}, **options)


def test_no_models_or_no_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="needs a model"):
        compare([], {"x": np.ones((1, 4), np.float32)})
    with pytest.raises(InputError, match="a set of inputs"):
        compare([("a", dense(4)), ("b", dense(4))], [])


def test_refused_and_missing_feeds_name_model_and_input() -> None:
    with pytest.raises(InputError, match="b: ONNX Runtime refused"):
        compare([("a", dense(4)), ("b", dense(5))], {"x": np.ones((1, 4), np.float32)})
    with pytest.raises(InputError, match="no array for the input 'z' of b"):
        compare([("a", dense(4)), ("b", dense(4, "z"))], {"x": np.ones((1, 4), np.float32)})


def test_damaged_model_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(dense(4)[:40])
    with pytest.raises(InputError):
        compare([("a", dense(4)), ("b", broken)], {"x": np.ones((1, 4), np.float32)})


def test_onnx_helper_models_are_valid() -> None:
    onnx.checker.check_model(onnx.load_from_string(dense(4)))
