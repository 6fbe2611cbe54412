"""A sweep's folder: a point is complete or absent whenever the process dies."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mipack.errors import InputError, PlanMismatch
from mipack.explore import folder as folders
from mipack.explore.folder import SweepFolder, finish_point

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
COMMON = {"model": "m", "data": "d", "settings": {"criterion": "mi"}}


def fill(place: SweepFolder, before: Callable[[], None] = lambda: None) -> None:
    with place.held(), place.adding("keep-0.5") as staged:
        (staged / "keep-0.5.onnx").write_bytes(b"model")
        before()
        finish_point(staged, {"name": "keep-0.5"})


def killed(work: Callable[[], None]) -> None:
    """Run something in a process that is killed on the way."""
    child = os.fork()
    if not child:
        work()
        os._exit(7)  # not reached where the kill comes
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@posix
@pytest.mark.parametrize("moment", ["filling", "syncing", "renaming", "writing the manifest"])
def test_a_kill_leaves_no_point(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = SweepFolder(tmp_path / "s")
    with monkeypatch.context() as patch:
        if moment == "syncing":
            patch.setattr(folders, "_sync", die)
        if moment in ("renaming", "writing the manifest"):
            patch.setattr(os, "replace", die)
        if moment == "writing the manifest":
            place.path.mkdir()
            killed(lambda: place.agree(COMMON))
        else:
            killed(lambda: fill(place, die if moment == "filling" else lambda: None))
    again = SweepFolder(tmp_path / "s")
    assert again.point("keep-0.5") is None and not again.manifest.exists()
    fill(again)
    found = again.point("keep-0.5")
    assert found is not None and found["name"] == "keep-0.5"
    left = {entry.name for entry in again.path.iterdir()}
    assert left <= {".lock", ".partial", "keep-0.5"} and not list(
        (again.path / ".partial").iterdir()
    )


@posix
def test_a_kill_right_after_the_name_is_given_leaves_the_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = SweepFolder(tmp_path / "s")
    really = os.replace

    def replace(source: Path, target: Path) -> None:
        really(source, target)
        die()

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        killed(lambda: fill(place))
    assert place.point("keep-0.5") is not None


@posix
def test_one_run_at_a_time(tmp_path: Path) -> None:
    place = SweepFolder(tmp_path / "s")
    with place.held(), pytest.raises(InputError, match="another sweep is at work"):
        fill(SweepFolder(tmp_path / "s"))
    fill(place)


def test_an_error_leaves_no_point(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        fill(SweepFolder(tmp_path / "s"), fail)
    assert SweepFolder(tmp_path / "s").point("keep-0.5") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "other"}, "a sweep of another model"),
        ({"data": "other"}, "a sweep of other calibration data"),
        (
            {"settings": {"criterion": "wanda"}},
            'other settings: criterion was "mi", now it is "wanda"',
        ),
    ],
)
def test_another_sweep_is_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    place = SweepFolder(tmp_path / "s")
    with place.held():
        place.agree(COMMON)
        place.agree(dict(COMMON))
        with pytest.raises(PlanMismatch, match=says) as caught:
            place.agree({**COMMON, **change})
    assert "\n" not in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": "mipack-sweep/9"}', "[" * 9999]
)
def test_a_damaged_manifest_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(InputError, match=r"sweep.json is (damaged|not of format)"):
        SweepFolder(tmp_path).agree(COMMON)


def test_folders_that_are_no_sweeps_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not a sweep's folder: it holds thesis.txt"):
        SweepFolder(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        SweepFolder(tmp_path / "thesis.txt")
    with pytest.raises(InputError, match="does not exist"):
        SweepFolder(tmp_path / "no" / "where")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def spoil_model(place: Path) -> None:
    (place / "keep-0.5.onnx").write_bytes(b"other")


def lose_model(place: Path) -> None:
    (place / "keep-0.5.onnx").unlink()


def lose_record(place: Path) -> None:
    (place / "point.json").unlink()


def cut_record(place: Path) -> None:
    text = (place / "point.json").read_text()
    (place / "point.json").write_text(text[: len(text) // 2])


def lead_out(place: Path) -> None:
    said = json.loads((place / "point.json").read_text())
    said["sha256"] = {"../../sweep.json": "0"}
    (place / "point.json").write_text(json.dumps(said))


@pytest.mark.parametrize("spoil", [spoil_model, lose_model, lose_record, cut_record, lead_out])
def test_a_damaged_point_is_said(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    place = SweepFolder(tmp_path / "s")
    fill(place)
    spoil(place.path / "keep-0.5")
    with pytest.raises(InputError, match="is damaged") as caught:
        place.point("keep-0.5")
    assert f"delete the folder {place.path / 'keep-0.5'}" in caught.value.hint
