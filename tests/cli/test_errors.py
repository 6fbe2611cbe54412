"""Exceptions become lines and exit codes in one place."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mipack.cli._errors import guarded
from mipack.errors import InputError, RuntimeFailure, UnsupportedError, VerificationError


def raising(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("it is broken", hint="mend it"), 2, "error: it is broken"),
        (UnsupportedError("no kernel", node="n1", op="Foo"), 2, "node 'n1', op Foo"),
        (VerificationError("outputs differ"), 1, "error: outputs differ"),
        (MemoryError(), 2, "error: not enough memory"),
        (OSError(errno.ENOSPC, "No space left"), 2, "error: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 2, "Permission denied: /x/y"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ],
)
def test_every_family_has_its_code_and_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(raising(error), []) == code
    out, err = capsys.readouterr()
    assert out == "" and line in err.splitlines()[0]
    assert "Traceback" not in err and len(err.splitlines()) <= 2


def test_a_hint_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(raising(InputError("it is\nbroken", hint="mend it")), [])
    assert capsys.readouterr().err == "error: it is broken\n  hint: mend it\n"


@pytest.mark.parametrize("error", [ZeroDivisionError("one over 0"), RuntimeFailure("engine")])
def test_our_own_fault_leaves_a_log_and_says_where(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert guarded(raising(error), ["prune", "my model.onnx"]) == 3
    (log,) = tmp_path.iterdir()
    text = log.read_text()
    assert "Traceback" in text and str(error) in text and "mipack prune 'my model.onnx'" in text
    err = capsys.readouterr().err
    assert str(log) in err and "Traceback" not in err


def test_with_json_the_error_is_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(raising(InputError("it is broken", hint="mend it")), ["inspect", "m", "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["error"] == {
        "kind": "InputError",
        "message": "it is broken",
        "hint": "mend it",
        "node": "",
        "op": "",
        "exit_code": 2,
    }


def test_names_in_a_file_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(raising(InputError("no tensor '\x1b[31mred\x07'")), [])
    err = capsys.readouterr().err
    assert "\x1b" not in err and "\x07" not in err and "red" in err


def test_the_handler_for_ctrl_c_is_given_back() -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    guarded(lambda: None, [])
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_a_library_swallowed_still_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import signal

    def command() -> object:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("half a module") from error

    assert guarded(command, []) == 130
    assert capsys.readouterr().err == "error: interrupted\n"
