"""The cache of times: measured once, kept between runs, never in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mipack.bench import times
from mipack.bench.alone import Solo
from mipack.bench.times import FILE, Times
from mipack.runtime.machine import cache_folder

SOLO = Solo("an op", b"", {})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every measurement takes a second longer; the list of all."""
    taken: list[float] = []

    def op_seconds(*_: object, **__: object) -> float:
        taken.append(1.0 + len(taken))
        return taken[-1]

    monkeypatch.setattr(times, "op_seconds", op_seconds)
    return taken


def table(folder: Path | None, threads: int = 2) -> Times:
    return Times(folder, threads=threads, provider="cpu")


def test_an_op_is_measured_once(clock: list[float], tmp_path: Path) -> None:
    first = table(tmp_path / "new")
    assert (first.of(SOLO), first.of(SOLO)) == (1.0, 1.0)
    first.save()
    assert table(tmp_path / "new").of(SOLO) == 1.0 and len(clock) == 1


def test_other_threads_have_other_times(clock: list[float], tmp_path: Path) -> None:
    for threads in (1, 2):
        own = table(tmp_path, threads)
        own.of(SOLO)
        own.save()
    assert len(clock) == 2
    assert [table(tmp_path, threads).of(SOLO) for threads in (1, 2)] == [1.0, 2.0]


def test_what_another_run_kept_meanwhile_stays(clock: list[float], tmp_path: Path) -> None:
    first, second = table(tmp_path), table(tmp_path)
    first.of(SOLO)
    second.of(Solo("another", b"", {}))
    first.save()
    second.save()
    (held,) = json.loads((tmp_path / FILE).read_text()).values()
    assert held == {"an op": 1.0, "another": 2.0}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"m": 1}', '{"m": {"an op": "x"}}', '{"m": {"an op": -1.0}}']
)
def test_a_damaged_file_is_as_good_as_none(text: str, clock: list[float], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    own = table(tmp_path)
    assert own.of(SOLO) == 1.0
    own.save()
    assert table(tmp_path).of(SOLO) == 1.0 and len(clock) == 1


def test_a_folder_that_cannot_be_written_is_done_without(
    clock: list[float], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", None):
        own = table(folder)
        assert own.of(SOLO) > 0
        own.save()


def test_the_cache_is_where_the_user_wants_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mipack"
