"""Where the time of two models goes, by operator and by node, from the runtime's own profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mipack.bench.profile import Profile, Step, profile
from mipack.data.dataset import Feeds
from mipack.report.record import NodeTime, Operators, OpTime
from mipack.runtime.session import working_provider

NODES = 30
"""The costliest nodes that are told one by one."""


def operators(
    before: Path,
    after: Path,
    shape: str,
    feeds: Feeds,
    *,
    threads: int | None = None,
    provider: str = "auto",
    seconds: float = 2.0,
) -> Operators:
    """Profile both models for about so long each. `shape` says in words what `feeds` are."""
    first, second = (
        profile(path, feeds, threads=threads, provider=working_provider(provider), seconds=seconds)
        for path in (before, after)
    )
    return Operators(shape=shape, ops=_by_op(first, second), nodes=_by_node(first, second))


def _by_op(first: Profile, second: Profile) -> tuple[OpTime, ...]:
    (before, one), (after, two) = (_sums((s.op, s) for s in p.steps) for p in (first, second))
    rows = [
        OpTime(
            op=op,
            before_nodes=one.get(op, 0),
            before_ms=before.get(op, 0.0),
            after_nodes=two.get(op, 0),
            after_ms=after.get(op, 0.0),
        )
        for op in before.keys() | after.keys()
    ]
    return tuple(sorted(rows, key=lambda row: (-max(row.before_ms, row.after_ms), row.op)))


def _by_node(first: Profile, second: Profile) -> tuple[NodeTime, ...]:
    steps = [{_key(step): step for step in p.steps if step.outputs} for p in (first, second)]
    (before, _), (after, _) = (
        _sums((_key(s), s) for s in p.steps if s.outputs) for p in (first, second)
    )
    rows = [
        NodeTime(
            op=(steps[0].get(key) or steps[1][key]).op,
            output=key,
            before_ms=before.get(key),
            after_ms=after.get(key),
        )
        for key in before.keys() | after.keys()
    ]
    rows.sort(key=lambda row: (-max(row.before_ms or 0.0, row.after_ms or 0.0), row.output))
    return tuple(rows[:NODES])


def _key(step: Step) -> str:
    """A node by what it computes, which has the same name in both models."""
    return next((name for name in step.outputs if name), step.op)


def _sums(steps: Iterable[tuple[str, Step]]) -> tuple[Mapping[str, float], Mapping[str, int]]:
    """Milliseconds and nodes by name."""
    spent: dict[str, float] = {}
    count: dict[str, int] = {}
    for name, step in steps:
        spent[name] = spent.get(name, 0.0) + 1000 * step.seconds
        count[name] = count.get(name, 0) + 1
    return spent, count
