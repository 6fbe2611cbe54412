"""The table of ops in README.md, from the registry and the standard: python -m mipack.ops.table

One line per file of rules, and one each for ops that have no rule. Behind an op stand the versions
of its definition that are in force from the oldest opset that mipack reads to `NEWEST_OPSET`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import mipack.ops  # noqa: F401 - registers the rules
from mipack.graph.bodies import FLOW
from mipack.graph.load import OLDEST_OPSET
from mipack.ops.registry import families, standard_ops

NEWEST_OPSET = 28
"""The last one whose changes the rules were held against."""
README = Path(__file__).with_name("README.md")
START, END = "<!-- made by python -m mipack.ops.table -->\n", "<!-- end of the table -->\n"


def table() -> str:
    """The table as markdown."""
    standard = standard_ops(OLDEST_OPSET, NEWEST_OPSET)
    ruled = families()
    known = {op for ops in ruled.values() for op in ops} | set(FLOW)
    bodies = [op for op, found in standard.items() if op not in known and found.body]
    rest = [op for op, found in standard.items() if op not in known and not found.body]
    spelled = {op: _spelled(op, found.versions) for op, found in standard.items()}
    rows: list[tuple[str, Iterable[str]]] = [(f"`{file}.py`", ops) for file, ops in ruled.items()]
    rows += [
        ("their bodies (`couple/flow.py`)", FLOW),
        ("no rule: coupled through their function body, where it runs", bodies),
        ("no rule: frozen by name", rest),
    ]
    lines = ["| rules | ops (versions) |", "|---|---|"]
    return "\n".join([*lines, *(_row(title, ops, spelled) for title, ops in rows)]) + "\n"


def _spelled(op: str, versions: tuple[int, ...]) -> str:
    first, last = versions[0], versions[-1]
    return f"{op} {first}" if first == last else f"{op} {first}-{last}"


def _row(title: str, ops: Iterable[str], spelled: Mapping[str, str]) -> str:
    return f"| {title} | {', '.join(spelled.get(op, op) for op in sorted(ops))} |"


def within(text: str) -> str:
    """README's text with the table in its place."""
    head, rest = text.split(START)
    return head + START + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(within(README.read_text(encoding="utf-8")), encoding="utf-8")
