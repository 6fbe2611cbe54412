"""The report on the command line: what prune leaves, several runs compared, inspect as a page."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mipack.cli.app import app
from mipack.errors import InputError
from mipack.front import reports
from mipack.report.files import read
from mipack.report.record import Report

FAST = ["--criterion", "magnitude", "--allocate", "uniform", "--no-refit", "--samples", "128", "-q"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def prune(folder: Path, out: Path, *more: object) -> Result:
    model, calib = folder / "model.onnx", folder / "calib.npz"
    return run("prune", model, "--calib", calib, "-o", out, *FAST, *more)


@pytest.fixture(scope="module")
def labelled(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with labelled data."""
    folder = tmp_path_factory.mktemp("labelled")
    shutil.copy(digits / "model.onnx", folder)
    labels = np.load(digits / "labels.npy")
    with np.load(digits / "test.npz") as data:
        np.savez(folder / "calib.npz", image=data["image"], answer=labels)
    return folder


def briefly(race: Callable[..., Any]) -> Callable[..., Any]:
    """The same in a fraction of the time: what it finds is no figure here."""
    return lambda *models, **options: race(*models, **{**options, "seconds": 0.2})


@pytest.fixture(scope="module")
def deep(labelled: Path) -> Path:
    """A report of a cut so deep that answers change, timed on two shapes."""
    out = labelled / "deep.onnx"
    names = ["--label-column", "answer"]
    timed = ["--bench", "--shape", "batch=2", "--shape", "batch=1"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("bench", "operators"):
            patch.setattr(reports, name, briefly(getattr(reports, name)))
        done = prune(labelled, out, "--keep", "0.15", *names, *timed)
    assert done.exit_code == 0, done.output
    return labelled / "deep.report.json"


@pytest.fixture(scope="module")
def report(deep: Path) -> Report:
    return read(deep)


def test_the_report_names_files_by_their_digests(report: Report, deep: Path) -> None:
    for role, name in (("original", "model.onnx"), ("result", "deep.onnx")):
        file = report.file(role)
        assert file is not None and Path(file.path) == deep.with_name(name)
        assert file.sha256 == hashlib.sha256(Path(file.path).read_bytes()).hexdigest()
    assert report.command.startswith("mipack prune") and "--keep 0.15" in report.command
    assert report.settings["budget"] == {"keep": 0.15}


def test_the_report_tells_which_rows_changed(report: Report, labelled: Path) -> None:
    assert report.quality is not None and report.quality.changes is not None
    changes, score = report.quality.changes, report.quality.score
    with np.load(labelled / "calib.npz") as data:
        labels = data["answer"]
    assert changes.count > 0 and score is not None and score.interval is not None
    assert [c.label for c in changes.listed] == [labels[c.index] for c in changes.listed]
    assert changes.count == report.quality.fidelity[0].flips
    assert report.verdict.answer == "look"


def test_the_report_times_every_shape(report: Report) -> None:
    assert report.latency is not None and report.operators is not None
    assert [entry.shape for entry in report.latency.contrasts] == ["batch=2", "batch=1"]
    assert {entry.name for entry in report.latency.timings} == {"original", "pruned"}
    assert any(row.op == "Conv" and row.after_ms > 0 for row in report.operators.ops)


def test_the_report_shows_every_group_that_may_go(report: Report, labelled: Path) -> None:
    found = json.loads(run("inspect", labelled / "model.onnx", "--json").stdout)
    free = [row["name"] for row in found["groups"] if row["state"] != "frozen"]
    assert [group.name for group in report.groups] == free
    assert all(group.kept < group.size for group in report.groups[:3])


@pytest.mark.parametrize("other", ["--dry-run", "--plan-only"])
def test_what_is_not_written_is_not_timed(other: str, digits: Path, tmp_path: Path) -> None:
    done = prune(digits, tmp_path / "o.onnx", "--keep", "0.5", "--bench", other)
    assert done.exit_code == 2 and "--bench" in done.output


def test_a_shape_that_the_model_has_not_stops_before_any_work(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mipack.rounds.prune", None)
    done = prune(digits, tmp_path / "o.onnx", "--keep", "0.5", "--bench", "--shape", "rows=4")
    assert done.exit_code == 2 and "rows" in done.output


def test_a_race_that_fails_leaves_no_file(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise InputError("out of luck")

    monkeypatch.setattr(reports, "bench", fail)
    done = prune(digits, tmp_path / "o.onnx", "--keep", "0.5", "--bench")
    assert done.exit_code == 2 and "out of luck" in done.output
    assert not list(tmp_path.iterdir())


def test_force_replaces_every_file(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    for path in (out, tmp_path / "o.report.html", tmp_path / "o.onnx.data"):
        path.write_bytes(b"old")
    assert prune(digits, out, "--keep", "0.5", "--force").exit_code == 0
    assert not (tmp_path / "o.onnx.data").exists()
    assert b"old" not in {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 4


# ---------------------------------------------------------------- comparing


def test_runs_are_compared_in_a_table_a_page_and_a_document(
    deep: Path, labelled: Path, tmp_path: Path
) -> None:
    out = labelled / "shallow.onnx"
    if not out.exists():
        assert prune(labelled, out, "--keep", "0.8", "--label-column", "answer").exit_code == 0
    other, page = labelled / "shallow.report.json", tmp_path / "all.html"
    done = run("report", deep, other, "-o", page)
    assert done.exit_code == 0, done.output
    assert "shallow" in done.stdout and "Pareto front" in done.stdout
    assert "accuracy" in page.read_text(encoding="utf-8")
    assert run("report", deep, other, "-o", page).exit_code == 2  # it exists
    found = json.loads(run("report", deep, other, "--json").stdout)
    assert [point["name"] for point in found["points"]] == ["deep", "shallow"]
    assert all(point["front"] for point in found["points"]) and found["files"] == []


def test_comparing_refuses_what_is_no_report(deep: Path, tmp_path: Path) -> None:
    plan = deep.with_name("deep.plan.json")
    done = run("report", deep, plan)
    assert done.exit_code == 2 and "not a report" in done.output
    data = json.loads(deep.read_text())
    later = tmp_path / "later.report.json"
    later.write_text(json.dumps({**data, "format": "mipack-report/9"}))
    assert "mipack-report/9" in run("report", later).output


# ---------------------------------------------------------------- inspect


def test_inspect_writes_a_page(digits: Path, tmp_path: Path) -> None:
    page = tmp_path / "i.html"
    assert run("inspect", digits / "model.onnx", "--html", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "/stem:out" in text and "spatial axis" in text and "stem.weight" in text
    done = run("inspect", digits / "model.onnx", "--html", page)
    assert done.exit_code == 2 and "exists" in done.output
    assert run("inspect", digits / "model.onnx", "--html", page, "--force").exit_code == 0


def test_inspect_names_a_folder_that_is_not_there(digits: Path, tmp_path: Path) -> None:
    done = run("inspect", digits / "model.onnx", "--html", tmp_path / "no" / "i.html")
    assert done.exit_code == 2 and "does not exist" in done.output
