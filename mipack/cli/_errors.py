"""The one map from exceptions to lines and exit codes.

0    done
1    the answer is no: the result did not pass its proof
2    bad usage or bad input: one line, and a hint what to do
3    our fault: the line says where the traceback lies
130  interrupted
"""

from __future__ import annotations

import errno
import platform
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import typer

from mipack import __version__
from mipack.cli._out import write, write_json
from mipack.errors import MipackError

INTERRUPTED = 130
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Report:
    """What the user learns of a failure."""

    kind: str
    message: str
    code: int
    hint: str = ""
    node: str = ""
    op: str = ""

    def to_json(self) -> dict[str, object]:
        """The document that --json prints instead of a result."""
        return {
            "error": {
                "kind": self.kind,
                "message": self.message,
                "hint": self.hint,
                "node": self.node,
                "op": self.op,
                "exit_code": self.code,
            }
        }


def guarded(command: Callable[[], object], arguments: Sequence[str]) -> int:
    """Run a command; whatever it raises becomes a line on stderr and this exit code."""
    report = None
    with _interrupts() as interrupted:
        try:
            code = command()
            if not interrupted():
                return code if isinstance(code, int) else 0
        except KeyboardInterrupt:
            pass
        except Exception as error:
            # An interrupt inside a library may surface as that library's own exception.
            report = None if interrupted() else _explain(error, arguments)
    report = report or Report("Interrupted", "interrupted", INTERRUPTED)
    _show(report, as_json="--json" in arguments)
    return report.code


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C as KeyboardInterrupt, remembered: yields a function that says whether one came."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread, where Ctrl-C does not arrive
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


def _explain(error: Exception, arguments: Sequence[str]) -> Report:
    kind = type(error).__name__
    if isinstance(error, MipackError):
        hint = error.hint if error.exit_code != 3 else _logged(error, arguments, error.hint)
        return Report(kind, str(error), error.exit_code, hint, error.node, error.op)
    if isinstance(error, typer.TyperException):
        return Report("UsageError", error.format_message(), 2, _usage_hint(error))
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
        return Report(kind, "not enough memory", 2, "try a smaller --batch-size or --samples")
    if isinstance(error, OSError) and error.errno in FULL:
        return Report(kind, f"the disk is full{_place(error)}", 2, "free some space")
    if isinstance(error, OSError) and error.filename is not None:
        reason = error.strerror or kind
        return Report(kind, f"{reason}{_place(error)}", 2, "check the path and its permissions")
    message = f"unexpected {kind}: {error}" if str(error) else f"unexpected {kind}"
    return Report(kind, message, 3, _logged(error, arguments))


def _place(error: OSError) -> str:
    return f": {error.filename}" if error.filename is not None else ""


def _usage_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"see {context.command_path if context is not None else 'mipack'} --help"


def _logged(error: Exception, arguments: Sequence[str], hint: str = "") -> str:
    """Write the traceback to a file; the hint that says where."""
    head = (
        f"mipack {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"{shlex.join(['mipack', *arguments])}\n\n"
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="mipack-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            file.write(head + "".join(traceback.format_exception(error)))
    except OSError:
        return hint or "this is a defect of mipack; its traceback could not be written"
    place = f"please report this with the traceback in {file.name}"
    return f"{hint}; {place}" if hint else place


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        write_json(report.to_json())
        return
    from mipack.show.blocks import clean

    lines = [f"error: {_one_line(report.message)}"]
    if report.hint:
        lines.append(f"  hint: {_one_line(report.hint)}")
    write(sys.stderr, clean("\n".join(lines)) + "\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())
