"""mipack sweep on the bundled example: points as prune makes them, and any kill survived."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mipack.cli.app import app

PROGRAM = [sys.executable, "-c", "from mipack.cli.app import main; main()"]
FAST = ("--criterion", "magnitude", "--allocate", "uniform", "--samples", "64", "--no-bench")
DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits"
MODEL, CALIB = DIGITS / "model.onnx", DIGITS / "calib.npz"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def sweep(folder: Path, *more: object, budget: tuple[str, str] = ("--keep", "0.3,0.6")) -> Result:
    return run("sweep", MODEL, "--calib", CALIB, *budget, "-o", folder, *FAST, *more)


def contents(folder: Path) -> dict[str, bytes]:
    """The models and plans of a sweep; reports hold the time at which they were made."""
    files = [*folder.glob("*/*.onnx"), *folder.glob("*/*.plan.json")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    result = sweep(folder)
    assert result.exit_code == 0, result.output
    return folder


def test_a_point_is_what_prune_makes_at_its_budget(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    options = [option for option in FAST if option != "--no-bench"]
    result = run("prune", MODEL, "--calib", CALIB, "--keep", "0.3", "-o", out, *options)
    assert result.exit_code == 0, result.output
    assert (whole / "keep-0.3" / "keep-0.3.onnx").read_bytes() == out.read_bytes()
    plan = out.with_name("o.plan.json").read_bytes()
    assert (whole / "keep-0.3" / "keep-0.3.plan.json").read_bytes() == plan


def test_the_folder_is_described_and_compared(whole: Path) -> None:
    assert sorted(e.name for e in whole.iterdir() if not e.name.startswith(".")) == [
        "comparison.html", "keep-0.3", "keep-0.6", "moments.npz", "sweep.json",
    ]  # fmt: skip
    report = json.loads((whole / "keep-0.6" / "keep-0.6.report.json").read_text())
    paths = {file["role"]: file["path"] for file in report["files"]}
    assert paths["result"] == str(whole / "keep-0.6" / "keep-0.6.onnx")  # where it lies now
    assert report["command"].startswith("mipack sweep")


def test_finished_points_are_not_made_again_and_others_are_added(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*/*")}
    result = sweep(whole, "--json", budget=("--keep", "0.45,0.6"))
    assert result.exit_code == 0, result.output
    assert "point 1 of 2" not in result.stderr and "point 2 of 2: keep-0.45" in result.stderr
    assert "calibrate" not in result.stderr  # the moments were kept
    found = json.loads(result.stdout)
    assert [p["name"] for p in found["points"]] == ["keep-0.6", "keep-0.45", "keep-0.3"]
    assert all(p["macs"] < 1 for p in found["comparison"]["points"])
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_sweep_that_is_killed_goes_on(whole: Path, tmp_path: Path) -> None:
    folder, done = tmp_path / "s", set[Path]()
    for stage in ("calibrate: moments", "verify", "point 2"):
        killed_at(stage, folder)
        assert done <= set(folder.glob("keep*"))  # what was finished stays
        done = set(folder.glob("keep*"))
        for point in done:
            assert (point / "point.json").exists()
    assert {point.name for point in done} == {"keep-0.6"}
    made = (folder / "keep-0.6" / "point.json").stat().st_mtime_ns
    result = sweep(folder)
    assert result.exit_code == 0, result.output
    assert (folder / "keep-0.6" / "point.json").stat().st_mtime_ns == made
    there = contents(whole)
    assert contents(folder) == {name: there[name] for name in contents(folder)}
    assert not list(folder.glob(".mipack-*")) and not list(folder.glob(".partial/*"))


def killed_at(stage: str, folder: Path) -> None:
    """SIGKILL as soon as a line on stderr starts with `stage`."""
    arguments = ["sweep", MODEL, "--calib", CALIB, "--keep", "0.3,0.6", "-o", folder, *FAST]
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(stage):
            process.kill()
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def said(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in result.output
    assert all(word in result.stderr for word in words), result.stderr


def test_another_sweep_is_refused(whole: Path, tmp_path: Path) -> None:
    before = contents(whole)
    said(sweep(whole, "--criterion", "wanda"), "other settings", "criterion")
    other = tmp_path / "calib.npz"
    np.savez(other, image=np.load(CALIB)["image"][::-1])
    said(
        run("sweep", MODEL, "--calib", other, "--keep", "0.3", "-o", whole, *FAST),
        "other calibration data",
    )
    assert contents(whole) == before


def test_bad_input_is_said_before_any_work(tmp_path: Path) -> None:
    for arguments, words in [
        (["--keep", "0.8..0.2"], "the range is empty"),
        (["--keep", "x"], "neither a range nor a list"),
        (["--keep", "0.2", "--macs", "0.2"], "one kind"),
        ([], "one kind"),
    ]:
        result = run("sweep", "no.onnx", "--calib", "no", "-o", tmp_path / "s", *arguments)
        said(result, words)
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.txt").write_text("mine")
    said(sweep(tmp_path), "not a sweep's folder")


def test_damage_is_said(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "sweep.json").write_bytes((whole / "sweep.json").read_bytes())
    (folder / "moments.npz").write_bytes((whole / "moments.npz").read_bytes()[:1000])
    said(sweep(folder), "moments.npz is not a readable moments file")
    (folder / "keep-0.6").mkdir()
    said(sweep(folder), "keep-0.6", "is damaged")
    (folder / "sweep.json").write_text("{")
    said(sweep(folder), "sweep.json is damaged")


def test_a_budget_out_of_reach_is_a_result(tmp_path: Path) -> None:
    """The others are made; asked again, it is not tried again."""
    only = ("--only", "/hidden2:out")
    result = sweep(tmp_path / "s", *only, budget=("--macs", "0.9999,0.01"))
    assert result.exit_code == 0, result.output
    assert "macs-0.01: no model" in result.stdout
    result = sweep(tmp_path / "t", *only, budget=("--macs", "0.01"))
    assert result.exit_code == 1 and "no budget gives a model" in result.stderr
