"""The law, for every case of every family; and that no registered op is without a case."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from cases_attention import attentions
from cases_concat import sums
from cases_contrib import contrib
from cases_conv import convolutions
from cases_elementwise import elementwise
from cases_flow import flow
from cases_function import function
from cases_hostile import hostile
from cases_matmul import contractions
from cases_norm import norms
from cases_opaque import MAKERS, opaque
from cases_order import ordered
from cases_qlinear import qlinear
from cases_quantized import quantized
from cases_recurrent import recurrent
from cases_reduce import reductions
from cases_regions import regions
from cases_reshape import reshapes
from cases_select import selections
from cases_spatial import spatial
from cases_tables import tables
from lawkit import ROUNDING, Studied, check_groups

from mipack.layout import leaves
from mipack.ops.registry import key, registered

FAMILIES = {
    "elementwise": elementwise,
    "contractions": contractions,
    "convolutions": convolutions,
    "norms": norms,
    "reductions": reductions,
    "reshapes": reshapes,
    "sums": sums,
    "selections": selections,
    "ordered": ordered,
    "hostile": hostile,
    "spatial": spatial,
    "recurrent": recurrent,
    "quantized": quantized,
    "qlinear": qlinear,
    "flow": flow,
    "function": function,
    "contrib": contrib,
    "opaque": opaque,
    "regions": regions,
    "attention": attentions,
    "tables": tables,
}
CASES = {f"{family}:{case.name}": case for family, cases in FAMILIES.items() for case in cases}
SEEDS = (0, 1)


@cache
def studied(name: str) -> Studied:
    return CASES[name].study()


@pytest.mark.parametrize("name", CASES)
def test_groups(name: str) -> None:
    check_groups(CASES[name], studied(name))


@pytest.mark.parametrize("name", CASES)
def test_law(name: str) -> None:
    for seed in SEEDS:
        studied(name).law(seed)
    assert studied(name).proof(SEEDS[0]) <= ROUNDING


def check_branches(name: str) -> int:
    """Every group that may go goes, alone and (where they may) with all others; how many."""
    branch = CASES[name].bypassed()
    groups = [g for g in branch.coupling.groups if branch.coupling.removable(g)]
    sets = [[group] for group in groups]
    if branch.coupling.branches.without([g.atom for g in groups]).problem is None:
        sets.append(groups)
    assert all(branch.gone(chosen) <= ROUNDING for chosen in sets)
    return len(groups)


def test_whole_branches_go() -> None:
    """A few cases of every family; `make test-heavy` takes all."""
    names = [n for family in FAMILIES for n in [c for c in CASES if c.startswith(f"{family}:")][:3]]
    assert np.mean([check_branches(name) > 0 for name in names]) > 0.5


@pytest.mark.heavy
@pytest.mark.parametrize("name", CASES)
def test_every_branch_goes(name: str) -> None:
    check_branches(name)


def test_cases_have_names_of_their_own() -> None:
    assert len(CASES) == sum(len(cases.listed) for cases in FAMILIES.values())


NOTHING_TO_CUT = {
    "Identity": "canonical form takes it out, but before an output",
    "ScatterElements": "a write that is dropped is not a zero that is written: all axes are frozen",
    "Scatter": "as ScatterElements",
    "AffineGrid": "axes of a map and of places are geometry",
    "MaxUnpool": "places are numbered through all axes",
    "NegativeLogLikelihoodLoss": "labels are positions of classes",
    "SoftmaxCrossEntropyLoss": "labels are positions of classes",
    **dict.fromkeys(MAKERS, "no axis passes"),
}


def ops_cut(case: Studied) -> set[str]:
    """Ops of nodes that a cut axis runs into or out of."""
    cut = {group.atom for group in case.cuttable}
    axes = case.coupling.axes
    return {
        key(node)
        for node in case.coupling.model.graph
        for value in (*node.inputs, *node.outputs)
        if value is not None
        for term in axes.get(value.name or "", ())
        if cut.intersection(leaves(term))
    }


def test_every_registered_op_has_a_case() -> None:
    """A new rule brings cases in which axes of its operands are really cut."""
    met = set().union(*(ops_cut(studied(name)) for name in CASES))
    missing = set(registered()) - met
    assert missing == NOTHING_TO_CUT.keys(), f"no case cuts an axis of {sorted(missing)}"


def test_ops_without_an_axis_to_cut_are_in_a_case() -> None:
    there = {key(node) for name in CASES for node in studied(name).coupling.model.graph}
    assert there >= NOTHING_TO_CUT.keys()
