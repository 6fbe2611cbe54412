"""`query`: samples sent to a server, its answers compared with the model here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mipack.data.dataset import Batch, Dataset, ReadOptions
from mipack.data.open import open_dataset
from mipack.errors import InputError
from mipack.front.inputs import opened
from mipack.records import Signature
from mipack.runtime.session import Session
from mipack.serve.client import Client, Protocol, parse_url
from mipack.serve.compare import Answer, Comparison, percentile
from mipack.serve.wire import Wire, as_signature, wire

if TYPE_CHECKING:
    from mipack.options import Progress

SAMPLES = 100
"""Requests by default."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a server answered. Latencies in milliseconds, per request, as the client sees them;
    the first request is sent once more before and not counted. `outputs` is empty where there is
    no model to compare with."""

    url: str
    protocol: str
    server: str
    model: str
    requests: int
    samples: int
    latency_p50: float
    latency_p95: float
    outputs: tuple[Answer, ...]

    @property
    def passed(self) -> bool:
        """Whether every answer is what the local model says, within tolerance."""
        return all(answer.passed for answer in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "passed": self.passed}


def query(
    url: str,
    name: str,
    data: Path,
    *,
    model: Path | None = None,
    protocol: Protocol | None = None,
    batch_size: int = 1,
    tolerance: float | None = None,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
) -> Answers:
    """Send samples over the v2 protocol, one request after the other.

    With `model` the answers are compared with ONNX Runtime here: `tolerance` is relative to an
    output's largest value (default: 1e-4, 1e-2 where the output has 16 bits; integers and text
    must be equal). Raises InputError where the server cannot be reached, does not have the model
    ready, or has another signature.
    """
    address = parse_url(url, protocol)
    read = read or ReadOptions(samples=SAMPLES)
    local = opened(Path(model), Path(data), read) if model is not None else None
    with Client(address, name) as client:
        client.require_ready()
        batched = client.max_batch_size() > 0
        inputs, outputs = client.signature()
        if local is not None:
            _check_signature(name, local.signature, inputs, outputs, batched)
            dataset = local.dataset
        else:
            dataset = open_dataset(data, as_signature(inputs, outputs, batched=batched), read)
        assert dataset is not None
        session = Session(Path(model), threads=1) if model is not None else None
        asked = _ask(client, dataset, outputs, session, batch_size, tolerance, progress)
        return Answers(url, address.protocol, client.server(), name, *asked)


def _ask(
    client: Client,
    dataset: Dataset,
    outputs: tuple[Wire, ...],
    session: Session | None,
    batch_size: int,
    tolerance: float | None,
    progress: Progress | None,
) -> tuple[int, int, float, float, tuple[Answer, ...]]:
    """(requests, samples, p50, p95, the comparison of every output)."""
    compared = [Comparison(one.name, tolerance) for one in outputs] if session is not None else []
    seconds: list[float] = []
    samples = 0
    for batch in _requests(dataset, batch_size, progress):
        if not seconds:
            client.infer(batch.feeds, outputs)  # connections are made, caches filled
        start = time.perf_counter()
        served = client.infer(batch.feeds, outputs)
        seconds.append(time.perf_counter() - start)
        samples += batch.samples
        local: Mapping[str, Any] = session.run(batch.feeds) if session is not None else {}
        for one in compared:
            one.add(served[one.output], np.asarray(local[one.output]))
    if not seconds:
        raise InputError("the data hold no samples", hint="give others with --data")
    p50, p95 = percentile(seconds, 0.5), percentile(seconds, 0.95)
    return len(seconds), samples, p50, p95, tuple(one.answer() for one in compared)


def _requests(dataset: Dataset, size: int, progress: Progress | None) -> Iterator[Batch]:
    if progress is not None:
        progress.stage("ask", dataset.samples)
    for batch in dataset.batches(size):
        yield batch
        if progress is not None:
            progress.advance(batch.samples)


def _check_signature(
    name: str,
    local: Signature,
    inputs: tuple[Wire, ...],
    outputs: tuple[Wire, ...],
    batched: bool,
) -> None:
    """InputError where server and model differ, both told side by side."""
    pairs = (("inputs", local.inputs, inputs), ("outputs", local.outputs, outputs))
    differing = []
    for kind, specs, told in pairs:
        mine = tuple(wire(spec, batched=batched) for spec in specs)
        unranked = {spec.name for spec in specs if spec.shape is None}
        if not _fit(mine, told, unranked):
            differing.append(f"{kind}: the server has {_shown(told)}, the model {_shown(mine)}")
    if differing:
        raise InputError(
            f"model {name!r} on the server is another than the one here; " + "; ".join(differing),
            hint="give the --model that is served, or the name under which this one is",
        )


def _fit(mine: tuple[Wire, ...], told: tuple[Wire, ...], unranked: set[str]) -> bool:
    """The same names and types, and sizes that can be the same."""
    served = {one.name: one for one in told}
    if set(served) != {one.name for one in mine}:
        return False
    return all(
        one.datatype == served[one.name].datatype
        and (one.name in unranked or _sizes_fit(one.shape, served[one.name].shape))
        for one in mine
    )


def _sizes_fit(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(one) == len(other) and all(
        a == b or min(a, b) < 0 for a, b in zip(one, other, strict=True)
    )


def _shown(listed: tuple[Wire, ...]) -> str:
    return ", ".join(map(str, listed)) or "none"
