"""The options of mipack bench that make several races of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mistakes import run, said

SHORT = ["--rounds", "6", "--seconds", "0.2", "--shape", "batch=2"]


def test_loads_and_threads_have_tables_of_their_own(digits: Path) -> None:
    model = digits / "model.onnx"
    found = run("bench", model, model, "--threads", "1,2", "--concurrency", "1,2", *SHORT)
    assert found.exit_code == 0, found.output
    assert "batch=2, 1 thread, CPUExecutionProvider" in found.stdout
    assert "batch=2, 2 threads, CPUExecutionProvider" in found.stdout
    assert "requests/s" in found.stdout


def test_a_named_provider_that_runs(digits: Path) -> None:
    found = run("bench", digits / "model.onnx", "--provider", "cpu", "--json", *SHORT)
    document = json.loads(found.stdout)
    assert {t["provider"] for t in document["timings"]} == {"CPUExecutionProvider"}
    assert document["throughput"] == []


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--threads", "1,x", "whole numbers"),
        ("--threads", "0", "whole numbers"),
        ("--concurrency", "", "whole numbers"),
        ("--concurrency", "0,1", "whole numbers"),
        ("--provider", "nonsense", "no such provider"),
        ("--provider", "", "no such provider"),
    ],
)
def test_values_that_mean_nothing(digits: Path, option: str, value: str, words: str) -> None:
    found = run("bench", digits / "model.onnx", option, value, *SHORT, "-q")
    assert found.exit_code == 2
    assert words in said(found)[0]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_cannot_run_alone_is_refused(digits: Path, provider: str) -> None:
    """Where the machine has no GPU; the runtime would take the CPU instead."""
    found = run("bench", digits / "model.onnx", "--provider", provider, *SHORT, "--json")
    if found.exit_code == 0:
        pytest.skip(f"{provider} works here")
    assert found.exit_code == 2
    assert "provider" in json.loads(found.stdout)["error"]["message"].lower()
