"""What the machine says about itself, and that asking leaves no noise behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from mipack.runtime import machine
from mipack.runtime.session import Session


def test_environment_is_plain_and_tells_the_working_providers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    facts = json.loads(json.dumps(machine.environment(), allow_nan=False))
    assert "CPUExecutionProvider" in facts["providers_working"]
    assert set(facts["providers_working"]) <= set(facts["providers_listed"])
    assert facts["packages"]["onnx"] == onnx.__version__
    assert 1 <= facts["cores"] <= facts["logical_cores"]
    assert capfd.readouterr() == ("", "")


def test_working_cuda_is_what_a_session_gets() -> None:
    working = machine.environment()["providers_working"]
    got = Session(machine.TINY_MODEL, provider="cuda").providers
    assert isinstance(working, list)
    assert ("CUDAExecutionProvider" in working) == ("CUDAExecutionProvider" in got)


def test_environment_without_probe_names_no_provider() -> None:
    assert "providers_working" not in machine.environment(probe=False)


def test_unknown_provider_does_not_work() -> None:
    done = machine.run_child("mipack.runtime.machine", "NoSuchExecutionProvider")
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("installed", "warned"),
    [({"onnxruntime"}, False), ({"onnxruntime", "onnxruntime-gpu"}, True), (set(), False)],
)
def test_doubled_runtime(
    installed: set[str], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_version", lambda name: "1.0" if name in installed else None)
    line = machine.doubled_runtime()
    assert (line is not None) == warned
    assert line is None or ("pip uninstall" in line and "\n" not in line)


def test_tiny_model_is_valid_and_runs() -> None:
    onnx.checker.check_model(onnx.load_from_string(machine.TINY_MODEL))
    result = Session(machine.TINY_MODEL).run({"x": np.full(1, 3, np.float32)})
    assert result["y"].tolist() == [3.0]


def test_peak_memory_sees_a_large_array_and_forgets_it_after_a_reset() -> None:
    megabyte = 1 << 20
    machine.reset_peak_memory()
    before = machine.peak_memory()
    if before is None:
        pytest.skip("this system does not tell the peak memory of a process")
    array = np.ones(100 * megabyte, np.uint8)
    peak = machine.peak_memory()
    assert peak is not None and peak >= before + 90 * megabyte and array[0] == 1
    del array
    if not machine.reset_peak_memory():
        pytest.skip("this system cannot reset the peak memory of a process")
    after = machine.peak_memory()
    assert after is not None and after < peak - 50 * megabyte


def test_child_ignores_modules_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert machine.run_child("mipack.runtime.machine", "CPUExecutionProvider").returncode == 0


def test_child_that_hangs_is_ended() -> None:
    assert (
        machine.run_child("timeit", "-n1", "-r1", "while True: pass", seconds=1.0).returncode == 124
    )
