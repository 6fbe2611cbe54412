"""The tables of the quality benchmark, from its cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import sqrt
from statistics import mean, stdev
from typing import Any

import numpy as np
from quality_judge import unpacked
from quality_methods import methods
from quality_tasks import Array

Cell = Mapping[str, Any]
Key = tuple[str, float]
"""Method and budget."""

Z95 = 1.959964
OURS = "mi"
"""The method that the others are compared with."""


def grouped(cells: Iterable[Cell]) -> dict[Key, list[Cell]]:
    """The seeds of every method and budget, in order of seed."""
    found: dict[Key, list[Cell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        found[cell["method"], cell["budget"]].append(cell)
    return dict(found)


def spread(values: Sequence[float], form: str = "{:+.2f}") -> str:
    """Mean, and the standard deviation where there are several."""
    text = form.format(mean(values))
    if len(values) < 2:
        return text
    return f"{text} ± {form.replace('+', '').format(stdev(values))}"


def paired(first: Sequence[Cell], second: Sequence[Cell]) -> tuple[float, float, float] | None:
    """Points by which `first` is better, with the 95 % interval over rows, over the seeds that both
    have; None where they have none.

    Rows are the sample: a row's seeds are averaged, so that correct answers of one row under several
    seeds do not count as independent. With few rows that differ the normal interval would be too
    sure: a made-up gain and a made-up loss keep it honest (Bonett and Price 2012).
    """  # noqa: E501
    seeds = {cell["seed"]: cell for cell in second}
    gaps = [_right(a) - _right(seeds[a["seed"]]) for a in first if a["seed"] in seeds]
    if not gaps:
        return None
    gap = np.append(np.mean(gaps, 0), [1.0, -1.0])
    reach = Z95 * float(gap.std(ddof=1)) / sqrt(len(gap))
    return 100 * float(np.mean(gaps)), 100 * (gap.mean() - reach), 100 * (gap.mean() + reach)


def _right(cell: Cell) -> Array:
    return unpacked(cell["right"], cell["rows"]).astype(np.float64)


# ---------------------------------------------------------------- markdown


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _by_budget(
    cells: Mapping[Key, Sequence[Cell]],
    names: Sequence[str],
    budgets: Sequence[float],
    text: Callable[[str, float, Sequence[Cell]], str],
) -> list[list[str]]:
    """A row per method, a column per budget."""
    rows = []
    for name in names:
        found = [(budget, cells.get((name, budget))) for budget in budgets]
        if any(seeds for _, seeds in found):
            rows.append([name, *(text(name, b, seeds) if seeds else "-" for b, seeds in found)])
    return rows


def report(
    title: str, judge: str, names: Sequence[str], peers: Sequence[str], cells: Sequence[Cell]
) -> str:
    """All tables of one task under one judge."""
    groups = grouped(cells)
    budgets = sorted({budget for _, budget in groups}, reverse=True)
    head = ["method", *(f"{budget:g}" for budget in budgets)]
    first = cells[0]

    def section(name: str, text: Callable[[str, float, Sequence[Cell]], str]) -> str:
        rows = _by_budget(groups, names, budgets, text)
        return f"### {name}\n\n{table(head, rows)}\n"

    base = f"original {100 * first['base']:.2f} % of {first['rows']:,} rows"
    seeds = sorted({cell["seed"] for cell in cells})
    parts = [
        f"## {title}, judged on {judge} ({base}; calibration seeds {', '.join(map(str, seeds))})\n",
        section("Points against the original", lambda n, b, s: spread([c["points"] for c in s])),
        section(
            "Agreement with the original (%) / KL (nats)",
            lambda n, b, s: (
                spread([100 * c["agreement"] for c in s], "{:.2f}")
                + " / "
                + f"{mean(c['kl'] for c in s):.4f}"
            ),
        ),
        f"### Points by which `{OURS}` is better, paired 95 % interval\n\n"
        + table(head, _against(groups, names, budgets))
        + "\n",
        section("Share kept: budget's measure / all MACs", _shares),
        section(
            "Seconds / CPU seconds / peak MB of a run (peers: without the search for settings)",
            lambda n, b, s: " / ".join(
                f"{mean(c['run'][key] for c in s):.0f}" for key in ("seconds", "cpu", "peak_mb")
            ),
        ),
    ]
    if any("bench" in cell for cell in cells):
        parts.append(section("Measured time against the original", _latency))
    repeated = _repeated(groups)
    if repeated:
        parts.append(f"### Calls of peers.md again\n\n{repeated}\n")
    chosen = _settings(groups, peers, budgets)
    if chosen:
        parts.append(f"### Settings that the peers chose on rows of train\n\n{chosen}\n")
    return "\n".join(parts)


def _against(
    groups: Mapping[Key, Sequence[Cell]], names: Sequence[str], budgets: Sequence[float]
) -> list[list[str]]:
    def text(_: str, budget: float, seeds: Sequence[Cell]) -> str:
        found = paired(groups.get((OURS, budget), ()), seeds)
        if found is None:
            return "-"
        sure = "**" if found[1] > 0 or found[2] < 0 else ""
        return f"{sure}{found[0]:+.2f}{sure} ({found[1]:+.2f} to {found[2]:+.2f})"

    return _by_budget(groups, [name for name in names if name != OURS], budgets, text)


def _shares(_: str, __: float, seeds: Sequence[Cell]) -> str:
    kept = (mean(cell["run"][key] for cell in seeds) for key in ("share", "macs"))
    return " / ".join(f"{share:.3f}" for share in kept)


def _latency(_: str, __: float, seeds: Sequence[Cell]) -> str:
    timed = [cell["bench"] for cell in seeds if "bench" in cell]
    if not timed:
        return "-"
    low, high = timed[0]["interval"]
    noisy = ", noisy" if timed[0]["noisy"] else ""
    return f"{timed[0]['ratio']:.3f} ({low:.3f} to {high:.3f}{noisy})"


def _repeated(groups: Mapping[Key, Sequence[Cell]]) -> str:
    """What peers.md reports beside what the same calls reach here; 0.5 points are the same."""
    known, rows = methods(), []
    for (name, budget), seeds in groups.items():
        want = known[name].published.get(budget) if name in known else None
        if want is not None:
            gap = 100 * (mean(cell["accuracy"] for cell in seeds) - want)
            shown = [f"{want:.4f}", f"{want + gap / 100:.4f}", f"{gap:+.2f}"]
            rows.append([name, f"{budget:g}", *shown, "yes" if abs(gap) <= 0.5 else "no"])
    head = ["call", "share", "peers.md", "here", "points", "within 0.5"]
    return table(head, rows) if rows else ""


def _settings(
    groups: Mapping[Key, Sequence[Cell]], peers: Sequence[str], budgets: Sequence[float]
) -> str:
    def text(_: str, __: float, seeds: Sequence[Cell]) -> str:
        given = seeds[0]["run"].get("settings") or {}
        tried = len((seeds[0]["run"].get("search") or {}).get("tried", ()))
        said = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                         for k, v in given.items())  # fmt: skip
        return f"{said or 'as published'}{f' (of {tried})' if tried else ''}"

    rows = _by_budget(groups, peers, budgets, text)
    return table(["peer", *(f"{budget:g}" for budget in budgets)], rows) if rows else ""
