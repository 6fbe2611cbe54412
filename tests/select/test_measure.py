"""The meter: what it says of a group is what really cutting that group costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Array, Net, Toy, cnn, mlp

from mipack.couple.solve import Group
from mipack.refit.bottom_up import local
from mipack.refit.choose import divergence
from mipack.select.criteria import magnitude
from mipack.select.eliminate import Ranking
from mipack.select.measure import (
    NEAR_AND_FAR,
    SHARES,
    TRUST,
    Meter,
    alone,
    calibrated,
    covered,
    tells,
    to_second_order,
)
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep


def really(toy: Toy, group: Group, kept: Array, refit: bool) -> float:
    """The KL of the model that was cut and refitted by the stages that do so."""
    keep = Keep.of({group: kept})
    model = cut(toy.coupling, keep)
    if refit:
        model = local(toy.coupling, toy.sites, keep, model, toy.calibration).model
    assert toy.known.head is not None
    return float(divergence(model, toy.known, toy.batches).mean())


def assert_measured(toy: Toy, group: Group, *, refit: bool = True) -> None:
    meter = Meter(toy.evidence, toy.known, toy.batches, refit)
    for share in SHARES:
        kept = magnitude(toy.evidence, group, {}).keep(max(1, round(share * group.size)))
        want = really(toy, group, kept, refit)
        assert want > 1e-6
        assert meter.kl(group, kept) == pytest.approx(want, rel=1e-3, abs=1e-8)


def test_a_branch_that_goes_costs_what_the_model_without_it_costs() -> None:
    toy = cnn(samples=48)
    group, meter = toy.group("inner"), Meter(toy.evidence, toy.known, toy.batches, True)
    none = np.zeros(0, np.int64)
    want = really(toy, group, none, True)
    assert want > 1e-6 and meter.kl(group, none) == pytest.approx(want, rel=1e-3)


def test_the_curve_of_what_may_go_ends_at_what_that_costs() -> None:
    ranking = Ranking(np.arange(8), np.linspace(1, 0, 9))
    for none in (3.0, 1e-3):
        meter = lambda kept, none=none: 0.1 if len(kept) else none  # noqa: E731
        curve, plain = (
            calibrated(ranking, alone(ranking, meter, removable=may)) for may in (True, False)
        )
        assert curve.loss[0] == max(none, curve.loss[1]) and (np.diff(curve.loss) <= 0).all()
        assert (curve.loss[1:] == plain.loss[1:]).all()


def finished(net: Net, y: str, *, samples: int = 64, width: int = 6) -> Toy:
    feeds = [{"x": net.rng.normal(size=(samples, width)).astype(np.float32)}]
    return Toy(net.proto({y: ("batch", None)}), feeds, size=24)


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("name", ["stem", "wide", "inner", "hidden"])
def test_a_group_of_a_convolutional_net(name: str, refit: bool) -> None:
    toy = cnn(samples=48)
    assert covered(toy.coupling, toy.group(name))
    assert_measured(toy, toy.group(name), refit=refit)


def test_dense_layers_with_and_without_bias() -> None:
    net = Net(1)
    h = net.relu(net.dense(net.input("x", ("batch", 6)), 6, 10, name="a", bias=False))
    h = net.relu(net.dense(h, 10, 8, name="b", bias=False))
    toy = finished(net, net.dense(h, 8, 3, name="c"))
    for name in ("a", "b"):
        assert_measured(toy, toy.group(name))


def test_the_whole_group_costs_nothing() -> None:
    toy = mlp(6, 10, 3)
    meter = Meter(toy.evidence, toy.known, toy.batches, True)
    assert meter.kl(toy.group("fc0"), np.arange(10)) == pytest.approx(0, abs=1e-9)


def test_a_depthwise_convolution_passes_the_group_on() -> None:
    net = Net(2)
    h = net.relu(net.conv(net.input("x", ("batch", 3, 6, 6)), 3, 12, name="first"))
    h = net.relu(net.conv(h, 12, 12, name="depthwise", group=12))
    h = net.node("Flatten", net.node("GlobalAveragePool", net.relu(net.conv(h, 12, 8, name="point",
                                                                            k=1))))  # fmt: skip
    feeds = [{"x": net.rng.normal(size=(32, 3, 6, 6)).astype(np.float32)}]
    toy = Toy(net.proto({net.dense(h, 8, 4, name="head"): ("batch", 4)}), feeds)
    assert covered(toy.coupling, toy.group("first"))
    assert_measured(toy, toy.group("first"))


def test_groups_of_a_grouped_convolution() -> None:
    """Whole convolution groups leave: 4 of 3 channels."""
    net = Net(3)
    h = net.relu(net.conv(net.input("x", ("batch", 3, 6, 6)), 3, 12, name="first"))
    h = net.relu(net.conv(h, 12, 8, name="grouped", group=4))
    h = net.node("Flatten", net.node("GlobalAveragePool", net.relu(net.conv(h, 8, 8, name="point",
                                                                            k=1))))  # fmt: skip
    feeds = [{"x": net.rng.normal(size=(32, 3, 6, 6)).astype(np.float32)}]
    toy = Toy(net.proto({net.dense(h, 8, 4, name="head"): ("batch", 4)}), feeds)
    groups = [g for g in toy.coupling.free if g.size == 4]
    assert groups
    for group in groups:
        assert_measured(toy, group)


def products(*, bias: bool, reader: bool) -> Toy:
    """Two dense layers whose product is summed: no weight reads the axis, or one does as well."""
    net = Net(5)
    x = net.input("x", ("batch", 6))
    left, right = (net.dense(x, 6, 12, name=name) for name in ("left", "right"))
    axes = net.weight("axes", np.array([1], np.int64))
    total = net.node("ReduceSum", net.node("Mul", net.relu(left), right), axes)
    last = net.dense(total, 1, 3, name="last")
    if reader:
        last = net.node("Add", last, net.dense(right, 12, 3, name="reader", bias=bias))
    return finished(net, last)


@pytest.mark.parametrize(
    ("bias", "reader"),
    [
        (True, False),
        (True, True),
        (False, True),
    ],
)
def test_a_group_that_products_contract_is_masked(bias: bool, reader: bool) -> None:
    toy = products(bias=bias, reader=reader)
    group = toy.group("left")
    assert group.free and not covered(toy.coupling, group)
    assert_measured(toy, group)


@pytest.mark.parametrize("first", ["early", "late"])
def test_every_output_counts_wherever_it_is_made(first: str) -> None:
    """One is finished before the other's layers begin; either may be declared first."""
    net = Net(8)
    x = net.input("x", ("batch", 6))
    early = net.dense(net.relu(net.dense(x, 6, 10, name="a")), 10, 3, name="early")
    late = net.dense(net.relu(net.dense(x, 6, 10, name="b")), 10, 3, name="late")
    order = (early, late) if first == "early" else (late, early)
    feeds = [{"x": net.rng.normal(size=(64, 6)).astype(np.float32)}]
    toy = Toy(net.proto({name: ("batch", 3) for name in order}), feeds)
    for name in ("a", "b"):
        assert_measured(toy, toy.group(name))


def test_an_output_that_no_node_makes_is_left_out() -> None:
    """It is a weight, which the file returns as it is."""
    net = Net(8)
    x = net.input("x", ("batch", 6))
    answer = net.dense(net.relu(net.dense(x, 6, 10, name="a")), 10, 3, name="last")
    table = net.weight("table", (4, 5))
    feeds = [{"x": net.rng.normal(size=(64, 6)).astype(np.float32)}]
    toy = Toy(net.proto({answer: ("batch", 3), table: (4, 5)}), feeds)
    assert len(toy.known.heads) == 2
    assert_measured(toy, toy.group("a"))


def test_what_no_head_depends_on_costs_nothing() -> None:
    net = Net(8)
    x = net.input("x", ("batch", 6))
    answer = net.dense(x, 6, 3, name="last")
    aside = net.dense(net.relu(net.dense(x, 6, 10, name="a")), 10, 3, name="aside")
    place = net.node("ArgMax", aside, axis=1)
    feeds = [{"x": net.rng.normal(size=(64, 6)).astype(np.float32)}]
    proto = net.proto({answer: ("batch", 3)})
    declared = onnx.helper.make_tensor_value_info(place, onnx.TensorProto.INT64, ["batch", 1])
    proto.graph.output.append(declared)
    toy = Toy(proto, feeds)
    meter = Meter(toy.evidence, toy.known, toy.batches, True)
    assert meter.kl(toy.group("a"), np.arange(5)) == 0


def test_a_group_inside_one_op_is_masked() -> None:
    """Queries and keys of a fused attention: no value that can be seen carries their dims."""
    net = Net(4)
    x = net.input("x", ("batch", 3, 16))
    weights = net.weight("qkv.w", (16, 72)), net.weight("qkv.b", np.zeros(72, np.float32))
    y = net.node("Attention", x, *weights, domain="com.microsoft", num_heads=4)
    flat = net.node("Reshape", y, net.weight("shape", np.array([-1, 72])))
    proto = net.proto(net.dense(flat, 72, 3, name="last"))
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    toy = Toy(proto, [{"x": net.rng.normal(size=(64, 3, 16)).astype(np.float32)}])
    inside = [group for group in toy.coupling.free if not toy.evidence.readers(group)]
    assert inside
    for group in inside:
        assert_measured(toy, group)


def test_shared_weights_are_measured_as_they_are_refitted() -> None:
    net = Net(6)
    h = net.relu(net.dense(net.input("x", ("batch", 6)), 6, 10, name="first"))
    shared = net.weight("shared.w", (10, 10))
    h = net.relu(net.node("MatMul", h, shared, name="one"))
    h = net.relu(net.node("MatMul", h, shared, name="two"))
    toy = finished(net, net.dense(h, 10, 3, name="head"))
    assert_measured(toy, toy.group("first"))


def test_padding_and_half_full_batches_do_not_count() -> None:
    """A model of fixed batch 24 on 64 samples: the last batch is filled up."""
    net = Net(7)
    h = net.relu(net.dense(net.input("x", (24, 6)), 6, 10, name="first"))
    y = net.dense(h, 10, 3, name="head")
    feeds = [{"x": net.rng.normal(size=(64, 6)).astype(np.float32)}]
    fixed = Toy(net.proto({y: (24, 3)}), feeds)
    net.inputs.clear()
    net.input("x", ("batch", 6))
    free = Toy(net.proto({y: ("batch", 3)}), feeds)
    kls = []
    for toy in (fixed, free):
        meter = Meter(toy.evidence, toy.known, toy.batches, True)
        kls.append(meter.kl(toy.group("first"), np.arange(5)))
    assert kls[0] == pytest.approx(kls[1], rel=1e-4)


# ---------------------------------------------------------------- curves


def ranking(steps: list[float]) -> Ranking:
    loss = np.concatenate([[0.0], np.cumsum(steps)])[::-1]
    return Ranking(np.arange(len(steps)), loss)


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=40),
    st.lists(st.floats(0, 100), min_size=2, max_size=2),
)
@settings(max_examples=100, deadline=None)
def test_a_calibrated_curve_falls_to_zero(steps: list[float], answers: list[float]) -> None:
    replies = iter(answers)
    made = ranking(steps)
    curve = calibrated(made, alone(made, lambda kept: next(replies)))
    assert curve.loss.shape == (len(steps) + 1,)
    assert (np.diff(curve.loss) <= 0).all() and curve.loss[-1] == 0
    assert np.isfinite(curve.loss).all()


@given(st.integers(4, 60), st.floats(0.01, 100), st.floats(1, 5))
@settings(deadline=None)
def test_a_curve_passes_through_what_was_measured(units: int, scale: float, steeper: float) -> None:
    made = ranking([1.0 / units] * units)
    wide, narrow = (max(1, round(share * units)) for share in SHARES)
    truth = {wide: scale * float(made.loss[wide])}
    truth[narrow] = max(truth[wide], scale * steeper * float(made.loss[narrow]))
    curve = calibrated(made, alone(made, lambda kept: truth[len(kept)]))
    for width, value in truth.items():
        assert curve.loss[width] == pytest.approx(value, rel=1e-6)
    assert len(curve.ratios) == len(truth)


def test_without_a_meter_the_prediction_stays() -> None:
    made = ranking([0.1, 0.2, 0.3])
    assert calibrated(made, None).loss.tolist() == made.loss.tolist()
    assert calibrated(made, None).ratios == ()


def test_a_meter_in_nats_makes_groups_comparable() -> None:
    """Whatever unit a prediction has: twice the curve gives the same result."""
    made = ranking([0.1, 0.2, 0.3, 0.9])
    double = Ranking(made.order, 2 * made.loss)
    meter = lambda kept: 1.0 / len(kept)  # noqa: E731
    np.testing.assert_allclose(*(calibrated(r, alone(r, meter)).loss for r in (made, double)))


def test_a_masked_group_without_refit_needs_no_new_bias() -> None:
    """A reader without a bias of its own, and no refit that would want one."""
    toy = products(bias=False, reader=True)
    meter = Meter(toy.evidence, toy.known, toy.batches, False)
    assert meter.kl(toy.group("left"), np.arange(6)) > 0


class Told:
    """A meter that knows what every cut costs to second order: `nats` times the units that go."""

    def __init__(self, nats: dict[str, float]) -> None:
        self.nats, self.asked = nats, 0

    def to_second_order(self, cuts: list[tuple[Group, Array]]) -> Array:
        self.asked += 1
        return np.array([self.nats[group.name] * (8 - len(kept)) for group, kept in cuts])


def told(nats: list[float], *, removable: bool = False, known: bool = True) -> list[object]:
    net = mlp(4, *[8] * len(nats), 3)
    groups = net.coupling.free
    rankings = {
        group: replace(ranking([1.0 + k] * 8), nats=known) for k, group in enumerate(groups)
    }
    meter = Told({group.name: each for group, each in zip(groups, nats, strict=True)})
    found = to_second_order(rankings, meter, lambda _: removable)  # type: ignore[arg-type]
    assert meter.asked == 1  # all of them in one pass
    return [found.get(group) for group in groups]


def test_ratios_in_nats_are_drawn_to_what_they_have_in_common() -> None:
    first, second = told([4.0, 2.0])
    level = 2.0  # the middle of 4 / 1 and 2 / 2
    assert first.ratios == pytest.approx([level * (4 / level) ** TRUST] * len(NEAR_AND_FAR))  # type: ignore[attr-defined]
    assert second.ratios == pytest.approx([level * (1 / level) ** TRUST] * len(NEAR_AND_FAR))  # type: ignore[attr-defined]


def test_ratios_of_losses_without_a_unit_are_taken_as_they_are() -> None:
    first, second = told([4.0, 2.0], known=False)
    assert first.ratios == pytest.approx([4.0] * 3) and second.ratios == pytest.approx([1.0] * 3)  # type: ignore[attr-defined]


def test_keeping_nothing_is_asked_for_where_that_is_a_choice() -> None:
    assert [made.nothing for made in told([4.0, 2.0], removable=True)] == [32.0, 16.0]  # type: ignore[attr-defined]
    assert [made.nothing for made in told([4.0, 2.0])] == [None, None]  # type: ignore[attr-defined]


def test_what_no_change_of_weights_tells_is_left_to_the_meter() -> None:
    assert told([float("nan"), 2.0])[0] is None


def test_a_change_does_not_tell_what_a_product_reads_beside_a_weight() -> None:
    toy = products(bias=True, reader=True)
    assert not tells(toy.evidence, toy.group("left"))
    cuts = [(toy.group("left"), np.arange(6))]
    meter = Meter(toy.evidence, toy.known, toy.batches, True, lambda made: np.zeros(len([*made])))
    assert np.isnan(meter.to_second_order(cuts)).all()  # type: ignore[arg-type]


def test_without_gradients_nothing_is_known_to_second_order() -> None:
    toy = mlp(6, 10, 3)
    meter = Meter(toy.evidence, toy.known, toy.batches, True)
    assert meter.to_second_order([(toy.group("fc0"), np.arange(4))]) is None
