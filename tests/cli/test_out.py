"""The sink: results on stdout, the rest on stderr, one document with --json."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from mipack.cli._out import Sink, write


class Told:
    """A record of fixed content."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def to_json(self) -> Mapping[str, Any]:
        return self._content


def sink(*, json: bool = False, quiet: bool = False, verbose: bool = False) -> Sink:
    return Sink("inspect", json=json, quiet=quiet, verbose=verbose)


def test_results_go_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with sink() as out:
        out.stage("calibrate", 512)
        out.advance(3)
        out.note("a note")
        out.detail("a detail")
        out.warn("a warning")
        out.result(Told({}), lambda: ["the result"])
    stdout, stderr = capsys.readouterr()
    assert stdout == "the result\n"
    assert stderr.splitlines() == ["calibrate (512)", "a note", "warning: a warning"]


def test_quiet_keeps_warnings_and_verbose_adds_details(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = sink(quiet=True)
    quiet.stage("calibrate", None)
    quiet.note("a note")
    quiet.warn("a warning")
    assert capsys.readouterr().err == "warning: a warning\n"
    sink(verbose=True).detail("a detail")
    assert capsys.readouterr().err == "a detail\n"


def test_a_warning_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    out = sink(json=True)
    out.warn("too noisy")
    out.warn("too noisy")
    out.result(Told({"warnings": ["too noisy", "another"]}), list)
    stdout, stderr = capsys.readouterr()
    assert stderr == "warning: too noisy\n"
    assert json.loads(stdout)["warnings"] == ["too noisy", "another"]


def test_the_document_is_strict_json(capsys: pytest.CaptureFixture[str]) -> None:
    content = {
        "nan": float("nan"),
        "infinity": np.float32("inf"),
        "array": np.arange(3),
        "nested": ({"deep": np.int64(7)}, None, True),
    }
    sink(json=True).result(Told(content), list)
    text = capsys.readouterr().out
    found = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert found["nan"] is None and found["infinity"] is None
    assert found["array"] == [0, 1, 2] and found["nested"] == [{"deep": 7}, None, True]


def test_a_stream_that_cannot_spell_a_name_gets_an_escape() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write(stream, "Gewicht_ä\n")
    assert raw.getvalue() == b"Gewicht_\\xe4\n"
