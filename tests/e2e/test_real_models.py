"""The main job on real files, through the command line: prune, then judge on other data.

The full figures (512 samples, all test data) are `benchmarks/main_job.py`; here fewer samples bound
the time, and the bounds on accuracy are loose accordingly.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

MIPACK = Path(sys.executable).parent / "mipack"
PIXELS = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")


def mipack(*arguments: object) -> dict[str, Any]:
    """The JSON document of a command that must succeed."""
    command = [str(MIPACK), *map(str, arguments), "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_text_classifier(shared: Path, tmp_path: Path) -> None:
    """Heads and FFN neurons go, the MACs land on the budget, the answers stay."""
    model, data = shared / "models/minilm-sst2/model.onnx", shared / "data/sst2"
    out = tmp_path / "small.onnx"
    found = mipack(
        "prune", model, "--calib", data / "train.tsv", "--text-column", "sentence",
        "--samples", 128, "--keep", 0.5, "-o", out,
    )  # fmt: skip
    kept = {g["name"]: g["kept"] / g["size"] for g in found["plan"]["groups"]}
    assert any(share < 1 for name, share in kept.items() if "query" in name)
    assert any(share < 1 for name, share in kept.items() if "intermediate" in name)
    assert found["after"]["macs"] <= 0.51 * found["before"]["macs"]
    assert all(check["passed"] for check in found["checks"])
    judged = mipack(
        "eval", model, out, "--data", data / "dev.tsv", "--text-column", "sentence",
        "--label-column", "label",
    )  # fmt: skip
    assert judged["samples"] == 872
    assert judged["score"]["difference"] > -4.0
    original = onnx.load(model, load_external_data=False)
    assert [i.name for i in onnx.load(out).graph.input] == [i.name for i in original.graph.input]


def test_image_classifier(shared: Path, tmp_path: Path) -> None:
    """Channels inside and across residual blocks; pictures straight from a zip."""
    model, data = shared / "models/resnet56-cifar10/model.onnx", shared / "data/cifar10"
    out = tmp_path / "small.onnx"
    found = mipack(
        "prune", model, "--calib", data / "train.zip", *PIXELS, "--samples", 96, "--macs", 0.8,
        "-o", out,
    )  # fmt: skip
    assert found["after"]["macs"] <= 0.8 * found["before"]["macs"]
    judged = mipack(
        "eval", model, out, "--data", data / "test.zip", *PIXELS,
        "--classes", data / "classes.txt", "--samples", 1000,
    )  # fmt: skip
    assert judged["score"]["difference"] > -4.0


@pytest.mark.heavy
@pytest.mark.parametrize("keep", [0.4])
def test_refit_and_information_beat_magnitude(shared: Path, tmp_path: Path, keep: float) -> None:
    """At one budget: the default against magnitude without refit."""
    model, data = shared / "models/minilm-sst2/model.onnx", shared / "data/sst2"
    accuracy = {}
    for name, options in {
        "mi": (),
        "magnitude": ("--criterion", "magnitude", "--no-refit"),
    }.items():
        out = tmp_path / f"{name}.onnx"
        mipack(
            "prune", model, "--calib", data / "train.tsv", "--text-column", "sentence",
            "--keep", keep, *options, "-o", out,
        )  # fmt: skip
        judged = mipack(
            "eval", model, out, "--data", data / "dev.tsv", "--text-column", "sentence",
            "--label-column", "label",
        )  # fmt: skip
        accuracy[name] = judged["score"]["second"]
    assert accuracy["mi"] > accuracy["magnitude"] + 0.05
