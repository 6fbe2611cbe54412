"""What a reader is told, and how it is entered in the table of `open.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mipack.data.dataset import ReadOptions, Source
from mipack.records import Signature


@dataclass(frozen=True, slots=True)
class Request:
    """Read `files` (sorted; all of the reader's suffixes; found under `root`, or `root` itself)
    for a model of this signature, whose folder is `beside`."""

    root: Path
    files: tuple[Path, ...]
    signature: Signature
    options: ReadOptions
    beside: Path | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """`open` turns a request into a source; `uses` names the options that mean something to it:
    any other reader's option is refused rather than ignored."""

    name: str
    suffixes: tuple[str, ...]
    open: Callable[[Request], Source]
    uses: tuple[str, ...] = ()
