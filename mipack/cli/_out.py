"""The one sink: results to stdout; progress, notes and warnings to stderr.

With --json stdout holds one document and nothing else. A progress bar is drawn on a terminal only;
elsewhere every stage is one plain line.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from mipack import __version__

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from mipack.show.blocks import Block


class Record(Protocol):
    """What a command ends in."""

    def to_json(self) -> Mapping[str, Any]:
        """Plain values."""


class Sink:
    """Where a command puts what it has to say; it is also the `Progress` of the pipeline.

    Use it as a context: leaving it ends the progress bar, whatever happened.
    """

    def __init__(self, command: str, *, json: bool, quiet: bool, verbose: bool) -> None:
        self._command, self._json = command, json
        self._quiet, self._verbose = quiet, verbose
        self._warnings: list[str] = []
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    # -- results

    def result(self, record: Record, show: Callable[[], Sequence[Block]]) -> None:
        """The one result: a JSON document, or the blocks that `show` makes for people."""
        self._stop()
        if self._json:
            given = record.to_json()
            warnings = [*given.get("warnings", ()), *self._warnings]
            head = {"mipack": __version__, "command": self._command}
            unique = list(dict.fromkeys(map(str, warnings)))
            write_json({**head, **given, "warnings": unique})
            return
        from mipack.report.terminal import render

        styled = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if styled else None
        write(sys.stdout, render(show(), width=width, styled=styled))

    # -- on the way

    def note(self, text: str) -> None:
        """Something worth knowing; silent with --quiet."""
        if not self._quiet:
            self._say(text)

    def detail(self, text: str) -> None:
        """Something that only --verbose shows."""
        if self._verbose:
            self._say(text)

    def warn(self, text: str) -> None:
        """Something that the user must know; once, whoever says it again."""
        if text not in self._warnings:
            self._warnings.append(text)
            self._say(f"warning: {text}")

    def stage(self, name: str, total: int | None) -> None:
        """The pipeline enters a stage of `total` steps, if that is known."""
        if self._quiet:
            return
        if not sys.stderr.isatty():
            self._say(name if total is None else f"{name} ({total:,})")
            return
        bar = self._bar or self._start()
        if self._task is not None:
            bar.remove_task(self._task)
        self._task = bar.add_task(name, total=total)

    def advance(self, n: int = 1) -> None:
        """The stage came `n` steps further."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, n)

    def _start(self) -> Bar:
        from mipack.cli._progress import new_bar

        self._bar = new_bar()
        self._bar.start()
        return self._bar

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _say(self, text: str) -> None:
        """One line to stderr, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            write(sys.stderr, text + "\n")


def write(stream: TextIO, text: str) -> None:
    """Text to a stream that need not be able to spell all of it."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def write_json(document: Mapping[str, Any]) -> None:
    """One document to stdout; values without a JSON form (NaN, infinities) become null."""
    write(sys.stdout, json.dumps(_plain(document), indent=1) + "\n")


def _plain(value: Any) -> Any:
    """The value in types that JSON knows."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    with suppress(AttributeError):
        return _plain(value.tolist())  # arrays and scalars of numpy
    return str(value)
