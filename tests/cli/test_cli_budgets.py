"""Budgets on the command line, with the bundled example: exit codes, files, what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mipack.bench.stats import Ratio
from mipack.cli.app import app

Prune = Callable[..., Result]
FAST = ["--criterion", "magnitude", "--no-refit"]


@pytest.fixture
def prune(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prune:
    """Runs `mipack prune` on the example, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: str) -> Result:
        data = ["--calib", str(digits / "calib.npz"), "-o", str(tmp_path / "o.onnx")]
        command = ["prune", str(digits / "model.onnx"), *data, *arguments, "--json"]
        return CliRunner().invoke(app, command)

    return run


def test_bytes_of_the_file(prune: Prune, digits: Path, tmp_path: Path) -> None:
    result = prune("--size", "0.4", *FAST)
    assert result.exit_code == 0, result.output
    original, stored = (digits / "model.onnx").stat().st_size, (tmp_path / "o.onnx").stat().st_size
    assert 0.35 * original < stored <= 0.4 * original
    assert json.loads(result.stdout)["promises"]["size"] == {"bytes": stored, "original": original}


def test_several_budgets_all_hold(prune: Prune) -> None:
    result = prune("--macs", "0.5", "--params", "0.3", "--size", "0.35", *FAST)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["after"]["macs"] <= 0.5 * found["before"]["macs"]
    assert found["after"]["params"] <= 0.3 * found["before"]["params"] + 1
    assert found["plan"]["settings"]["budget"] == {"macs": 0.5, "params": 0.3, "size": 0.35}


def test_time_at_a_shape(prune: Prune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ops are really timed and the table is kept; the race is made up."""
    monkeypatch.setattr("mipack.timing.against", lambda *_, **__: Ratio(0.6, 0.59, 0.61, 0.01))
    result = prune("--latency", "0.6", "--shape", "batch=2", *FAST)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["promises"]["latency"] == {
        "ratio": 0.6,
        "interval": [0.59, 0.61],
        "shape": {"batch": 2},
    }
    assert found["after"]["macs"] < found["before"]["macs"]
    (times,) = json.loads((tmp_path / "cache/mipack/op-times.json").read_text()).values()
    assert times and all('"Conv"' in key or '"Gemm"' in key for key in times)


def test_a_cut_that_loses_too_much_is_exit_1_and_leaves_nothing(
    prune: Prune, tmp_path: Path
) -> None:
    result = prune("--macs", "0.05", "--max-drop", "2", *FAST)
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert "--max-drop 2" in error["message"] and "points of agreement" in error["message"]
    assert not list(tmp_path.glob("o.*"))
