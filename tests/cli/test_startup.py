"""`mipack --help` loads nothing heavy: that, not a stopwatch, keeps it fast."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "onnx", "onnx_ir", "onnxruntime", "numpy", "rich", "tokenizers", "PIL", "sympy")
SCRIPT = """
import json, sys
sys.argv = ["mipack", *json.loads(sys.argv[1])]
from mipack.cli.app import main
try:
    main()
except SystemExit as done:
    sys.stderr.write(json.dumps([done.code, sorted(sys.modules)]))
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["prune", "--help"], ["prune", "m", "--keep", "7"]]
)
def test_help_and_usage_load_no_heavy_module(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == (2 if "7" in arguments else 0)
    assert not set(HEAVY).intersection(modules)
