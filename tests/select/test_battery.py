"""What every criterion owes, whatever it believes: one battery over all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from laws.lawkit import Build
from onnx import numpy_helper
from toys import Array, Toy, cnn, mlp

from mipack.calibrate import moments as moments_module
from mipack.couple.solve import Group
from mipack.select import predict_mlp
from mipack.select.criteria import CRITERIA, OF_GRADIENTS, mipp
from mipack.select.eliminate import Ranking
from mipack.select.estimators import ESTIMATORS
from mipack.select.evidence import CriterionOptions, Evidence

Told = tuple[str, CriterionOptions]
PLAIN = [(name, CriterionOptions()) for name in CRITERIA]
ESTIMATED = [
    ("mi-layerwise", CriterionOptions(estimator=name)) for name in ESTIMATORS if name != "joint"
]
TRAINED = ("mipp", CriterionOptions(mipp_predictor="mlp"))
EVERY = [*PLAIN, *ESTIMATED[:-1], TRAINED]
"""Nearest neighbours are a matter of minutes on more than a small layer."""
BLIND = ("magnitude", "magnitude-l1", "random")
"""They see no data."""
CONDITIONAL = ("mi", "mipp", "obs", "sdp")
"""They know what other units tell."""


def named(case: Told) -> str:
    name, told = case
    plain = CriterionOptions()
    more = [v for v in (told.estimator, told.mipp_predictor) if v not in (plain.estimator, "ridge")]
    return "-".join([name, *more])


def every(cases: list[Told]) -> Callable[..., object]:
    return pytest.mark.parametrize("case", cases, ids=named)


def but(*names: str) -> list[Told]:
    return [case for case in EVERY if case[0] not in names]


def seen(case: Told, toy: Toy) -> Evidence:
    name, told = case
    return replace(toy.with_gradients if name in OF_GRADIENTS else toy.evidence, options=told)


def ranked(case: Told, toy: Toy, group: Group) -> Ranking:
    return CRITERIA[case[0]](seen(case, toy), group, {})


def assert_sound(ranking: Ranking, group: Group) -> None:
    assert ranking.order.shape == group.shape
    np.testing.assert_array_equal(
        np.sort(ranking.order, -1), np.broadcast_to(np.arange(group.size), group.shape)
    )
    assert ranking.loss.shape == (group.size + 1,)
    assert np.isfinite(ranking.loss).all() and ranking.loss[-1] == 0
    assert (np.diff(ranking.loss) <= 1e-9).all()
    for width in (0, 1, group.size // 2, group.size):
        kept = ranking.keep(width)
        assert kept.shape == (*group.shape[:-1], width)
        assert (np.diff(kept) > 0).all()


UNITS = 12


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network, hardly trained: what it believes is not the matter here."""
    for name, value in (("HIDDEN", 16), ("EPOCHS", 8), ("STEPS", (1, 2))):
        monkeypatch.setattr(predict_mlp, name, value)


def changed(toy: Toy, **arrays: Array) -> Toy:
    """The same with other weights, `__` for a dot."""
    proto = onnx.ModelProto()
    proto.CopyFrom(toy.proto)
    for tensor in proto.graph.initializer:
        name = tensor.name.replace(".", "__")
        if name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[name].astype("f4"), tensor.name))
    return Toy(proto, toy.feeds)


def layer(samples: int = 400) -> Toy:
    """x [6] -> fc0 [UNITS] -> fc1 [7] -> fc2 [3]."""
    return mlp(6, UNITS, 7, 3, samples=samples)


def weights(toy: Toy) -> tuple[Array, Array, Array]:
    """Of fc0's units: what makes them [6, units] and [units], what reads them [units, 7]."""
    return tuple(toy.coupling.constants[name].copy() for name in ("fc0.w", "fc0.b", "fc1.w"))  # type: ignore[return-value]


def remade(toy: Toy, made: Array, bias: Array, read: Array) -> Toy:
    return changed(toy, fc0__w=made, fc0__b=bias, fc1__w=read)


def transformer() -> Toy:
    """Whole heads are coupled to the dims inside them: families of 3 contexts."""
    b = Build(x=("batch", 5, 12))
    q, k, v = (b.heads(b.lin("x", 12, 12), 3, 4) for _ in range(3))
    h = b.Add("x", b.lin(b.attend(q, k, v, 3, 4), 12, 12))
    y = b.lin(b.Relu(b.lin(h, 12, 10)), 10, 4)
    rng = np.random.default_rng(0)
    return Toy(b.proto([y], 17), [{"x": rng.normal(size=(40, 5, 12)).astype("f4")}])


@pytest.fixture(scope="module", params=[layer, cnn, transformer], ids=lambda make: make.__name__)
def net(request: pytest.FixtureRequest) -> Toy:
    made: Toy = request.param()
    return made


@every(EVERY)
def test_rankings_are_permutations_with_falling_curves(case: Told, net: Toy) -> None:
    for group in net.coupling.free:
        assert_sound(ranked(case, net, group), group)


def test_nearest_neighbours_rank_too() -> None:
    toy = mlp(4, 5, 3, samples=80)
    assert_sound(ranked(ESTIMATED[-1], toy, toy.group("fc0")), toy.group("fc0"))


def test_families_are_ranked_context_by_context() -> None:
    toy = transformer()
    assert {g.shape for g in toy.coupling.free if g.within} == {(3, 4)}


@every(EVERY)
def test_the_same_again_is_the_same(case: Told) -> None:
    first, second = (ranked(case, toy, toy.group("fc0")) for toy in (layer(), layer()))
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_array_equal(first.loss, second.loss)


@every([case for case in but("random") if case != TRAINED])
def test_units_in_another_order_are_ranked_alike(case: Told) -> None:
    """Chance goes by place, and a network starts from chance."""
    toy, shuffle = layer(), np.random.default_rng(3).permutation(UNITS)
    made, bias, read = weights(toy)
    other = remade(toy, made[:, shuffle], bias[shuffle], read[shuffle])
    first, second = (ranked(case, t, t.group("fc0")) for t in (toy, other))
    if case[0] == "mipp":  # what costs nothing goes in any order
        width = int(np.flatnonzero(first.loss > 0).max(initial=0))
        assert set(shuffle[second.keep(width)]) == set(first.keep(width))
    else:
        np.testing.assert_array_equal(shuffle[second.order], first.order)
    np.testing.assert_allclose(second.loss, first.loss, rtol=1e-3, atol=1e-6)


@every(but(*BLIND))
def test_a_common_scale_changes_nothing(case: Told) -> None:
    """Units four times as large, read by weights four times as small: the same model."""
    toy = layer()
    made, bias, read = weights(toy)
    other = remade(toy, 4 * made, 4 * bias, read / 4)
    first, second = (ranked(case, t, t.group("fc0")) for t in (toy, other))
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_allclose(second.loss, first.loss, rtol=1e-6)


@every([("wanda", CriterionOptions()), *ESTIMATED[:-1]])
def test_a_scale_of_each_unit_changes_nothing(case: Told) -> None:
    toy, scale = layer(), 2.0 ** (np.arange(UNITS) % 5 - 2)
    made, bias, read = weights(toy)
    other = remade(toy, made * scale, bias * scale, read / scale[:, None])
    first, second = (ranked(case, t, t.group("fc0")) for t in (toy, other))
    np.testing.assert_array_equal(first.order, second.order)


@every(but(*BLIND))
def test_dead_units_go_first(case: Told) -> None:
    toy = layer()
    made, bias, read = weights(toy)
    made[:, [2, 7]], bias[[2, 7]] = 0, -1
    other = remade(toy, made, bias, read)
    found = ranked(case, other, other.group("fc0"))
    costs = np.flatnonzero(found.loss > 1e-6).max()  # the most that stay at a cost
    assert not {2, 7} & set(found.keep(min(costs, UNITS - 2)))


@every(but(*BLIND, "wanda", *OF_GRADIENTS))
def test_constant_units_go_before_the_others(case: Told) -> None:
    """The bias that replaces them is free; who asks what 0 would do instead does not know."""
    toy = layer()
    made, bias, read = weights(toy)
    made[:, 4], bias[4] = 0, 3
    other = remade(toy, made, bias, read)
    assert 4 not in ranked(case, other, other.group("fc0")).keep(UNITS // 2)


@every(EVERY)
def test_duplicates_do_no_harm(case: Told) -> None:
    toy = layer()
    made, bias, read = weights(toy)
    half = UNITS // 2
    made[:, half:], bias[half:] = made[:, :half], bias[:half]
    other = remade(toy, made, bias, read)
    found = ranked(case, other, other.group("fc0"))
    assert_sound(found, other.group("fc0"))
    if case[0] in CONDITIONAL and case != TRAINED:
        assert sorted(found.keep(half) % half) == list(range(half))


@every(EVERY)
def test_a_dead_layer_and_a_single_row_are_ranked(case: Told) -> None:
    """Covariances of 0 have no inverse."""
    toy = layer()
    made, bias, read = weights(toy)
    dead = remade(toy, 0 * made, 0 * bias - 1, read)
    for other in (dead, layer(1), layer(3)):
        assert_sound(ranked(case, other, other.group("fc0")), other.group("fc0"))


@every([case for case in EVERY if case[0] != "random"])
def test_only_what_is_kept_above_counts(case: Told) -> None:
    """Where a criterion looks above at all: a unit that only lost outputs hear of goes early."""
    toy = layer()
    made, bias, read = weights(toy)
    read[:] = np.abs(read)
    read[5, :3], read[5, 3:] = 0, 9
    read[:5, 3:] = read[6:, 3:] = 0
    other = remade(toy, made, bias, read)
    name, evidence, group = case[0], seen(case, other), other.group("fc0")
    found = CRITERIA[name](evidence, group, {"fc1": np.arange(3)})
    assert_sound(found, group)
    if name in ("mi", "mipp", "sdp"):
        assert 5 not in found.keep(UNITS // 2)


@every(EVERY)
def test_sites_too_wide_for_products(case: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments_module, "FEATURES_MOST", 5)
    toy = layer()
    assert not toy.calibration.moments["fc1"].full
    assert_sound(ranked(case, toy, toy.group("fc0")), toy.group("fc0"))


def test_the_battery_covers_all() -> None:
    assert {name for name, _ in EVERY} == set(CRITERIA) and mipp in CRITERIA.values()
