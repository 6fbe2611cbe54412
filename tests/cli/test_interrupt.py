"""Ctrl-C while a command works: exit 130, one line, no partial file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

PRUNE = [sys.executable, "-c", "from mipack.cli.app import main; main()", "prune"]


def interrupted_at(stage: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Send SIGINT as soon as a line on stderr starts with `stage`."""
    process = subprocess.Popen(
        [*PRUNE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(stage):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize(
    ("stage", "extra"),
    [("load", ["--json"]), ("calibrate", []), ("cut and prove", []), ("bench", ["--bench"])],
)
def test_an_interrupt_leaves_no_file(
    stage: str, extra: list[str], digits: Path, tmp_path: Path
) -> None:
    data = ["--calib", str(digits / "calib.npz"), "--samples", "64"]
    fast = ["--keep", "0.5", "--criterion", "magnitude", "-o", str(tmp_path / "o.onnx")]
    done = interrupted_at(stage, [str(digits / "model.onnx"), *data, *fast, *extra])
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
    if "--json" in extra:
        assert json.loads(done.stdout)["error"]["exit_code"] == 130
    else:
        assert done.stderr.splitlines()[-1] == "error: interrupted"
