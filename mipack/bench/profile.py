"""Where the time of a run goes: every node that the runtime really runs, with its time.

The runtime fuses nodes and renames some values; `Step` speaks of the values of the model that was
given: a fused node keeps the names of what goes in and out, and a convolution in blocked layout is
named after its result.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mipack.runtime.session import Feeds, Session

FEWEST, MOST = 7, 200
"""Runs behind a time."""
BLOCKED = "_nchwc"
KERNEL = "_kernel_time"


@dataclass(frozen=True, slots=True)
class Step:
    """A node that is run, with the names of values as the model has them, where it has them.

    `blocked`: in the layout of channel blocks, which convolutions in a row hand on.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    seconds: float
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """The steps of a run, and how long all of it takes without a profiler."""

    steps: tuple[Step, ...]
    seconds: float


def profile(
    model: bytes | Path, feeds: Feeds, *, threads: int | None, provider: str, seconds: float
) -> Profile:
    """Run a model for about so long and tell where its time goes."""
    with tempfile.TemporaryDirectory(prefix="mipack-") as folder:
        trace, graph = Path(folder) / "trace", Path(folder) / "optimized.onnx"
        session = Session(model, threads=threads, provider=provider, profile=trace, optimized=graph)
        _repeat(session, feeds, seconds / 2)
        times = kernel_times(session)
        nodes = onnx.load(graph, load_external_data=False).graph.node
    plain = Session(model, threads=threads, provider=provider)
    wall = float(np.min(_repeat(plain, feeds, seconds / 2)))
    return Profile(tuple(_steps(nodes, times)), wall)


def op_seconds(
    model: bytes, feeds: Feeds, node: str, *, threads: int | None, provider: str, seconds: float
) -> float:
    """How long the kernel of one node takes; its result bears the node's name.

    Raises ValueError where the runtime has made something else of the node.
    """
    with tempfile.TemporaryDirectory(prefix="mipack-") as folder:
        trace = Path(folder) / "trace"
        session = Session(model, threads=threads, provider=provider, profile=trace)
        _repeat(session, feeds, seconds)
        times = kernel_times(session)
    own = [taken for (name, _), taken in times.items() if name.removesuffix(BLOCKED) == node]
    if not own:
        raise ValueError(f"{node} is not among what was run")
    return sum(own)


def _repeat(session: Session, feeds: Feeds, seconds: float) -> list[float]:
    """Seconds of every run but the first, which allocates."""
    session.run(feeds)
    taken: list[float] = []
    while len(taken) < FEWEST or (sum(taken) < seconds and len(taken) < MOST):
        start = time.perf_counter()
        session.run(feeds)
        taken.append(time.perf_counter() - start)
    return taken


def kernel_times(session: Session) -> dict[tuple[str, str], float]:
    """(node, op) -> seconds of a run, from the trace of a session, which ends with it.

    What disturbs a machine only adds: the mean of the fastest quarter of the runs is told.
    """
    trace = session.end_profiling()
    events = json.loads(trace.read_text(encoding="utf-8"))
    found: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            key = (event["name"].removesuffix(KERNEL), event["args"].get("op_name", ""))
            found.setdefault(key, []).append(event["dur"])
    return {key: 1e-6 * _typical(taken) for key, taken in found.items()}


def _typical(taken: list[float]) -> float:
    ordered = np.sort(np.asarray(taken, float))
    return float(ordered[: (len(ordered) + 3) // 4].mean())


def _steps(nodes: Any, times: Mapping[tuple[str, str], float]) -> list[Step]:
    """The steps in the order of the run, values under the names that the model gave them."""
    known: dict[str, str] = {}
    steps = []
    for node in nodes:
        result = node.name.removesuffix(BLOCKED)
        blocked = result != node.name
        if blocked and len(node.output) == 1:
            known[node.output[0]] = result
        taken = times.get((node.name, node.op_type))
        if taken is not None:
            inputs, outputs = (
                tuple(known.get(name, name) for name in names)
                for names in (node.input, node.output)
            )
            steps.append(Step(node.op_type, inputs, outputs, taken, blocked))
    return steps
