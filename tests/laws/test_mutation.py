"""Dropping any one statement of any rule is noticed; see `mutation`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cases_matmul import contractions
from mutation import Site, killed, sites, source_of, survivors
from test_laws import CASES

from mipack.graph.view import NodeView

REDUNDANT = {
    ("conv.py", "n.together(group)"),  # groups stand in weights where no batch is: see the cases
}


@pytest.fixture(autouse=True)
def rules_are_left_as_they_were() -> Iterator[None]:
    before = {name: getattr(NodeView, name) for name in ("eq", "same", "align", "encode")}
    yield
    assert before == {name: getattr(NodeView, name) for name in before}


def test_a_dropped_equation_is_noticed() -> None:
    """The harness itself: without the contraction's equation a chain of layers breaks."""
    cases = {case.name: case for case in contractions if case.name == "tokens"}
    met = sites(cases)
    inner = next(site for site in met if source_of(site) == "n.eq(inner, inner_b)")
    assert killed(inner, cases) == "tokens"
    nothing: Site = ("matmul.py", 1, "eq")
    assert killed(nothing, cases) is None


@pytest.mark.heavy
def test_every_statement_of_every_rule_is_held_by_a_case() -> None:
    left = {(site[0], source_of(site)) for site in survivors(CASES)}
    assert left <= REDUNDANT
