"""Records of models -> markdown: the summary, the table, what is undone, pairs of exporters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
SLACK = 0.01
"""A cut this much below a reference figure is not behind it."""
FIGURES = {"prototype": "prototype", "width": "prototype_width", "rival": "onnxsim"}
COLUMNS = (
    "model", "result", "MACs cut", "prototype", "onnxsim", "parameters cut", "with width",
    "prototype with width", "oracle error", "seconds", "predicted - counted", "interface",
    "runtime-unknown", "rule missing",
)  # fmt: skip


def markdown(records: Sequence[Record], reference: Record, settings: Record) -> str:
    """The whole document; the summary comes before the first heading of the second level."""
    rows = [_row(record, reference.get(record["name"], {})) for record in records]
    parts = [
        "# Coverage\n",
        *_summary(records, reference, settings),
        "\n## Models\n",
        _table(COLUMNS, rows),
        "\n## Undone\n",
        *(_undone(records) or ["No rule is missing."]),
        "\n## Not pruned\n",
        *(
            [f"* {r['name']}: {r['result']}: {r['why']}" for r in records if "why" in r]
            or ["None."]
        ),
    ]
    return "\n".join(parts) + "\n"


def figure(reference: Record, name: str, which: str) -> float | None:
    """A reference figure: the share of the MACs that another tool cut in a model."""
    return reference.get(name, {}).get(FIGURES[which], {}).get("cut")


def behind(records: Iterable[Record], reference: Record, *, width: bool = False) -> list[str]:
    """Models of which less is cut than the reference cut."""
    found = []
    for record in records:
        ours = (record.get("wider", {}) if width else record).get("cut", 0.0)
        goal = figure(reference, record["name"], "width" if width else "prototype")
        if goal is not None and ours < goal - SLACK:
            found.append(f"{record['name']} ({ours:.3f} of {goal:.3f})")
    return found


def _summary(records: Sequence[Record], reference: Record, settings: Record) -> Iterator[str]:
    counts = Counter(record["result"] for record in records)
    said = ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts))
    yield f"{len(records)} models at --keep {settings['keep']} --allocate uniform: {said}.\n"
    names = [record["name"] for record in records]
    ours = [record.get("cut", 0.0) for record in records]
    prototype, rival = (_mean(_known(names, reference, k)) for k in ("prototype", "rival"))
    yield f"* MACs cut, mean: {_mean(ours)}; prototype {prototype}, onnxsim {rival}"
    yield _listed("behind the prototype", behind(records, reference))
    if settings.get("width") is not None:
        wider = [record.get("wider", {}).get("cut", 0.0) for record in records]
        goal = _mean(_known(names, reference, "width"))
        yield f"* with --width {settings['width']}: {_mean(wider)}; prototype {goal}"
        yield _listed("behind it", behind(records, reference, width=True))
    oracle = [r["oracle"] for r in records if r.get("oracle") is not None]
    worst = max(oracle, default=0.0)
    yield f"* oracle, worst error of random cuts (each within its tolerance): {worst:.1e}"
    gaps = {r["name"]: abs(r["predicted"] - r["cut"]) for r in records if "cut" in r}
    far = [f"{name} ({gap:.3f})" for name, gap in gaps.items() if gap > SLACK]
    yield _listed(f"predicted share cut more than {SLACK} from the counted one", far)
    missing = sum(record.get("frozen", {}).get("rule missing", 0) for record in records)
    yield f"* groups frozen for a missing rule: {missing}"


def _known(names: Iterable[str], reference: Record, which: str) -> list[float]:
    return [c for c in (figure(reference, name, which) for name in names) if c is not None]


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f}" if values else "-"


def _listed(title: str, names: Sequence[str]) -> str:
    return f"* {title}: {len(names)}{': ' if names else ''}{', '.join(names)}"


def _row(record: Record, reference: Record) -> list[str]:
    frozen = record.get("frozen", {})
    gap = record["predicted"] - record["cut"] if "cut" in record else None
    figures = {k: reference.get(name, {}).get("cut") for k, name in FIGURES.items()}
    wider = record.get("wider", {})
    return [
        record["name"],
        record["result"],
        _real(record.get("cut")),
        _real(figures["prototype"]),
        _real(figures["rival"]),
        _real(record.get("params")),
        _real(wider.get("cut")) if "cut" in wider else wider.get("result", "-"),
        _real(figures["width"]),
        _real(record.get("oracle"), ".1e"),
        _real(record.get("seconds"), ".1f"),
        _real(gap, "+.3f"),
        *(str(frozen.get(cause, 0)) for cause in ("interface", "runtime-unknown", "rule missing")),
    ]


def _real(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _undone(records: Iterable[Record]) -> list[str]:
    return [
        f"* {record['name']}: {reason} ({count} groups)"
        for record in records
        for reason, count in record.get("missing", {}).items()
    ]


# ---------------------------------------------------------------- pairs of exporters


def pairs(records: Sequence[Record], index: Record) -> str:
    """NAME_ts beside NAME_dyn of one family: the same groups, names aside, and the same cut?"""
    known = {record["name"]: record for record in records}
    rows, lines = [], []
    for first in sorted(known):
        second = f"{first.removesuffix('_ts')}_dyn"
        if second not in known or second == first or not _related(first, second, index):
            continue
        a, b = known[first], known[second]
        only_a, only_b = differing(a, b)
        same = "yes" if not (only_a or only_b) else "no"
        cuts = [a.get("cut", 0.0), b.get("cut", 0.0)]
        macs = [f"{r.get('macs', 0):,}" for r in (a, b)]
        gap = _real(abs(cuts[0] - cuts[1]))
        rows.append([first, second, same, *macs, *map(_real, cuts), gap])
        lines += [f"* only {a['name']}: {_groups(only_a)}"] if only_a else []
        lines += [f"* only {b['name']}: {_groups(only_b)}"] if only_b else []
    sides = ("MACs", "MACs", "MACs cut", "MACs cut")
    columns = ("TorchScript", "dynamo", "same groups", *sides, "difference")
    return "\n".join(["## Pairs of exporters\n", _table(columns, rows), "", *lines]) + "\n"


def _related(first: str, second: str, index: Record) -> bool:
    families = [index.get(name, {}).get("family") for name in (first, second)]
    return first.endswith("_ts") and families[0] == families[1]


def differing(a: Record, b: Record) -> tuple[Counter[Any], Counter[Any]]:
    """Groups (size, kind, free) that only one of two models has."""
    left, right = (Counter(map(tuple, record.get("groups", ()))) for record in (a, b))
    return left - right, right - left


def _groups(found: Counter[Any]) -> str:
    return ", ".join(
        f"{n} x {size} {kind} ({'free' if free else 'not free'})"
        for (size, kind, free), n in sorted(found.items(), key=str)
    )
