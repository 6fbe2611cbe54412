"""Which equations do the tests hold? Drop one at a time and see whether the law notices.

    python tests/laws/mutation.py [mipack/ops/FILE.py]

A mutant is one call site of `eq`, `same`, `align`, `encode`, `pin`, `freeze`, `normalise`,
`together` or `mixed` in a rule, made to do nothing. It is killed when some case of the family
tables says something else of its groups, breaks the law, or cannot be run any more. Takes minutes.
"""

from __future__ import annotations

import linecache
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lawkit import Case, check_groups

import mipack.ops
from mipack.graph.view import NodeView

RULES = Path(mipack.ops.__file__).parent

STATEMENTS = ("eq", "same", "align", "encode", "pin", "freeze", "normalise", "together", "mixed")
Site = tuple[str, int, str]
"""File of the rule, line, statement."""


def _caller() -> tuple[str, int] | None:
    """The innermost line of a rule's file on the stack."""
    frame = sys._getframe(2)
    name = Path(frame.f_code.co_filename)
    return (name.name, frame.f_lineno) if name.parent.name == "ops" else None


def source_of(site: Site) -> str:
    """The text of the line."""
    return linecache.getline(str(RULES / site[0]), site[1]).strip()


@contextmanager
def _statements(on_call: Any) -> Iterator[None]:
    """Every statement of a rule asks `on_call(site)` first and is dropped where it says so."""
    originals = {name: getattr(NodeView, name) for name in STATEMENTS}

    def wrap(name: str) -> Any:
        def statement(view: NodeView, *args: Any, **kwargs: Any) -> Any:
            place = _caller()
            if place is not None and on_call((*place, name)):
                if name in ("align", "encode"):  # what it looks at stays looked at
                    view.ignore(*(a for a in args[:1] if isinstance(a, int)))
                return None
            return originals[name](view, *args, **kwargs)

        return statement

    try:
        for name in STATEMENTS:
            setattr(NodeView, name, wrap(name))
        yield
    finally:
        for name, original in originals.items():
            setattr(NodeView, name, original)


def sites(cases: dict[str, Case]) -> dict[Site, list[str]]:
    """Every statement that some case runs, and the cases that run it."""
    met: dict[Site, list[str]] = defaultdict(list)
    for name, case in cases.items():
        here: dict[Site, None] = {}

        def note(site: Site, here: dict[Site, None] = here) -> bool:
            here[site] = None
            return False

        with _statements(note):
            case.study()
        for site in here:
            met[site].append(name)
    return dict(sorted(met.items()))


def killed(site: Site, cases: dict[str, Case]) -> str | None:
    """The first case that notices that a statement is gone."""
    for name, case in cases.items():
        try:
            with _statements(lambda other: other == site):
                studied = case.study()
            check_groups(case, studied)
            for seed in (0, 1):
                studied.law(seed)
        except Exception:
            return name
    return None


def survivors(cases: dict[str, Case], files: tuple[str, ...] = ()) -> list[Site]:
    """Statements that no case misses."""
    return [
        site
        for site, names in sites(cases).items()
        if (not files or site[0] in files) and not killed(site, {n: cases[n] for n in names})
    ]


if __name__ == "__main__":
    from test_laws import CASES

    for found in survivors(CASES, tuple(Path(a).name for a in sys.argv[1:])):
        print(*found, source_of(found))
