"""Every rule of `along`, over the cases of the laws and over random graphs: a tensor is selected
from, the selection sinks as far as it can, and the outputs are the same at sizes never probed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lawkit import Build, Feeds
from random_graph import random_graph
from random_images import random_images
from random_seams import random_seams
from random_walk import Draw
from selecting import SELECTS, Tail, Tried, floats, tried
from test_laws import CASES

from mipack.graph import demand
from mipack.graph.along import known_ops
from mipack.graph.canonical import canonical
from mipack.graph.load import from_proto
from mipack.graph.probe import probe

ROUNDING = 1e-4
"""A chain may cancel almost to zero, and then rounding is large beside what is left. A wrong
position shows at 1e-2 and more."""
CASES_EACH_RUN = 7
"""Every so-manyth case is run by the fast suite, all of them by the heavy one."""


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selections sink where no multiply-adds are saved too: it is the rules that are tried."""
    monkeypatch.setattr(demand, "_worthless", lambda found: set())


def select_of(build: Build, outputs: list[str], opset: int, draw: Draw) -> Tried | None:
    """A random part of a random tensor of a model is read."""
    proto, feeds = build.proto(outputs, opset), build.feeds()
    model = canonical(from_proto(proto))
    named = {name for node in proto.graph.node for name in node.output}
    places = [f for f in floats(probe(model, feeds[:2]), model) if f[0] in named]
    if not places:
        return None
    name, axis, size = places[draw(len(places))]
    tail = Tail(proto)
    return tried(tail.only(SELECTS[draw(len(SELECTS))](tail, name, axis, size)), feeds)


def check(found: Tried | None, feeds: tuple[Feeds, ...]) -> set[str]:
    """The ops that compute less."""
    if found is None or found.found is None:
        return set()
    assert found.error(feeds) <= ROUNDING
    return {n.op_type for n in found.model.graph if n.name in found.found.left}


def case_of(name: str, seed: int) -> set[str]:
    case = CASES[name]
    build = Build(**case.inputs)
    made = case.make(build)
    rng = np.random.default_rng(seed)
    outputs = [made] if isinstance(made, str) else list(made)
    try:
        found = select_of(build, outputs, case.opset, lambda n: int(rng.integers(n)))
    except Exception as error:
        raise AssertionError(f"seed {seed}") from error
    return check(found, build.feeds())


@pytest.mark.parametrize("name", list(CASES)[::CASES_EACH_RUN])
def test_a_part_of_a_tensor(name: str) -> None:
    case_of(name, seed=0)


@pytest.mark.heavy
def test_a_part_of_every_case_and_every_rule_is_met() -> None:
    met: set[str] = set()
    for name in CASES:
        for seed in range(6):
            met |= case_of(name, seed)
    wanted = {op.rpartition("::")[2] for op in known_ops()}
    assert met >= wanted - NEVER, sorted(wanted - NEVER - met)


NEVER = {"LRN"}
"""Ops with a rule that no law case leads a selection through."""
MAKERS = [random_graph, random_images, random_seams]


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, *HealthCheck],
)
@given(st.data(), st.sampled_from(MAKERS))
def test_a_part_of_random_graphs(data: st.DataObject, make: object) -> None:
    def draw(count: int) -> int:
        return data.draw(st.integers(0, count - 1))

    build, output = make(draw, data.draw(st.integers(1, 8)))  # type: ignore[operator]
    check(select_of(build, [output], 18, draw), build.feeds())


@pytest.mark.heavy
@pytest.mark.parametrize("make", MAKERS)
def test_a_part_of_many_random_graphs(make: object) -> None:
    met: set[str] = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        build, output = make(lambda n: int(rng.integers(n)), 8)  # type: ignore[operator] # noqa: B023
        try:
            found = select_of(build, [output], 18, lambda n: int(rng.integers(n)))  # noqa: B023
            met |= check(found, build.feeds())
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    assert len(met) > 4
