"""The harness of the quality benchmark: rows, shares, resuming, intervals, tables, pictures."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import quality
from onnx import TensorProto, helper, numpy_helper
from quality_curves import curves, ticks
from quality_judge import compared, packed, unpacked, weight_products
from quality_methods import OURS, PEERS, chosen, methods
from quality_run import Failed, asked, spend
from quality_table import paired, report, spread
from quality_tasks import calibration, split


def test_rows_that_judge_share_no_text_with_the_pool() -> None:
    texts = [f"text {n % 60}" for n in range(100)]  # some texts stand twice
    (choose, validate), pool = split(texts, (10, 20))
    assert len(choose) == 10 and len(validate) == 20 and not set(choose) & set(validate)
    held = {texts[row] for row in [*choose, *validate]}
    assert pool and not held & {texts[row] for row in pool}
    assert split(texts, (10, 20)) == ([choose, validate], pool)


def test_a_larger_calibration_set_holds_the_smaller_of_its_seed() -> None:
    pool = list(range(1000, 1500))
    small, large = calibration(pool, 3, 64), calibration(pool, 3, 256)
    assert large[:64] == small and len(set(large)) == 256
    assert calibration(pool, 4, 64) != small
    with pytest.raises(SystemExit, match="501 samples"):
        calibration(pool, 0, 501)


@pytest.mark.parametrize("slope, offset", [(1.0, 0.004), (0.9, 0.03), (1.6, -0.1)])
def test_what_is_asked_for_converges_to_the_budget(slope: float, offset: float) -> None:
    budget, tried = 0.4, [(0.4, slope * 0.4 + offset)]
    for _ in range(3):
        ask = asked(tried, budget)
        tried.append((ask, slope * ask + offset))
    assert abs(tried[-1][1] - budget) < 0.002


def model_of(path: Path, hidden: int) -> Path:
    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.zeros(shape, np.float32), name)

    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["g"]),
        helper.make_node("MatMul", ["g", "c"], ["y"]),
        helper.make_node("MatMul", ["y", "y"], ["z"]),  # no weight
    ]
    weights = [weight("a", 8, hidden), weight("b", hidden), weight("c", hidden, 8)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [8, 8]) for n in ("x", "z")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)), path)
    return path


def test_the_share_counts_weights_of_products_only(tmp_path: Path) -> None:
    full, half = (weight_products(model_of(tmp_path / f"{n}.onnx", n)) for n in (16, 8))
    assert (full, half) == (256, 128)


def test_a_judged_model_keeps_its_correct_rows() -> None:
    original = np.array([[2.0, 0], [0, 2], [2, 0], [0, 2], [1, 0]])
    pruned = original.copy()
    pruned[0] = 0, 3
    labels = np.array([0, 1, 1, 1, 0])
    found = compared(pruned, original, labels)
    assert found["base"] == pytest.approx(0.8) and found["points"] == pytest.approx(-20)
    assert found["agreement"] == pytest.approx(0.8) and found["kl"] > 0
    assert unpacked(found["right"], 5).tolist() == [False, True, False, True, True]
    assert compared(original, original, labels)["kl"] == pytest.approx(0)
    with pytest.raises(ValueError, match="not finite"):
        compared(np.full((5, 2), np.nan), original, labels)


# ---------------------------------------------------------------- cells


class Runs:
    """A runner and a judge that count what they are asked."""

    def __init__(self, out: Path, fail: str = "") -> None:
        self.out, self.samples, self.fail = out, 8, fail
        self.task = Namespace(name="toy")
        self.judge = "validate"
        self.pruned: list[str] = []

    def stem(self, method: Any, budget: float, seed: int) -> str:
        return f"toy-{method.name}-{budget:g}-8-{seed}"

    def model(self, method: Any, budget: float, seed: int) -> tuple[Path, dict[str, Any]]:
        if method.name == self.fail:
            raise Failed("--criterion: not known")
        self.pruned.append(method.name)
        return self.out / "x.onnx", {"share": budget, "macs": budget, "seconds": 1.0}

    def __call__(self, model: Path, who: str) -> dict[str, Any]:
        return {"points": -1.0, "agreement": 0.9, "kl": 0.1}


def test_cells_that_exist_are_not_made_again_and_failures_are_told(tmp_path: Path) -> None:
    options = Namespace(bench=False, unread=False, seeds=[0])
    known = methods()
    runs = Runs(tmp_path, fail="mipp")

    def run() -> list[str]:
        return [
            line
            for name in ("mi", "obs", "mipp")
            for line in quality.cell(runs, runs, known[name], 0.4, 0, options)  # type: ignore[arg-type]
        ]

    (told,) = run()
    assert "mipp" in told and "not known" in told
    cell = tmp_path / "cells/validate/toy-mi-0.4-8-0.json"
    assert json.loads(cell.read_text())["run"]["share"] == 0.4
    cell.write_text(cell.read_text()[:20])  # half a file is none
    runs.fail = ""
    assert run() == []
    assert runs.pruned == ["mi", "obs", "mi", "mipp"]
    assert not list(tmp_path.rglob("*.part"))


def test_a_process_that_fails_says_its_last_line() -> None:
    with pytest.raises(Failed, match=r"^boom$"):
        spend(["bash", "-c", "echo a >&2; echo boom >&2; exit 3"], {})
    done = spend(["bash", "-c", "yes | head -c 200000 >&2; echo fine"], {})
    assert done.text == "fine\n" and done.peak_mb > 0


# ---------------------------------------------------------------- tables


def cells(method: str, right: np.ndarray[Any, Any], budgets: tuple[float, ...]) -> list[Any]:
    run = {"share": 0.4, "macs": 0.41, "seconds": 9.0, "cpu": 8.0, "peak_mb": 100.0}
    shown = {"base": 0.9, "agreement": 0.95, "kl": 0.01, "rows": right.shape[1], "run": run}
    return [
        {
            **shown, "task": "t", "method": method, "budget": budget, "seed": seed,
            "accuracy": bits.mean(), "points": 100 * (bits.mean() - 0.9), "right": packed(bits),
        }
        for budget in budgets
        for seed, bits in enumerate(right)
    ]  # fmt: skip


def test_the_paired_interval_averages_the_seeds_of_a_row() -> None:
    rng = np.random.default_rng(0)
    first = rng.random((1, 2000)) < 0.9
    second = first & (rng.random((1, 2000)) < 0.97)
    one = paired(cells("mi", first, (0.4,)), cells("p", second, (0.4,)))
    assert one is not None and one[1] < one[0] < one[2] and one[1] > 0
    assert one[0] == pytest.approx(100 * (first.mean() - second.mean()))
    again = paired(
        cells("mi", np.repeat(first, 3, 0), (0.4,)), cells("p", np.repeat(second, 3, 0), (0.4,))
    )
    assert again == pytest.approx(one)  # the same answers three times are no more evidence
    same = paired(cells("mi", first, (0.4,)), cells("p", first, (0.4,)))
    assert same is not None and same[1] < 0 < same[2]
    assert paired(cells("mi", first, (0.4,)), []) is None


def test_the_report_has_every_method_that_ran() -> None:
    rng = np.random.default_rng(0)
    ours, peer = rng.random((2, 500)) < 0.9, rng.random((2, 500)) < 0.7
    found = [*cells("mi", ours, (0.4, 0.2)), *cells("kwon", peer, (0.4,))]
    text = report("Toy", "validate", list(methods()), list(PEERS), found)
    assert "| kwon | -" in text and "| method | 0.4 | 0.2 |" in text and "seeds 0, 1" in text
    assert "**" in text and "±" in text and "osscar" not in text
    assert spread([1.0]) == "+1.00" and spread([-1.0, -2.0]) == "-1.50 ± 0.71"


def test_methods_by_group_and_name() -> None:
    assert [m.name for m in chosen("mi,mi,kwon")] == ["mi", "kwon"]
    assert len(chosen("ours,peers")) == 2 * len(OURS) + len(PEERS)
    again = chosen("repeat")
    assert all(m.suits("text", "test", 0.4) for m in again)
    assert not any(m.suits("text", "validate", 0.4) or m.suits("text", "test", 0.1) for m in again)
    assert methods()["mi"].suits("image", "test", 0.1)
    assert not methods()["kwon"].suits("image", "test", 0.1)
    with pytest.raises(SystemExit, match="ghost"):
        chosen("ghost")
    splits = methods()["onnxsim"].candidates["text"]
    assert {0.25, 4 / 12} <= {s["heads"] for b in (0.6, 0.4) for s in splits(b)}
    assert all(len(splits(budget)) >= 3 for budget in (0.6, 0.4, 0.3, 0.2, 0.1))


def test_a_picture_is_xml_with_a_line_per_method() -> None:
    lines = {"mi": [(0.4, 90.0), (0.2, 88.0)], "a<b": [(0.4, 80.0)]}
    root = ET.fromstring(curves("Toy", "share", lines))
    assert len(root.findall(".//{*}polyline")) == 2 and len(root.findall(".//{*}circle")) == 3
    for low, high in ((0.05, 0.65), (47.3, 90.1), (89.91, 89.97), (0.1, 1.05)):
        assert 3 <= len(ticks(low, high)) <= 10
