"""The law of time: made-up times of single ops and steps, real graphs; no time is asserted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from toys import Net, Toy, cnn, mlp

from mipack.bench.alone import NODE, Alone, Solo
from mipack.bench.law import (
    KNOTS,
    Counted,
    Law,
    Tabled,
    contracted,
    knots_of,
    law_of,
    shapes_in,
)
from mipack.bench.profile import Profile, Step, op_seconds, profile
from mipack.graph.load import runnable
from mipack.layout import Layout
from mipack.runtime.session import Session
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep

NET = cnn(samples=4)
NONE = Counted([])
FEEDS = NET.feeds[0]


def shapes(toy: Toy) -> dict[str, tuple[int, ...]]:
    return shapes_in(toy.coupling.model, contracted(toy.coupling), toy.feeds[0])


def alone(toy: Toy, name: str) -> Alone:
    node = next(n for n in toy.coupling.model.graph if n.name == name)
    return Alone(toy.coupling, node, shapes(toy))


def weights(solo: Solo) -> list[tuple[int, ...]]:
    """Shapes of the constants of a node on its own."""
    import onnx

    return [tuple(t.dims) for t in onnx.ModelProto.FromString(solo.model).graph.initializer]


# ---------------------------------------------------------------- one node alone


def test_a_node_alone_has_the_shapes_that_it_has_after_the_cut() -> None:
    wide, inner = NET.group("wide"), NET.group("inner")
    solo = alone(NET, "outer").at({wide.atom: 8, inner.atom: 3})
    assert weights(solo)[0] == (8, 3, 3, 3)
    assert [array.shape for array in solo.feeds.values()] == [(4, 3, 4, 4)]
    (result,) = Session(solo.model).run(solo.feeds).values()
    assert result.shape == (4, 8, 4, 4)


def test_every_contraction_runs_alone_at_any_widths() -> None:
    rng = np.random.default_rng(0)
    for node in NET.coupling.model.graph:
        if (node.name or "") not in NET.coupling.said.products:
            continue
        op = Alone(NET.coupling, node, shapes(NET))
        for _ in range(3):
            widths = {a: int(rng.integers(1, a.size[0] + 1)) for a in op.atoms}
            solo = op.at(widths)
            assert Session(solo.model).run(solo.feeds)


def grouped() -> Toy:
    """Four groups of two channels between two ordinary convolutions."""
    net = Net(0)
    x = net.input("x", ("batch", 2, 4, 4))
    first = net.relu(net.conv(x, 2, 8, name="first"))
    y = net.conv(net.conv(first, 8, 8, name="middle", group=4), 8, 3, name="last")
    feeds = [{"x": net.rng.normal(size=(4, 2, 4, 4)).astype(np.float32)}]
    return Toy(net.proto({y: [None] * 4}), feeds)


def test_attributes_that_spell_sizes_follow() -> None:
    toy = grouped()
    op = alone(toy, "middle")
    whole = next(g for g in toy.coupling.free if g.size == 4 and g.atom in op.atoms)
    solo = op.at({whole.atom: 2})
    (result,) = Session(solo.model).run(solo.feeds).values()
    assert result.shape == (4, 4, 4, 4) and "group=2" in solo.key


def test_a_node_in_blocked_layout_is_fed_in_blocks() -> None:
    """By a convolution; its own time is told apart from that one's and from layout changes."""
    node = next(n for n in NET.coupling.model.graph if n.name == "outer")
    solo = Alone(NET.coupling, node, shapes(NET), blocked=True).at({NET.group("inner").atom: 4})
    assert solo.key != alone(NET, "outer").at({NET.group("inner").atom: 4}).key
    assert [array.shape for array in solo.feeds.values()] == [(4, 1, 4, 4)]
    assert Session(solo.model).run(solo.feeds)[NODE].shape == (4, 16, 4, 4)
    assert op_seconds(solo.model, solo.feeds, NODE, threads=1, provider="cpu", seconds=0.0) > 0


def test_layers_of_one_shape_share_a_time_and_others_do_not() -> None:
    toy = mlp(8, 16, 16, 16, 4)
    inner = [alone(toy, name) for name in ("fc1", "fc2")]
    assert inner[0].at({}).key == inner[1].at({}).key
    assert alone(toy, "fc0").at({}).key != inner[0].at({}).key
    assert inner[0].at({inner[0].atoms[0]: 8}).key != inner[0].at({}).key


# ---------------------------------------------------------------- tables


def test_times_are_measured_at_knots_and_linear_between_them() -> None:
    toy = mlp(8, 100, 4)
    op, group = alone(toy, "fc0"), toy.group("fc0")
    asked: list[int] = []

    def seconds(solo: Solo) -> float:
        asked.append(weights(solo)[0][1])
        return float(asked[-1]) ** 2

    table = Tabled([op], seconds, {group.atom: (10, 50, 100)}, NONE)
    assert table.at((100,)) == 1.0
    assert table.at((50,)) == pytest.approx(0.25)
    assert table.at((75,)) == pytest.approx((0.25 + 1) / 2)
    assert table.at((10,)) == pytest.approx(0.01)
    assert table.at((4,)) == pytest.approx(0.0016)  # outside of the knots it is asked for
    assert sorted(set(asked)) == [4, 10, 50, 100] and len(asked) == 4


def test_pairs_of_widths_are_interpolated_both_ways() -> None:
    toy = mlp(8, 20, 30, 4)
    a, b = toy.group("fc0").atom, toy.group("fc1").atom
    op = alone(toy, "fc1")
    table = Tabled(
        [op], lambda solo: float(np.prod(weights(solo)[0])), {a: (10, 20), b: (10, 30)}, NONE
    )
    at = {a: 15, b: 20}
    assert table.at(tuple(at[atom] for atom in table.atoms)) == pytest.approx(15 * 20 / 600)


def test_what_is_cut_away_takes_no_time() -> None:
    toy = mlp(8, 20, 4)
    group = toy.group("fc0")
    table = Tabled([alone(toy, "fc0")], lambda solo: 1.0, {group.atom: (0, 10, 20)}, NONE)
    assert table.at((0,)) == 0.0


def test_an_axis_of_several_groups_is_gone_only_with_all_of_them() -> None:
    net = Net(0)
    x = net.input("x", ("batch", 2, 4, 4))
    sides = [net.relu(net.conv(x, 2, 4, name=name)) for name in ("left", "right")]
    y = net.conv(net.node("Concat", *sides, axis=1), 8, 3, name="last")
    feeds = [{"x": net.rng.normal(size=(4, 2, 4, 4)).astype(np.float32)}]
    toy = Toy(net.proto({y: [None] * 4}), feeds)
    left, right = toy.group("left").atom, toy.group("right").atom
    op = alone(toy, "last")
    assert weights(op.at({left: 0}))[0] == (3, 4, 3, 3)
    table = Tabled([op], lambda solo: float(weights(solo)[0][1]), {}, NONE)
    at = [{left: 0, right: 4}, {left: 4, right: 0}, {left: 0, right: 0}]
    ratios = [table.at(tuple(widths[atom] for atom in table.atoms)) for widths in at]
    assert ratios == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("count", [1, 3, KNOTS, KNOTS + 1, 96])
def test_knots_hold_both_ends(count: int) -> None:
    widths = range(16, 16 * count + 1, 16)
    knots = knots_of(widths)
    assert knots[0] == widths[0] and knots[-1] == widths[-1]
    assert len(knots) <= KNOTS and set(knots) <= set(widths)
    assert list(knots) == sorted(set(knots))


# ---------------------------------------------------------------- the law


def macs_of(toy: Toy) -> Callable[[Solo], float]:
    """Times in proportion to the elements of the weight."""
    return lambda solo: float(np.prod(weights(solo)[0]))


def test_the_law_adds_up_steps_and_what_stays() -> None:
    toy = mlp(8, 20, 4)
    group = toy.group("fc0")
    steps = (
        Step("MatMul", ("x", "fc0.w"), ("fc0",), 2e-3),
        Step("Add", ("fc0", "fc0.b"), ("fc0.add",), 1e-3),
        Step("MatMul", ("relu2", "fc1.w"), ("fc1",), 2e-3),
        Step("Somewhere", ("?",), ("??",), 1e-3),
    )
    law = law_of(toy.coupling, Profile(steps, 10e-3), shapes(toy), macs_of(toy), {})
    assert law.full == 10_000_000
    assert law.total({group.atom: 10}) == pytest.approx(10e6 - 2.5e6)
    assert law.total({group.atom: 0}) == pytest.approx(5e6)  # the unknown and what is between
    curve = law.curve(group.atom, {}, np.array([0, 10, 20]))
    assert curve.tolist() == pytest.approx([0, 2.5e6, 5e6])


def test_a_step_does_not_do_what_lies_beside_what_it_reads() -> None:
    """Back from a joined stream to one branch of it, the other leads to the model's input."""
    graph = NET.coupling.model.graph
    joined = next(
        n.outputs[0].name for n in graph if n.op_type == "Relu" and n.inputs[0].name == "join"
    )  # type: ignore[union-attr]
    asked: list[Solo] = []
    steps = (Step("ReorderOutput", ("outer",), (joined or "",), 1e-3),)
    law = law_of(
        NET.coupling, Profile(steps, 1e-3), shapes(NET), lambda op: asked.append(op) or 1.0, {}
    )
    assert not asked
    assert law.total({NET.group("stem").atom: 1}) == law.full
    assert law.total({NET.group("wide").atom: 8}) == pytest.approx(law.full / 2)


def test_a_profiler_that_takes_time_itself_is_scaled_away() -> None:
    toy = mlp(8, 20, 4)
    steps = (Step("MatMul", ("x", "fc0.w"), ("fc0",), 8e-3),)
    law = law_of(toy.coupling, Profile(steps, 4e-3), shapes(toy), macs_of(toy), {})
    assert law.full == 4_000_000


def test_curve_and_total_speak_of_the_same_time() -> None:
    layout = Layout()
    a, b = layout.atom(6), layout.atom(5)
    law = Law(1.0, [(2.0, Counted([[a, b]])), (3.0, Counted([[b]]))])
    for other in (1, 3, 5):
        totals = [law.total({a: w, b: other}) for w in (1, 4, 6)]
        curve = law.curve(a, {b: other}, np.array([1, 4, 6]))
        assert np.diff(totals).tolist() == pytest.approx(np.diff(curve).tolist())


def test_an_op_that_cannot_run_alone_goes_by_its_multiply_adds() -> None:
    toy = mlp(8, 20, 4)

    def refuses(solo: Solo) -> float:
        raise ValueError("not this one")

    def only_whole(solo: Solo) -> float:
        return 1.0 if weights(solo)[0] == (8, 20) else refuses(solo)

    steps = (Step("MatMul", ("x", "fc0.w"), ("fc0",), 2e-3),)
    for seconds in (refuses, only_whole):
        law = law_of(toy.coupling, Profile(steps, 2e-3), shapes(toy), seconds, {})
        assert law.total({toy.group("fc0").atom: 5}) == pytest.approx(0.5e6)


@pytest.mark.parametrize("toy", [NET, mlp(8, 32, 16, 4), grouped()])
def test_a_real_profile_finds_every_contraction(toy: Toy) -> None:
    """Fused, renamed or in blocked layout: cutting everything to nothing leaves no time in them."""
    coupling = toy.coupling
    with runnable(coupling.model) as source:
        found = profile(source, toy.feeds[0], threads=1, provider="cpu", seconds=0.01)
    asked: set[str] = set()

    def seconds(solo: Solo) -> float:
        asked.add(solo.key)
        return 1.0

    law_of(coupling, found, shapes(toy), seconds, {})
    every = [n for n in coupling.model.graph if (n.name or "") in coupling.said.products]
    plain = {Alone(coupling, node, shapes(toy)).at({}).key for node in every}
    assert {key.replace(', "blocked"', "") for key in asked} == plain
    assert found.seconds > 0 and all(step.seconds > 0 for step in found.steps)


def test_leading_units_make_the_cut_of_these_widths() -> None:
    widths = {group: max(1, group.size // 2) for group in NET.coupling.free}
    keep = Keep.leading(widths)
    assert {g.atom: keep.size(g.atom) for g in widths} == {g.atom: w for g, w in widths.items()}
    with runnable(cut(NET.coupling, keep)) as source:
        assert Session(source).run(FEEDS)
