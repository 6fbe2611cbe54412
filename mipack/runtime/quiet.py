"""Whether a machine is quiet enough to measure on, and what to do where it is not.

What disturbs is looked at while the measurement runs: time of the cores that went to other
processes or to other guests of the host. Only Linux tells; elsewhere nothing is said.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BUSY, STOLEN = 0.10, 0.02
"""Shares of the cores' time above which others, or the host, are said to disturb."""
CPU_FOLDER = Path("/sys/devices/system/cpu")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True)
class _Ticks:
    """Seconds of all cores since the system started, and of this process and its children."""

    whole: float
    busy: float
    stolen: float
    own: float


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Shares of all cores' time that others took while something was measured; None: unknown."""

    others: float | None
    stolen: float | None

    def to_json(self) -> dict[str, float | None]:
        """Plain values."""
        return {"others": self.others, "stolen": self.stolen}

    def warnings(self) -> tuple[str, ...]:
        """One line for each that is too much, with what to do."""
        lines = []
        if self.others is not None and self.others > BUSY:
            lines.append(
                f"other processes took {self.others:.0%} of the cores while this was measured: "
                "stop them (top shows which) and repeat"
            )
        if self.stolen is not None and self.stolen > STOLEN:
            lines.append(
                f"the host gave {self.stolen:.0%} of this machine's time to others: "
                "repeat later, or on a machine of its own"
            )
        return tuple(lines)


class Watch:
    """Started when it is made; `disturbance` tells what happened since."""

    def __init__(self) -> None:
        self._start = _ticks()

    def disturbance(self) -> Disturbance:
        """What others took since the start."""
        now, start = _ticks(), self._start
        if now is None or start is None or now.whole <= start.whole:
            return Disturbance(None, None)
        whole = now.whole - start.whole
        others = (now.busy - start.busy) - (now.own - start.own)
        return Disturbance(max(0.0, others / whole), (now.stolen - start.stolen) / whole)


def settings() -> dict[str, object]:
    """What decides the speed of the cores: governor, load and limit, None where unknown."""
    return {"governor": governor(), "load": _load(), "cpu_limit": cpu_limit()}


def advice(threads: Sequence[int], cores: int) -> tuple[str, ...]:
    """What is wrong before anything is measured: clocks that change, more threads than cores."""
    lines = []
    kind = governor()
    if kind is not None and kind not in ("performance", "userspace"):
        lines.append(
            f"the CPU governor is {kind}, so clocks change while this is measured: "
            "set performance (cpupower frequency-set -g performance)"
        )
    limit = cpu_limit()
    room = cores if limit is None else min(cores, limit)
    if max(threads) > room:
        lines.append(
            f"{max(threads)} threads on {room:g} cores wait for each other: "
            f"give --threads {max(1, int(room))} or fewer"
        )
    return tuple(lines)


def governor() -> str | None:
    """The frequency governor of the first core."""
    with suppress(OSError):
        return (CPU_FOLDER / "cpu0/cpufreq/scaling_governor").read_text().strip()
    return None


def cpu_limit() -> float | None:
    """Cores' worth of time that this container may use; None without a limit."""
    with suppress(OSError, ValueError):
        quota, period = QUOTA.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    return None


def _load() -> list[float] | None:
    """Processes that want to run, mean over 1, 5 and 15 minutes."""
    with suppress(OSError, AttributeError):
        return [round(value, 2) for value in os.getloadavg()]
    return None


def _ticks() -> _Ticks | None:
    """`/proc/stat`: user nice system idle iowait irq softirq steal (guest is part of user)."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        first = Path("/proc/stat").read_text().splitlines()[0].split()
        tick = os.sysconf("SC_CLK_TCK")
        user, nice, system, idle, wait, irq, soft, steal = (int(n) / tick for n in first[1:9])
        times = os.times()
        own = time.process_time() + times.children_user + times.children_system
        busy = user + nice + system + irq + soft
        return _Ticks(busy + idle + wait + steal, busy, steal, own)
    return None
