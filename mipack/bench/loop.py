"""Race models on ONNX Runtime: alternately in one process, so that all meet the same machine.

Each round runs every model once, in reversed order every other round; threads are fixed and do
not spin while they wait. A model too fast for the clock runs several times per sample. Rounds go
on until the ratio is known well or the time is spent, but never fewer than give an interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from mipack.bench import stats
from mipack.bench.load import Throughput, press, throughputs
from mipack.bench.memory import footprint
from mipack.errors import InputError
from mipack.runtime.machine import physical_cores
from mipack.runtime.session import Feeds, Session

Clock = Callable[[], float]
Run = Callable[[], object]

SHORTEST_SAMPLE = 0.002
"""Seconds that one sample should last at least, far above what clock and scheduler blur."""
LOAD_SECONDS = 5.0
"""Of each load, where no time is given."""
MOST_REPEATS = 10_000
PRECISE = 0.01
"""Once every ratio is known to within this, more rounds tell nothing."""
MOST_DOUBLINGS = 4
"""However noisy, no more than 16 times the rounds asked for."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One model on one input shape. `samples_ms` are raw, one per round and per single run: each
    is the mean over `repeats` runs. `load_ms` (fastest of three) and `peak_memory_bytes` (what
    loading and running adds) come from a process that holds only the runtime; None where it failed.
    """

    name: str
    shape: str
    samples_ms: tuple[float, ...]
    repeats: int
    load_ms: float | None
    peak_memory_bytes: int | None
    threads: int
    provider: str

    @property
    def median_ms(self) -> float:
        """Milliseconds of a typical run."""
        return stats.median(self.samples_ms)

    @property
    def p95_ms(self) -> float:
        """Milliseconds that 95 % of the samples stay under."""
        return stats.p95(self.samples_ms)

    def to_json(self) -> dict[str, object]:
        """Everything above as plain values, raw samples included."""
        return {
            "name": self.name,
            "shape": self.shape,
            "median_ms": self.median_ms,
            "p95_ms": self.p95_ms,
            "load_ms": self.load_ms,
            "peak_memory_bytes": self.peak_memory_bytes,
            "threads": self.threads,
            "provider": self.provider,
            "repeats": self.repeats,
            "samples_ms": list(self.samples_ms),
        }


@dataclass(frozen=True, slots=True)
class Contrast:
    """One model against the base on one input shape, both with these threads and provider."""

    name: str
    base: str
    shape: str
    ratio: stats.Ratio
    threads: int
    provider: str

    def to_json(self) -> dict[str, object]:
        """The names and the ratio as plain values."""
        return {
            "name": self.name,
            "base": self.base,
            "shape": self.shape,
            "threads": self.threads,
            "provider": self.provider,
            "ratio": self.ratio.value,
            "interval": [self.ratio.low, self.ratio.high],
            "noise": self.ratio.noise,
            "noisy": self.ratio.noisy,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a race showed: a `Timing` per shape and model, a `Contrast` per shape and model but
    the base, the counts that the caller knows of each model (bytes, parameters, MACs), and a
    `Throughput` per shape, load and model."""

    timings: tuple[Timing, ...]
    contrasts: tuple[Contrast, ...]
    counts: tuple[tuple[str, Mapping[str, int]], ...] = ()
    throughput: tuple[Throughput, ...] = ()

    @property
    def ratio(self) -> float:
        """Time of the second model over that of the first, on the first shape."""
        return self.contrasts[0].ratio.value

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `ratio`."""
        return self.contrasts[0].ratio.low, self.contrasts[0].ratio.high

    @property
    def noisy(self) -> bool:
        """Whether some ratio is not known well enough to be quoted."""
        return any(contrast.ratio.noisy for contrast in self.contrasts)

    @property
    def warning(self) -> str | None:
        """One line about the least certain ratio if it is noisy, else None."""
        if not self.noisy:
            return None
        worst = max(self.contrasts, key=lambda contrast: contrast.ratio.noise)
        verdict = (
            f"the ratio of {worst.name} is only known to within {worst.ratio.noise:.0%}"
            if worst.ratio.decided
            else f"it cannot tell whether {worst.name} or {worst.base} is faster"
        )
        return f"this machine is too noisy: on {worst.shape} {verdict}; stop other work and repeat"

    def to_json(self) -> dict[str, object]:
        """The whole race as plain values."""
        return {
            "timings": [timing.to_json() for timing in self.timings],
            "contrasts": [contrast.to_json() for contrast in self.contrasts],
            "counts": {name: dict(values) for name, values in self.counts},
            "throughput": [load.to_json() for load in self.throughput],
            "noisy": self.noisy,
            "warning": self.warning,
        }


def compare(
    models: Sequence[tuple[str, bytes | Path]],
    feeds: Feeds | Sequence[tuple[str, Feeds]],
    *,
    rounds: int = 30,
    warmup: int = 5,
    threads: int | None = None,
    seconds: float | None = 10.0,
    provider: str = "cpu",
    strict: bool = False,
    concurrency: Sequence[int] = (),
    counts: Sequence[Mapping[str, int]] = (),
) -> Comparison:
    """Time `models`, the first of which is the base, on one set of feeds or on labelled sets.

    `concurrency` lists numbers of clients: under each load requests are counted, for as long as
    the rounds of a shape take. With `strict` nothing but `provider` may run.

    `seconds` bounds the rounds of all shapes together, but `stats.FEWEST_ROUNDS` rounds always
    run; None sets no bound. `rounds` is the number after which it may stop early. `threads`
    defaults to the physical cores. `counts` holds known numbers of each model, in order.
    Raises InputError for no models, unusable numbers, or feeds that a model refuses.
    """
    labelled = [(_label(feeds), feeds)] if isinstance(feeds, Mapping) else list(feeds)
    if not models or not labelled:
        raise InputError("bench needs a model and a set of inputs")
    _check(rounds=rounds, threads=threads, seconds=seconds, concurrency=concurrency)
    race = _Race(models, threads or physical_cores(), provider, strict)
    share = None if seconds is None else seconds / len(labelled)
    timings: list[Timing] = []
    contrasts: list[Contrast] = []
    loads: list[Throughput] = []
    for shape, arrays in labelled:
        runs = race.runners(arrays)
        samples, repeats = measure(runs, rounds=rounds, warmup=warmup, seconds=share)
        timings += race.timings(shape, arrays, samples, repeats)
        contrasts += race.contrasts(shape, samples)
        for clients in concurrency:
            loads += race.loads(shape, runs, clients, share or LOAD_SECONDS)
    known = zip((name for name, _ in models), counts, strict=True) if counts else ()
    return Comparison(tuple(timings), tuple(contrasts), tuple(known), tuple(loads))


def joined(races: Sequence[Comparison]) -> Comparison:
    """Races of the same models under several settings as one."""
    return Comparison(
        tuple(timing for race in races for timing in race.timings),
        tuple(contrast for race in races for contrast in race.contrasts),
        races[0].counts,
        tuple(load for race in races for load in race.throughput),
    )


def against(
    base: Session, other: Session, feeds: Feeds, *, rounds: int = 30, seconds: float
) -> stats.Ratio:
    """Time of `other` over that of `base`, alternately. Raises InputError for refused feeds."""
    runs = [_runner("the original", base, feeds), _runner("the pruned model", other, feeds)]
    samples, _ = measure(runs, rounds=rounds, warmup=3, seconds=seconds)
    return stats.ratio(*samples)


def measure(
    runs: Sequence[Run],
    *,
    rounds: int,
    warmup: int,
    seconds: float | None,
    clock: Clock = time.perf_counter,
) -> tuple[list[list[float]], list[int]]:
    """Milliseconds per run, `samples[model][round]`, and the runs behind each sample by model."""
    limit = float("inf") if seconds is None else seconds
    repeats = [_warm_up(run, warmup, limit / 10, clock) for run in runs]
    samples: list[list[float]] = [[] for _ in runs]
    start = clock()
    while not _enough(samples, rounds, clock() - start >= limit):
        forward = range(len(runs))
        for index in forward if len(samples[0]) % 2 == 0 else reversed(forward):
            samples[index].append(_sample(runs[index], repeats[index], clock))
    return samples, repeats


class _Race:
    """The sessions of one race and what is known of them."""

    def __init__(
        self,
        models: Sequence[tuple[str, bytes | Path]],
        threads: int,
        provider: str,
        strict: bool,
    ) -> None:
        self._models, self._threads = models, threads
        self._wanted, self._strict = provider, strict
        self._sessions = [
            Session(model, threads=threads, provider=provider, strict=strict) for _, model in models
        ]

    def runners(self, feeds: Feeds) -> list[Run]:
        """One callable per model; InputError names the model that refuses the feeds."""
        return [
            _runner(name, session, feeds)
            for (name, _), session in zip(self._models, self._sessions, strict=True)
        ]

    def timings(
        self, shape: str, feeds: Feeds, samples: list[list[float]], repeats: list[int]
    ) -> list[Timing]:
        """The record of every model; measures its memory and loading on the way."""
        takes = [
            footprint(
                model,
                feeds,
                threads=self._threads,
                provider=self._wanted,
                strict=self._strict,
            )
            for _, model in self._models
        ]
        return [
            Timing(
                name=name,
                shape=shape,
                samples_ms=tuple(samples[index]),
                repeats=repeats[index],
                load_ms=takes[index].load_ms,
                peak_memory_bytes=takes[index].peak_bytes,
                threads=self._threads,
                provider=self._sessions[index].providers[0],
            )
            for index, (name, _) in enumerate(self._models)
        ]

    def contrasts(self, shape: str, samples: list[list[float]]) -> list[Contrast]:
        """Every model but the first against the first."""
        base, used = self._models[0][0], self._sessions[0].providers[0]
        return [
            Contrast(name, base, shape, stats.ratio(samples[0], other), self._threads, used)
            for (name, _), other in zip(self._models[1:], samples[1:], strict=True)
        ]

    def loads(
        self, shape: str, runs: Sequence[Run], clients: int, seconds: float
    ) -> list[Throughput]:
        """Every model under the load of so many clients."""
        return throughputs(
            [name for name, _ in self._models],
            press(runs, clients, seconds),
            shape=shape,
            threads=self._threads,
            providers=[session.providers[0] for session in self._sessions],
            concurrency=clients,
        )


def _runner(name: str, session: Session, feeds: Feeds) -> Run:
    missing = [wanted for wanted in session.inputs if wanted not in feeds]
    if missing:
        raise InputError(
            f"no array for the input {missing[0]!r} of {name}",
            hint=f"the inputs of {name} are: {', '.join(session.inputs)}",
        )
    try:
        session.run(feeds)
    except InputError as error:
        raise InputError(f"{name}: {error.args[0]}", hint=error.hint) from error
    return lambda: session.run(feeds)


def _warm_up(run: Run, warmup: int, limit: float, clock: Clock) -> int:
    """Run until caches and clocks have settled; return the runs that make one sample."""
    start, fastest = clock(), float("inf")
    for _ in range(max(1, warmup)):
        before = clock()
        run()
        fastest = min(fastest, clock() - before)
        if clock() - start > limit:
            break
    return min(MOST_REPEATS, max(1, ceil(SHORTEST_SAMPLE / max(fastest, 1e-9))))


def _sample(run: Run, repeats: int, clock: Clock) -> float:
    """Milliseconds per run, the mean of `repeats` runs."""
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) * 1000 / repeats


def _enough(samples: list[list[float]], rounds: int, late: bool) -> bool:
    """Whether to stop: the precision is looked at only each time the rounds have doubled."""
    done = len(samples[0])
    if done < stats.FEWEST_ROUNDS:
        return False
    if late or done >= rounds << MOST_DOUBLINGS:
        return True
    looks = (rounds << doubling for doubling in range(MOST_DOUBLINGS))
    return done in looks and _precise(samples)


def _precise(samples: list[list[float]]) -> bool:
    return all(stats.expected_noise(samples[0], other) <= PRECISE for other in samples[1:])


def _label(feeds: Feeds) -> str:
    """The shapes of the feeds as text, e.g. "input_ids=8x128"."""
    return ", ".join(
        f"{name}={'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in feeds.items()
    )


def _check(
    *, rounds: int, threads: int | None, seconds: float | None, concurrency: Sequence[int]
) -> None:
    if rounds < stats.FEWEST_ROUNDS:
        raise InputError(
            f"{rounds} rounds give no 95 % interval", hint=f"use {stats.FEWEST_ROUNDS} or more"
        )
    if any(clients < 1 for clients in concurrency):
        raise InputError(f"cannot be called by {min(concurrency)} clients", hint="give 1 or more")
    if threads is not None and threads < 1:
        raise InputError(f"cannot run on {threads} threads", hint="use 1 or more")
    if seconds is not None and not seconds > 0:
        raise InputError(f"cannot measure in {seconds:g} seconds", hint="give a positive time")
