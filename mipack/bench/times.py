"""Times of single ops on this machine: measured when first asked for, kept in the user's cache.

The file holds them by machine, runtime, threads and provider, and by everything about the op that
its time depends on. It may be deleted at any time; one that cannot be read or written is done
without.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from mipack.bench.alone import NODE, Solo
from mipack.bench.profile import op_seconds
from mipack.errors import InputError
from mipack.graph.load import write_text
from mipack.runtime.machine import runtime_label

FILE = "op-times.json"
SECONDS = 0.03
"""How long an op is run, after the fewest runs that make a time."""


class Times:
    """Seconds by op; `threads` and `provider` as everything that is timed will have them."""

    def __init__(self, folder: Path | None, *, threads: int, provider: str) -> None:
        self._path = None if folder is None else folder / FILE
        self._threads, self._provider = threads, provider
        self._label = f"{runtime_label()}, {threads} threads, {provider}"
        self._known: dict[str, float] = self._read().get(self._label, {})
        self.measured = 0

    def of(self, solo: Solo) -> float:
        """Seconds of one op. Raises what the session raises for an op that cannot be run alone."""
        if solo.key not in self._known:
            self._known[solo.key] = op_seconds(
                solo.model,
                solo.feeds,
                NODE,
                threads=self._threads,
                provider=self._provider,
                seconds=SECONDS,
            )
            self.measured += 1
        return self._known[solo.key]

    def save(self) -> None:
        """Keep what was measured, beside what others may have kept meanwhile."""
        if self._path is None or not self.measured:
            return
        found = self._read()
        found[self._label] = {**found.get(self._label, {}), **self._known}
        with suppress(OSError, InputError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, json.dumps(found, indent=0, sort_keys=True))

    def _read(self) -> dict[str, dict[str, float]]:
        if self._path is None:
            return {}
        with suppress(OSError, ValueError):
            found = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(found, dict) and all(map(_is_table, found.values())):
                return found
        return {}


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(type(v) is float and v > 0 for v in value.values())
