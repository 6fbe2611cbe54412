"""mipack slim, and the options of prune that go with it, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from toys import Net
from typer.testing import CliRunner, Result

from mipack.cli.app import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A layer of which one position is read."""
    net = Net(1)
    h = net.relu(net.dense(net.input("x", ("batch", "length", 8)), 8, 24, name="up"))
    first = net.node("Gather", h, net.weight("zero", np.array(0)), axis=1)
    onnx.save(net.proto({net.dense(first, 24, 5, name="head"): ("batch", 5)}), tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "m.onnx"


def test_slim_writes_a_model_that_says_the_same(model: Path) -> None:
    found = run("slim", model)
    assert found.exit_code == 0, found.output
    assert "MACs per sample" in found.output and "wrote m.slim.onnx" in found.output
    assert Path("m.slim.onnx").exists()
    again = run("slim", model)
    assert again.exit_code == 2 and "exists" in again.output


def test_slim_as_a_document(model: Path) -> None:
    found = run("slim", model, "-o", "out.onnx", "--json", "--shape", "length=10")
    document = json.loads(found.stdout)
    assert document["command"] == "slim" and document["files"] == ["out.onnx"]
    assert document["nodes"] == 1
    assert document["before"]["macs"] == 10 * 8 * 24 + 24 * 5
    assert document["after"]["macs"] == 8 * 24 + 24 * 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["none.onnx"], "not a file"), (["m.onnx", "-o", "m.onnx"], "the input itself")],
)
def test_slim_of_what_cannot_be(model: Path, arguments: list[str], words: str) -> None:
    found = run("slim", *arguments)
    assert found.exit_code == 2 and words in found.output


def test_inspect_says_what_nobody_reads(model: Path) -> None:
    assert "nobody reads" in run("inspect", model).output
    assert json.loads(run("inspect", model, "--json").stdout)["unread"] > 0


def test_prune_shows_it_apart_and_leaves_it_on_request(model: Path) -> None:
    np.savez("calib.npz", x=np.random.default_rng(0).normal(size=(32, 6, 8)).astype(np.float32))
    fast = ["--criterion", "magnitude", "--no-refit", "--keep", "0.5", "--calib", "calib.npz"]
    shown = run("prune", model, *fast, "-o", "a.onnx").output
    assert "without what nobody reads" in shown
    assert "without what nobody reads" not in run("prune", model, *fast, "--keep-unread").output
    both = run("prune", model, *fast, "--keep-unread", "--count-unread", "-o", "b.onnx")
    assert both.exit_code == 2 and "exclude" in both.output
