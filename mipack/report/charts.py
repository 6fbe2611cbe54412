"""The pictures of a report, from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np

from mipack.report.record import Contrast, GroupCut, Operators, Timing
from mipack.report.shapes import Chart, shortened, ticks
from mipack.show.blocks import share

WIDTH = 960.0
MOST_COLUMNS = 320
"""Groups drawn one by one; of more only the largest are."""
BINS = 48
MOST_OPS = 12
KINDS = {"residual": "f-other", "width": "f-third"}
"""How groups are coloured; all else is as the pruned model is."""


def network(groups: Sequence[GroupCut]) -> Chart | None:
    """The groups from input to output, each as high as the root of its units, before and after."""
    if not groups:
        return None
    drawn = _largest(groups)
    left = len(groups) - len(drawn)
    height, middle, reach = 230.0, 108.0, 96.0
    chart = Chart(
        "Units of every group before and after the cut",
        f"{len(groups)} groups in the order of the network. Grey: before, coloured: what is kept."
        + (f" {left} smaller groups are not drawn." if left else ""),
        WIDTH,
        height,
    )
    step = WIDTH / max(len(drawn), 12)
    start = (WIDTH - step * len(drawn)) / 2
    most = max(1, *(group.size for group in drawn))
    chart.line(0, middle, WIDTH, middle)
    for at, group in enumerate(drawn):
        x, wide = start + at * step, step * 0.78
        whole, kept = (reach * sqrt(max(n, 0) / most) for n in (group.size, group.kept))
        told = f"{group.name} ({group.kind}): {group.size:,} units, {group.kept:,} kept"
        if group.information is not None:
            told += f", {share(group.information)} of its information"
        chart.box(x, middle - whole, wide, 2 * whole, "f-before", told)
        chart.box(x, middle - kept, wide, 2 * kept, KINDS.get(group.kind, "f-after"), told)
    _under(chart, left)
    return chart


def _under(chart: Chart, left: int) -> None:
    """What the heights mean, and how many groups are too small to be drawn."""
    text = "height: square root of the units"
    text += f"; the {left:,} smallest groups are not drawn" if left else ""
    chart.text(WIDTH / 2, chart.height - 6, text, "middle", "soft")
    chart.text(0, chart.height - 6, "input", kind="soft")
    chart.text(WIDTH, chart.height - 6, "output", "end", "soft")


def _largest(groups: Sequence[GroupCut]) -> list[GroupCut]:
    if len(groups) <= MOST_COLUMNS:
        return list(groups)
    ranked = sorted(range(len(groups)), key=lambda at: -groups[at].size)
    return [groups[at] for at in sorted(ranked[:MOST_COLUMNS])]


def samples(timings: Sequence[Timing], shape: str) -> Chart | None:
    """Histograms of the raw samples on one shape, a row a model, and their medians."""
    rows = [timing for timing in timings if timing.shape == shape and timing.samples_ms]
    if not rows:
        return None
    pooled = np.concatenate([np.asarray(timing.samples_ms) for timing in rows])
    low, high = 0.0, float(np.quantile(pooled, 0.97)) * 1.05
    each, left, bottom = 74.0, 90.0, 34.0
    chart = Chart(
        f"Milliseconds per run on {shape}",
        "; ".join(f"{t.name}: median {t.median_ms:.3f} ms" for t in rows)
        + f". Samples above {high:.3g} ms are counted in the last column.",
        WIDTH,
        each * len(rows) + bottom,
    )
    scale = (WIDTH - left - 20) / max(high - low, 1e-9)
    edges = np.linspace(low, high, BINS + 1)
    for row, timing in enumerate(rows):
        base = each * (row + 1)
        counts, _ = np.histogram(np.minimum(timing.samples_ms, high), edges)
        kind = "f-before" if row == 0 else "f-after"
        for at in np.flatnonzero(counts):
            tall = (each - 18) * counts[at] / counts.max()
            x, wide = left + (edges[at] - low) * scale, (edges[1] - edges[0]) * scale - 1
            told = f"{timing.name}: {counts[at]} samples of {edges[at]:.3f} to {edges[at + 1]:.3f}"
            chart.box(float(x), base - tall, float(wide), tall, kind, f"{told} ms")
        middle = left + (min(timing.median_ms, high) - low) * scale
        chart.line(middle, base - each + 12, middle, base, "mark")
        chart.line(left, base, WIDTH - 20, base)
        chart.text(left - 8, base - 8, timing.name, "end")
        chart.text(middle + 5, base - each + 20, f"{timing.median_ms:.3f} ms")
    _scale(chart, low, high, left, scale, each * len(rows), "ms")
    return chart


def ratios(contrasts: Sequence[Contrast]) -> Chart | None:
    """Time as a share of the original's, with its 95 % interval, a row a shape."""
    if not contrasts:
        return None
    high = max(1.1, *(entry.interval[1] * 1.05 for entry in contrasts))
    left, each, bottom = 260.0, 30.0, 34.0
    scale = (WIDTH - left - 90) / high
    chart = Chart(
        "Time of the pruned model as a share of the original's",
        "; ".join(f"{e.shape}: {e.ratio:.3f}" for e in contrasts) + ". Below 1 is faster.",
        WIDTH,
        each * len(contrasts) + bottom,
    )
    chart.line(left + scale, 0, left + scale, each * len(contrasts), "mark")
    for row, entry in enumerate(contrasts):
        y = each * (row + 0.5)
        low, up = entry.interval
        told = f"{entry.shape}: {entry.ratio:.3f} (95 % interval {low:.3f} to {up:.3f})"
        chart.line(left + low * scale, y, left + up * scale, y, "s-after")
        chart.dot(left + entry.ratio * scale, y, 5, "f-after", told)
        chart.text(left - 10, y + 4, shortened(entry.shape, 38), "end")
        chart.text(left + up * scale + 10, y + 4, f"{entry.ratio:.3f}")
    _scale(chart, 0.0, high, left, scale, each * len(contrasts), "of the original's time")
    return chart


def operator_bars(found: Operators) -> Chart | None:
    """Milliseconds by operator before and after."""
    rows = found.ops[:MOST_OPS]
    high = max((max(row.before_ms, row.after_ms) for row in rows), default=0.0)
    if high <= 0:
        return None
    left, each = 190.0, 42.0
    scale = (WIDTH - left - 100) / high
    chart = Chart(
        "Milliseconds per run by operator, before and after",
        "; ".join(f"{r.op}: {r.before_ms:.3g} to {r.after_ms:.3g} ms" for r in rows),
        WIDTH,
        each * len(rows) + 4,
    )
    for at, row in enumerate(rows):
        y = each * at
        chart.text(left - 10, y + 23, shortened(row.op, 26), "end")
        for offset, spent, kind in ((4, row.before_ms, "f-before"), (19, row.after_ms, "f-after")):
            chart.box(left, y + offset, spent * scale, 14, kind, f"{row.op}: {spent:.4g} ms")
            chart.text(left + spent * scale + 6, y + offset + 11, f"{spent:.3g} ms", kind="soft")
    return chart


def _scale(
    chart: Chart, low: float, high: float, left: float, scale: float, y: float, unit: str
) -> None:
    """Numbers under a picture."""
    for value in ticks(low, high):
        x = left + (value - low) * scale
        chart.line(x, y, x, y + 5)
        chart.text(x, y + 18, f"{value:g}", "middle", "soft")
    chart.text(left - 10, y + 18, unit, "end", "soft")


STATES = {"free": "f-after", "family": "f-other", "width": "f-third", "frozen": "f-before"}


def structure(groups: Sequence[Mapping[str, Any]]) -> Chart | None:
    """All groups of a model, as `inspect` tells them, from input to output."""
    if not groups:
        return None
    ranked = sorted(
        range(len(groups)), key=lambda at: (groups[at]["state"] == "frozen", -groups[at]["size"])
    )
    drawn = [groups[at] for at in sorted(ranked[:MOST_COLUMNS])]
    left = len(groups) - len(drawn)
    height, middle, reach = 230.0, 108.0, 96.0
    chart = Chart(
        "Units of every group of the model",
        f"{len(groups)} groups in the order of the network."
        + (f" {left} smaller or frozen groups are not drawn." if left else ""),
        WIDTH,
        height,
    )
    step = WIDTH / max(len(drawn), 12)
    most = max(1, *(group["size"] for group in drawn))
    chart.line(0, middle, WIDTH, middle)
    for at, group in enumerate(drawn):
        whole = reach * sqrt(group["size"] / most)
        told = f"{group['name']} ({group['kind']}, {group['state']}): {group['size']:,} units"
        x = (WIDTH - step * len(drawn)) / 2 + at * step
        chart.box(x, middle - whole, step * 0.78, 2 * whole, STATES[group["state"]], told)
    _under(chart, left)
    return chart
