"""What disturbs a measurement, and the advice against it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipack.runtime import quiet
from mipack.runtime.quiet import Disturbance, Watch, advice


def test_a_quiet_machine_gives_no_warning() -> None:
    assert Disturbance(0.01, 0.0).warnings() == ()
    assert Disturbance(None, None).warnings() == ()


def test_others_and_the_host_are_told_apart_each_with_what_to_do() -> None:
    others, host = Disturbance(0.5, 0.1).warnings()
    assert "50%" in others and "stop them" in others
    assert "10%" in host and "repeat later" in host


def test_a_watch_reads_shares() -> None:
    watch = Watch()
    sum(i * i for i in range(300_000))
    found = watch.disturbance()
    assert found.others is None or 0 <= found.others <= 1
    assert found.stolen is None or 0 <= found.stolen <= 1


def test_own_work_is_not_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((quiet._Ticks(100, 50, 0, 10), quiet._Ticks(110, 56, 1, 15)))
    monkeypatch.setattr(quiet, "_ticks", lambda: next(ticks))
    found = Watch().disturbance()
    assert found.others == pytest.approx(0.1) and found.stolen == pytest.approx(0.1)


def test_advice_before_a_race(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "cpu0" / "cpufreq"
    place.mkdir(parents=True)
    (place / "scaling_governor").write_text("powersave\n")
    monkeypatch.setattr(quiet, "CPU_FOLDER", tmp_path)
    monkeypatch.setattr(quiet, "QUOTA", tmp_path / "cpu.max")
    clocks, crowd = advice([1, 8], 2)
    assert "powersave" in clocks and "performance" in clocks
    assert "8 threads on 2 cores" in crowd and "--threads 2" in crowd
    (place / "scaling_governor").write_text("performance\n")
    assert advice([2], 2) == ()


def test_a_container_may_have_less_than_its_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(quiet, "QUOTA", tmp_path / "cpu.max")
    assert quiet.cpu_limit() == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert quiet.cpu_limit() is None
