"""mipack finish and prune --finish as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mistakes import run, said

from mipack.report.files import read


def test_finish_as_a_document(digits: Path, tmp_path: Path) -> None:
    out, calib = tmp_path / "out.onnx", digits / "calib.npz"
    command = ["finish", digits / "model.onnx", "--steps", "fp16", "--calib", calib, "-o", out]
    found = run(*command, "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["command"] == "finish" and document["files"] == [str(out)]
    assert [stage["name"] for stage in document["stages"]] == ["original", "fp16"]
    assert document["parts"][0]["part"] == "precision"
    again = run(*command, "-q")
    assert again.exit_code == 2 and "exists" in said(again)[0]


def test_prune_goes_on_to_finish(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    fast = ["--criterion", "magnitude", "--no-refit", "--keep", "0.8"]
    calib = digits / "calib.npz"
    command = ["prune", digits / "model.onnx", "--calib", calib, *fast, "-o", out]
    found = run(*command, "--finish", "int8-static", "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    stages = document["finish"]["stages"]
    assert [stage["name"] for stage in stages] == ["original", "pruned", "int8-static"]
    assert out.stat().st_size == stages[-1]["bytes"] < stages[1]["bytes"]
    told = read(tmp_path / "small.report.json").stages
    assert [(stage.name, stage.bytes) for stage in told] == [
        (s["name"], s["bytes"]) for s in stages
    ]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("int8-static", "needs data"),
        ("int8-dynamic,int8-dynamic", "twice"),
        ("fp16,ort-fused", "cannot come after"),
        ("quantum", "not a step"),
        (",", "no step"),
    ],
)
def test_steps_that_cannot_be(digits: Path, tmp_path: Path, steps: str, words: str) -> None:
    out = tmp_path / "out.onnx"
    found = run("finish", digits / "model.onnx", "--steps", steps, "-o", out, "-q")
    assert found.exit_code == 2 and words in said(found)[0]
    also = run("prune", digits / "model.onnx", "--keep", "0.5", "--finish", steps, "-o", out, "-q")
    assert also.exit_code == 2 and words in said(also)[0]
    assert not out.exists()


def test_finish_and_dry_run_exclude_each_other(digits: Path) -> None:
    model = digits / "model.onnx"
    found = run("prune", model, "--keep", "0.5", "--finish", "fp16", "--dry-run", "-q")
    assert found.exit_code == 2 and "exclude each other" in said(found)[0]


def test_max_drop_needs_data(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    found = run(
        "finish", digits / "model.onnx", "--steps", "fp16", "--max-drop", "1", "-o", out, "-q"
    )
    assert found.exit_code == 2 and "held-out" in said(found)[0]
