"""Requests per second: several clients call one session of a model at the same time.

Every client asks again as soon as it has its answer. Models take turns in slices of time, in
reversed order every other round, so that all meet the same machine; the ratio of their requests per
second is taken within each round and has the interval of `stats`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

from mipack.bench import stats

SHORTEST_SLICE = 0.05
"""Seconds of a slice at least; every client makes one request at least."""
Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Throughput:
    """One model under one load: `concurrency` clients, `requests` answered in all slices.

    `per_second` is the median over slices; `p50_ms` and `p95_ms` are of single requests, waiting
    for others included. `ratio` is requests per second as a multiple of the base's (above 1 is
    more), None for the base itself.
    """

    name: str
    shape: str
    threads: int
    provider: str
    concurrency: int
    requests: int
    per_second: float
    p50_ms: float
    p95_ms: float
    ratio: stats.Ratio | None

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        ratio = self.ratio
        return {
            "name": self.name,
            "shape": self.shape,
            "threads": self.threads,
            "provider": self.provider,
            "concurrency": self.concurrency,
            "requests": self.requests,
            "per_second": self.per_second,
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
            "ratio": None if ratio is None else ratio.value,
            "interval": None if ratio is None else [ratio.low, ratio.high],
            "noisy": None if ratio is None else ratio.noisy,
        }


@dataclass(frozen=True, slots=True)
class Load:
    """What one model showed: requests per second in every slice, milliseconds of every request."""

    rates: tuple[float, ...]
    latencies_ms: tuple[float, ...]


def press(runs: Sequence[Run], clients: int, seconds: float) -> list[Load]:
    """All models in turn under `clients` callers, for about `seconds` together."""
    rounds = stats.FEWEST_ROUNDS
    slice_seconds = max(SHORTEST_SLICE, seconds / (rounds * len(runs)))
    rates: list[list[float]] = [[] for _ in runs]
    latencies: list[list[float]] = [[] for _ in runs]
    with ThreadPoolExecutor(clients) as pool:
        for number in range(rounds):
            order = range(len(runs))
            for index in order if number % 2 == 0 else reversed(order):
                taken, lasted = _slice(pool, runs[index], clients, slice_seconds)
                rates[index].append(len(taken) / lasted)
                latencies[index] += taken
    return [Load(tuple(r), tuple(t)) for r, t in zip(rates, latencies, strict=True)]


def throughputs(
    names: Sequence[str],
    loads: Sequence[Load],
    *,
    shape: str,
    threads: int,
    providers: Sequence[str],
    concurrency: int,
) -> list[Throughput]:
    """The records of one load, the first model being the base."""
    return [
        Throughput(
            name=name,
            shape=shape,
            threads=threads,
            provider=providers[at],
            concurrency=concurrency,
            requests=len(load.latencies_ms),
            per_second=stats.median(load.rates),
            p50_ms=stats.median(load.latencies_ms),
            p95_ms=stats.p95(load.latencies_ms),
            ratio=stats.ratio(loads[0].rates, load.rates) if at else None,
        )
        for at, (name, load) in enumerate(zip(names, loads, strict=True))
    ]


def _slice(
    pool: ThreadPoolExecutor, run: Run, clients: int, seconds: float
) -> tuple[list[float], float]:
    """Milliseconds of all requests, and the seconds until the last was answered."""
    together = Barrier(clients)

    def client() -> list[float]:
        together.wait()
        taken: list[float] = []
        start = time.perf_counter()
        while not taken or time.perf_counter() - start < seconds:
            before = time.perf_counter()
            run()
            taken.append((time.perf_counter() - before) * 1000)
        return taken

    begun = time.perf_counter()
    callers = [pool.submit(client) for _ in range(clients)]
    taken = [sample for caller in callers for sample in caller.result()]
    return taken, time.perf_counter() - begun
