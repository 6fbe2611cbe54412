"""report.json and report.html on disk: what is written is read again, all else is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reportkit import HOSTILE, bare, full

from mipack.errors import InputError
from mipack.report import files
from mipack.report.files import dumps, read, write
from mipack.report.record import FORMAT


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write(full(), tmp_path / "x.onnx")[1]


def changed(path: Path, **values: Any) -> Path:
    data = json.loads(path.read_text())
    data.update(values)
    path.write_text(json.dumps(data))
    return path


def test_both_files_lie_beside_the_model(tmp_path: Path) -> None:
    assert write(full(), tmp_path / "x.onnx") == (
        tmp_path / "x.report.html",
        tmp_path / "x.report.json",
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.report.html", "x.report.json"]


@pytest.mark.parametrize("report", [full(), bare(), *(full(t) for t in HOSTILE[:-1])])
def test_what_is_written_is_read_again(report: Any, tmp_path: Path) -> None:
    assert read(write(report, tmp_path / "x.onnx")[1]) == report


def test_names_that_are_no_text_can_still_be_read(tmp_path: Path) -> None:
    assert read(write(full(HOSTILE[-1]), tmp_path / "x.onnx")[1]).name == "? alone"


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    report = full(environment={"load": float("nan"), "most": float("inf")})
    assert json.loads(dumps(report))["environment"] == {"load": None, "most": None}


def test_existing_files_stay_whole(written: Path, tmp_path: Path) -> None:
    before = written.read_bytes()
    with pytest.raises(InputError, match="exists"):
        write(bare(), tmp_path / "x.onnx")
    assert written.read_bytes() == before
    write(bare(), tmp_path / "x.onnx", force=True)
    assert read(written) == bare()


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise RuntimeError("no page")

    monkeypatch.setattr(files, "render", fail)
    with pytest.raises(RuntimeError):
        write(full(), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        write(full(), tmp_path / "no" / "x.onnx")


def test_another_version_is_named(written: Path) -> None:
    changed(written, format="mipack-report/2")
    with pytest.raises(InputError, match=r"version mipack-report/2.*reads mipack-report/1"):
        read(written)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": "mipack-plan/1"}', "[" * 5000, "\x00\xff"]
)
def test_what_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"r\.json"):
        read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the report"):
        read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("before", {"macs": "many", "params": 1, "bytes": 1}),
        ("verdict", {"answer": "perhaps", "headline": ""}),
        ("groups", [{"name": "a"}]),
        ("latency", {"timings": [], "contrasts": [{"ratio": 1}]}),
        ("quality", 3),
        ("timings", {"load": "long"}),
        ("command", None),
    ],
)
def test_damage_is_named_by_its_place(key: str, value: Any, written: Path) -> None:
    with pytest.raises(InputError, match=rf"damaged: {key}"):
        read(changed(written, **{key: value}))


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity"])
def test_numbers_that_are_none_are_damage(number: str, written: Path) -> None:
    written.write_text(written.read_text().replace("0.9", number, 1))
    with pytest.raises(InputError, match="damaged"):
        read(written)


def test_a_lost_part_is_damage(written: Path) -> None:
    data = json.loads(written.read_text())
    del data["checks"]
    written.write_text(json.dumps(data))
    with pytest.raises(InputError, match="damaged: checks"):
        read(written)


def test_fields_of_later_versions_of_the_same_schema_are_ignored(written: Path) -> None:
    assert read(changed(written, mood="good")) == full()


def test_the_format_is_in_the_file(written: Path) -> None:
    assert json.loads(written.read_text())["format"] == FORMAT
    assert replace(full(), name="y").format == FORMAT
