"""Leave out the work that nobody reads, where that is proven: same outputs, on real batches and at
sizes that no probe saw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import onnx_ir as ir

from mipack.data.synthetic import dim_sizes, resize_feeds
from mipack.errors import InputError, MipackError
from mipack.graph.exact import exact
from mipack.graph.feeds import GROW, probed
from mipack.graph.load import in_parts, signature
from mipack.graph.probe import Probe
from mipack.graph.unread import without_unread
from mipack.records import Signature
from mipack.runtime.session import Feeds, Session
from mipack.verify.oracle import distance

TOLERANCE = {"float16": 5e-3, "bfloat16": 5e-2}
EXACT = 1e-5
"""Relative to an output's largest number: products of other shapes sum in another order."""


@dataclass(frozen=True, slots=True)
class Slim:
    """A model without unread work; the model given where there is none (`left` is empty then) or
    where the proof fails (`problem` says how).

    `left`: of the nodes that do less, by name, the share of the multiply-adds that they still do.
    `worst`: the largest relative error of an output, over `runs` runs.
    """

    model: ir.Model
    left: Mapping[str, Fraction]
    worst: float = 0.0
    runs: int = 0
    problem: str = ""


def slim(
    model: ir.Model, feeds: Feeds, batches: Iterable[Feeds] = (), *, probe: Probe | None = None
) -> Slim:
    """Leave out what is not read of a canonical model that runs on `feeds`.

    `probe` saves the two runs that show its shapes.
    """
    declared = signature(model)
    try:
        probe = probe or probed(model, declared, [feeds])[0]
    except MipackError as error:
        return Slim(model, {}, problem=f"its shapes cannot be probed: {error.args[0]}")
    found = without_unread(model, probe)
    if found is None:
        return Slim(model, {})
    halves = [TOLERANCE[d] for d in set(probe.dtypes.values()) if d in TOLERANCE]
    tried = [*batches, feeds, *_resized(declared, feeds)]
    try:
        worst, runs = _worst(model, found.model, tried)
    except MipackError as error:
        return Slim(model, {}, problem=error.args[0])
    allowed = max([EXACT, *halves])
    if not worst <= allowed:
        return Slim(model, {}, worst, runs, f"relative error {worst:.1e} (allowed {allowed:.0e})")
    return Slim(found.model, found.left, worst, runs)


def _resized(declared: Signature, feeds: Feeds) -> Iterator[Feeds]:
    """The same feeds at other sizes."""
    present = dim_sizes(declared, feeds)
    ones = dict.fromkeys(present, 1)
    for sizes in (ones, *({name: grow(n) for name, n in present.items()} for grow in GROW)):
        with suppress(InputError):
            yield resize_feeds(declared, dict(feeds), sizes)


def _worst(before: ir.Model, after: ir.Model, tried: Sequence[Feeds]) -> tuple[float, int]:
    """The largest error, and over how many runs: what the original refuses counts for nothing."""
    sessions = [Session(in_parts(exact(model)), optimize=False) for model in (before, after)]
    worst, runs = 0.0, 0
    for feeds in tried:
        try:
            want = sessions[0].run(feeds)
        except InputError:
            continue
        got = sessions[1].run(feeds)
        worst = max([worst, *(distance(got[name], want[name]) for name in want)])
        runs += 1
    return worst, runs
