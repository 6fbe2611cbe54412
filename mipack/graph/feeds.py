"""Pairs of feeds to probe with: every dynamic size differs between the two, none is 0 or 1.

Real data is preferred and relations between inputs are kept: equal sizes stay equal, and where the
runtime refuses made-up sizes, two real batches are taken as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.data.synthetic import dim_sizes, resize_feeds, synthetic_feeds
from mipack.errors import InputError, UnsupportedError
from mipack.graph.probe import Probe, probe
from mipack.records import Signature

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]
Pair = tuple[Feeds, Feeds]
GROW: tuple[Callable[[int], int], ...] = (
    lambda n: n - 1 if n > 6 else n + 2,
    lambda n: n // 2 if n > 6 else n + 2,
    lambda n: n + 8 if n > 6 else n + 2,
)
"""Ways to another size; some models want even sizes or lengths within a table."""


def probed(
    model: ir.Model,
    signature: Signature,
    real: Sequence[Mapping[str, Array]],
    sizes: Mapping[str, int] | None = None,
) -> tuple[Probe, Feeds]:
    """Probe with the first pair that the runtime takes; also its first feeds.

    `real`: some batches of calibration data (few samples each), or nothing. `sizes` sets named
    dimensions of made-up feeds. Raises InputError naming what was refused.
    """
    first: InputError | None = None
    for pair in _pairs(signature, [dict(batch) for batch in real], dict(sizes or {})):
        try:
            return probe(model, pair), pair[0]
        except UnsupportedError:  # no other feeds would help
            raise
        except InputError as error:
            first = first or error
    assert first is not None
    if real:
        raise first
    names = ", ".join(spec.name for spec in signature.inputs)
    raise InputError(
        f"made-up inputs were refused: {first.args[0]}",
        hint=f"supply real ones with --calib (inputs: {names}), or sizes with --shape",
    )


def _pairs(signature: Signature, real: Sequence[Feeds], sizes: dict[str, int]) -> Iterator[Pair]:
    for feeds in real[:1]:
        for grow in GROW:
            yield from _resized(signature, feeds, grow)
    if real:
        two = _most_different(signature, real) if len(real) > 1 else (real[0], real[0])
        # batches hold equally many samples: of the first size, no two of them tell anything
        small, large = (_resized(signature, f, GROW[0], leading=True) for f in two)
        yield from ((start, grown) for (start, _), (_, grown) in zip(small, large, strict=False))
        if len(real) > 1:
            yield two
    else:
        for tie in (False, True):
            feeds = synthetic_feeds(signature, sizes=sizes, tie_samples=tie)
            for grow in GROW:
                yield from _resized(signature, feeds, grow)
        yield from _resized(signature, feeds, GROW[0], leading=True)


def _resized(
    signature: Signature, feeds: Feeds, grow: Callable[[int], int], *, leading: bool = False
) -> Iterator[Pair]:
    """The feeds, no size below 2, and the same at other sizes; equal sizes stay equal."""
    try:
        present = dim_sizes(signature, feeds)
        if leading:
            first = {s.shape[0] for s in signature.inputs if s.shape}
            first |= {f"{s.name}:0" for s in signature.inputs}
            present = {name: n for name, n in present.items() if name in first}
        if any(n == 0 for n in present.values()):
            return
        start = {name: max(n, 2) for name, n in present.items()}
        yield (
            resize_feeds(signature, feeds, start),
            resize_feeds(signature, feeds, {name: grow(n) for name, n in start.items()}),
        )
    except InputError:
        return


def _most_different(signature: Signature, real: Sequence[Feeds]) -> Pair:
    """The two real batches in which most sizes differ and fewest are below 2."""

    def merit(pair: tuple[int, int]) -> tuple[int, int]:
        shapes = [
            (a, b)
            for spec in signature.inputs
            for a, b in zip(*(real[k][spec.name].shape for k in pair), strict=False)
        ]
        return -sum(min(a, b) < 2 for a, b in shapes), sum(a != b for a, b in shapes)

    count = min(len(real), 8)
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    first, second = max(pairs, key=merit)
    return real[first], real[second]
