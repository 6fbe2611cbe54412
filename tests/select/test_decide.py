"""From curves to widths to units: budgets, rounding, patterns, and the order from the top."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from toys import Array, Net, Toy, cnn, mlp

from mipack.couple.solve import Group
from mipack.errors import InputError
from mipack.layout import Term
from mipack.select.allocate import uniform
from mipack.select.decide import Decider, Request, chosen_groups, step_of


def dense(width: int) -> Toy:
    return mlp(4, width, 3, samples=8)


def convs(width: int, after: int = 3) -> Toy:
    net = Net(1)
    x = net.input("x", ("batch", 2, 4, 4))
    y = net.conv(net.relu(net.conv(x, 2, width, name="first")), width, after, name="site")
    feeds = [{"x": net.rng.normal(size=(4, 2, 4, 4)).astype(np.float32)}]
    return Toy(net.proto({y: [None] * 4}), feeds)


def flattened(channels: int, places: int) -> Toy:
    """Channels that a dense layer reads, each with several places."""
    net = Net(1)
    x = net.input("x", ("batch", 2, places, 1))
    h = net.node("Flatten", net.relu(net.conv(x, 2, channels, name="first", k=1)))
    y = net.dense(h, channels * places, 3, name="site")
    feeds = [{"x": net.rng.normal(size=(4, 2, places, 1)).astype(np.float32)}]
    return Toy(net.proto(y), feeds)


def step(toy: Toy, fixed: int | None = None) -> int:
    (group,) = toy.coupling.free
    return step_of(toy.coupling, group, fixed)


def test_default_steps() -> None:
    """Dense 16 from width 256 on, convolutions 4 from width 16 on, else single units."""
    assert [step(dense(width)) for width in (24, 255, 256, 300)] == [1, 1, 16, 16]
    assert [step(convs(width)) for width in (12, 15, 16, 40)] == [1, 1, 4, 4]


def test_rounding_counts_elements_of_the_axis() -> None:
    """A head of 32 is a multiple of 16 already; of blocks of 8, two make one."""
    assert step(flattened(8, 32)) == 1
    assert step(flattened(32, 8)) == 2
    assert step(flattened(64, 3)) == 1  # 192 elements: below 256
    assert step(flattened(96, 3)) == 16  # 3 and 16 share nothing


def test_a_given_step_wins() -> None:
    assert step(dense(24), 8) == 8
    assert step(dense(300), 1) == 1
    assert step(convs(40), 16) == 16
    assert step(flattened(8, 32), 64) == 2
    assert step(dense(5), 8) == 5  # never more than there is


# ---------------------------------------------------------------- budgets


def decider(toy: Toy, criterion: str = "magnitude") -> Decider:
    return Decider(toy.evidence, toy.coupling.free, criterion, None)


REQUESTS = st.builds(
    lambda kind, share, allocate, step: Request(**{kind: share}, allocate=allocate, round_to=step),
    st.sampled_from(["keep", "macs", "params"]),
    st.floats(0.3, 1),
    st.sampled_from(["information", "uniform"]),
    st.sampled_from([None, 1, 2, 3, 4, 8]),
)
NET = cnn(samples=16)
DECIDER = decider(NET)


def reachable(request: Request) -> dict[Term, int]:
    """The widths, where rounding leaves any that meet the budget."""
    try:
        return DECIDER.widths(request)
    except InputError:
        reject()


@given(REQUESTS)
@settings(max_examples=60, deadline=None)
def test_the_budget_holds_on_the_exact_cost_whatever_is_asked(request: Request) -> None:
    cost, widths = NET.coupling.cost, reachable(request)
    (budget,) = request.budgets(NET.coupling.free, cost)
    if request.keep is None or request.allocate == "information":
        assert budget.total(cost, widths) <= budget.target
    for group in NET.coupling.free:
        least = int(not NET.coupling.removable(group) or request.allocate == "uniform")
        assert least <= widths[group.atom] <= group.size
        allowed = step_of(NET.coupling, group, request.round_to)
        if request.allocate == "information" or request.round_to is not None:
            assert widths[group.atom] % allowed == 0 or widths[group.atom] == group.size


@given(st.floats(0.01, 1))
@settings(max_examples=30, deadline=None)
def test_uniform_keeps_exactly_its_share(share: float) -> None:
    request = Request(keep=share, allocate="uniform")
    widths = DECIDER.widths(request)
    assert widths == {g.atom: max(1, round(share * g.size)) for g in NET.coupling.free}


def test_keep_is_the_cost_of_the_uniform_cut() -> None:
    groups, cost = NET.coupling.free, NET.coupling.cost
    for share in (0.2, 0.5, 1.0):
        (budget,) = Request(keep=share).budgets(groups, cost)
        assert budget.of == "macs" and budget.target == cost.macs(uniform(groups, share))
    macs, params = Request(macs=0.5, params=0.5).budgets(groups, cost)
    assert macs.of == "macs" and macs.target == int(0.5 * cost.macs({}))
    assert params.of == "params" and params.target == int(0.5 * cost.params({}))


@pytest.mark.parametrize("allocate", ["information", "uniform"])
@pytest.mark.parametrize("kind", ["macs", "params"])
def test_a_budget_out_of_reach_is_refused(kind: str, allocate: str) -> None:
    request = Request(**{kind: 1e-3}, allocate=allocate)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"of the {kind}") as caught:
        DECIDER.widths(request)
    assert f"--{kind}" in caught.value.hint


# ---------------------------------------------------------------- patterns


def test_patterns_choose_groups() -> None:
    coupling = NET.coupling
    names = lambda *args: [g.name for g in chosen_groups(coupling, *args)[0]]  # noqa: E731
    assert names((), ()) == ["stem:out", "wide:out", "inner:out", "hidden:out"]
    assert names(("*i*:out",), ()) == ["wide:out", "inner:out", "hidden:out"]
    assert names((), ("wide*", "hidden:out")) == ["stem:out", "inner:out"]
    assert names(("stem:out", "inner:out"), ("inner*",)) == ["stem:out"]


@pytest.mark.parametrize(("only", "exclude"), [(("nothing*",), ()), ((), ("WIDE:OUT",)),
                                               (("stem:out", "typo"), ())])  # fmt: skip
def test_a_pattern_that_matches_nothing_is_refused(
    only: tuple[str, ...], exclude: tuple[str, ...]
) -> None:
    with pytest.raises(InputError, match="no group is named like") as caught:
        chosen_groups(NET.coupling, only, exclude)
    assert "inspect" in caught.value.hint


@pytest.mark.parametrize(("only", "exclude"), [((), ("*",)), (("head:out",), ())])
def test_nothing_left_to_prune_is_refused(only: tuple[str, ...], exclude: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"nothing can be pruned.*interface"):
        chosen_groups(NET.coupling, only, exclude)


# ---------------------------------------------------------------- units


def two_halves() -> Toy:
    """fc0 units 0..3 feed fc1 units 0..3, loud 4..7 feed 4..7, of which the output hears little."""
    net = Net(0)
    x = net.input("x", ("batch", 8))
    first = net.weight("a.w", np.eye(8))
    gain = np.diag([1.0] * 4 + [3.0] * 4)
    a = net.relu(net.node("MatMul", x, first, name="a"))
    b = net.relu(net.node("MatMul", a, net.weight("b.w", gain), name="b"))
    last = np.abs(net.rng.normal(size=(8, 3))) * np.array([[1.0]] * 4 + [[1e-3]] * 4)
    y = net.node("MatMul", b, net.weight("c.w", last), name="c")
    feeds = [{"x": net.rng.normal(size=(400, 8)).astype(np.float32)}]
    return Toy(net.proto({y: ("batch", 3)}), feeds)


def test_units_below_are_chosen_for_what_is_kept_above() -> None:
    toy = two_halves()
    request = Request(keep=0.5, allocate="uniform")
    made = decider(toy, "mi")
    lower, upper = toy.group("a"), toy.group("b")
    assert made.rankings[lower.atom].keep(4).tolist() == [4, 5, 6, 7]  # seen alone
    decision = made.decide(request)
    assert decision.keep.tables[upper.atom].tolist() == [0, 1, 2, 3]
    assert decision.keep.tables[lower.atom].tolist() == [0, 1, 2, 3]


@given(REQUESTS)
@settings(max_examples=20, deadline=None)
def test_a_decision_keeps_what_it_says(request: Request) -> None:
    made, widths = DECIDER, reachable(request)
    decision = made.decide(request)
    for group, planned in zip(NET.coupling.free, decision.groups, strict=True):
        assert (planned.name, planned.size, planned.kind) == (group.name, group.size, group.kind)
        assert len(planned.keep) == widths[group.atom]
        assert list(planned.keep) == sorted(set(planned.keep))
        assert planned.loss >= 0 and 0 <= planned.information <= 1
        assert (group.atom in decision.keep.tables) == (len(planned.keep) < group.size)
    assert decision.predicted == pytest.approx(made.loss(widths))


def test_one_decider_answers_every_budget() -> None:
    losses = [DECIDER.decide(Request(keep=share)).predicted for share in (0.3, 0.5, 0.7, 1.0)]
    assert losses == sorted(losses, reverse=True) and losses[-1] == 0


class Optimist:
    """A meter to which going entirely is cheap to second order, and really costs `run`."""

    def __init__(self, run: float) -> None:
        self.run, self.asked = run, 0

    def to_second_order(self, cuts: list[tuple[Group, Array]]) -> Array:
        return np.array([1e-6 if group.name.startswith("inner") else 1.0 for group, _ in cuts])

    def kl(self, group: Group, kept: Array) -> float:
        self.asked += 1
        return self.run


@pytest.mark.parametrize(("run", "goes"), [(0.0, True), (1e3, False)])
def test_a_branch_is_run_without_before_it_goes(run: float, goes: bool) -> None:
    meter = Optimist(run)
    made = Decider(NET.evidence, NET.coupling.free, "magnitude", meter)  # type: ignore[arg-type]
    assert not meter.asked
    inner = NET.group("inner").atom
    decision = made.decide(Request(macs=0.6))
    assert meter.asked and (decision.keep.size(inner) == 0) == goes
    again = Decider(NET.evidence, NET.coupling.free, "magnitude", meter)  # type: ignore[arg-type]
    again.decide(Request(macs=0.3))  # other budgets asked before change nothing
    assert again.decide(Request(macs=0.6)).groups == decision.groups
