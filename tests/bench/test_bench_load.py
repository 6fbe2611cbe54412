"""Requests per second: every client asks on its own, models take turns, the base has no ratio."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from mipack import front
from mipack.bench import stats
from mipack.bench.load import press, throughputs
from mipack.bench.loop import compare
from mipack.errors import InputError


def test_so_many_clients_ask_at_the_same_time() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def run() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.002)
        with lock:
            inside -= 1

    (load,) = press([run], 3, 0.3)
    assert most == 3
    assert len(load.rates) == stats.FEWEST_ROUNDS
    assert len(load.latencies_ms) >= 3 * stats.FEWEST_ROUNDS


def test_a_failing_run_is_not_swallowed() -> None:
    def run() -> None:
        raise InputError("refused")

    with pytest.raises(InputError, match="refused"):
        press([run], 2, 0.1)


def test_the_ratio_is_of_requests_per_second() -> None:
    loads = press([lambda: time.sleep(0.01), lambda: time.sleep(0.002)], 1, 0.6)
    first, second = throughputs(
        ["slow", "fast"], loads, shape="s", threads=1, providers=["p", "p"], concurrency=1
    )
    assert first.ratio is None and second.ratio is not None
    assert second.ratio.value > 1
    assert second.p50_ms <= second.p95_ms
    assert json.loads(json.dumps(second.to_json()))["concurrency"] == 1


def test_every_setting_is_a_race(digits: Path) -> None:
    model = digits / "model.onnx"
    found = front.bench(
        [model, model],
        shapes=[{"batch": 2}],
        threads=(1, 2),
        concurrency=(2,),
        rounds=6,
        seconds=0.4,
    )
    settings = {(t.shape, t.threads) for t in found.comparison.timings}
    assert settings == {("batch=2", 1), ("batch=2", 2)}
    assert len(found.comparison.timings) == len(found.comparison.throughput) == 4
    assert len(found.comparison.contrasts) == 2
    document = json.loads(json.dumps(found.to_json()))
    assert document["schema"] == "mipack-bench/1"
    assert set(document["disturbance"]) == {"others", "stolen"}
    assert {"governor", "load", "cpu_limit", "cpu", "cores"} <= set(document["machine"])


def test_one_model_has_times_but_no_ratio(digits: Path) -> None:
    found = front.bench([digits / "model.onnx"], rounds=6, seconds=0.2).comparison
    assert len(found.timings) == 1 and found.contrasts == () and found.warning is None


def test_loads_need_clients() -> None:
    with pytest.raises(InputError, match="0 clients"):
        compare([("a", b"")], [("s", {})], concurrency=[0])
