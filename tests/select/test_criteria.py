"""Criteria against direct computations on the weights and activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from toys import Array, Net, Toy, cnn, mlp

from mipack.calibrate.sites import Site
from mipack.couple.solve import Group
from mipack.graph.probe import session_with
from mipack.pipeline import prune
from mipack.select.criteria import CRITERIA, magnitude, mi, random, wanda
from mipack.select.eliminate import Ranking
from mipack.select.evidence import Evidence


def ranked(scores: Array) -> list[int]:
    return np.argsort(scores, kind="stable").tolist()


def rows(toy: Toy, site: Site) -> Array:
    import torch

    x = session_with(toy.coupling.model, [site.linear.x]).run(toy.feeds[0], [site.linear.x])
    return site.rows(torch.from_numpy(x[site.linear.x])).flatten(0, -2).double().numpy()


@pytest.fixture(scope="module")
def net() -> Toy:
    return cnn()


def test_magnitude_is_the_norm_of_all_weights_of_a_unit(net: Toy) -> None:
    w = {name: array.astype(float) ** 2 for name, array in net.coupling.constants.items()}
    stem = w["stem.w"].sum((1, 2, 3)) + w["wide.w"].sum((0, 2, 3))
    wide = w["wide.w"].sum((1, 2, 3)) + w["outer.w"].sum((1, 2, 3))
    wide += w["inner.w"].sum((0, 2, 3)) + w["hidden.w"].sum(1)
    for name, scores in (("stem", stem), ("wide", wide)):
        found = magnitude(net.evidence, net.group(name), {})
        assert found.order.tolist() == ranked(scores)
        share = np.sort(scores)[: len(scores) // 2].sum() / scores.sum()
        assert found.loss[len(scores) - len(scores) // 2] == pytest.approx(share)


def test_magnitude_gathers_the_rows_behind_a_flatten() -> None:
    """A channel of a flattened map owns a row of the dense weight per place."""
    net = Net(2)
    x = net.input("x", ("batch", 2, 3, 3))
    h = net.node("Flatten", net.relu(net.conv(x, 2, 5, name="first")))
    y = net.dense(h, 45, 4, name="site")
    made = Toy(net.proto(y), [{"x": net.rng.normal(size=(6, 2, 3, 3)).astype(np.float32)}])
    w = {name: array.astype(float) ** 2 for name, array in made.coupling.constants.items()}
    scores = w["first.w"].sum((1, 2, 3)) + w["site.w"].sum(1).reshape(5, 9).sum(1)
    assert magnitude(made.evidence, made.group("first"), {}).order.tolist() == ranked(scores)


@pytest.mark.parametrize("name", ["stem", "wide", "inner", "hidden"])
def test_wanda_is_weight_times_activation_over_all_readers(net: Toy, name: str) -> None:
    group = net.group(name)
    total = np.zeros(group.size)
    for site in net.evidence.readers(group):
        weight = site.matrix(net.coupling.constants[site.linear.w])
        energy = (rows(net, site) ** 2).mean(0)[:, None] * weight**2  # [channels * taps, outputs]
        total += energy.reshape(group.size, -1).sum(1)
    found = wanda(net.evidence, group, {})
    assert found.order.tolist() == ranked(total)
    assert found.loss[group.size - 1] == pytest.approx(total.min() / total.sum(), rel=1e-3)


def test_random_is_seeded_by_the_name_of_the_group(net: Toy) -> None:
    group, evidence = net.group("stem"), net.evidence
    first = random(evidence, group, {}).order.tolist()
    other = random(replace(evidence, seed=1), group, {}).order.tolist()
    elsewhere = replace(net.group("hidden"), name=group.name, size=group.size)
    assert sorted(first) == list(range(group.size)) and first != other
    assert random(evidence, elsewhere, {}).order.tolist() == first
    assert random(evidence, replace(group, name="stem:in"), {}).order.tolist() != first


def test_mi_prefers_what_magnitude_cannot_see() -> None:
    """Units that repeat others go first, however large their weights."""
    made = mlp(6, 16, 4, samples=1000)
    first, second = (made.coupling.constants[f"fc{k}.w"] for k in (0, 1))
    weights = {i.name: i for i in made.proto.graph.initializer}
    from onnx import numpy_helper

    copied = first.copy()
    copied[:, 8:] = copied[:, :8]
    louder = second.copy()
    louder[8:] *= 10
    bias = made.coupling.constants["fc0.b"].copy()
    bias[8:] = bias[:8]
    for name, array in (("fc0.w", copied), ("fc1.w", louder), ("fc0.b", bias)):
        weights[name].CopyFrom(numpy_helper.from_array(array, name))
    twin = Toy(made.proto, made.feeds)
    half = mi(twin.evidence, twin.group("fc0"), {})
    assert half.loss[8] < 0.02
    assert sorted(u % 8 for u in half.keep(8)) == list(range(8))  # one of each pair
    assert set(magnitude(twin.evidence, twin.group("fc0"), {}).keep(8).tolist()) == {*range(8, 16)}


def test_what_no_weight_reads_is_ranked_by_magnitude() -> None:
    """Two dense layers whose product is summed: the axis is contracted by no weight."""
    net = Net(5)
    x = net.input("x", ("batch", 6))
    a, b = (net.dense(x, 6, 10, name=name) for name in ("left", "right"))
    product = net.node("Mul", net.relu(a), b)
    axes = net.weight("axes", np.array([1], np.int64))
    y = net.node("ReduceSum", product, axes)
    made = Toy(net.proto({y: ("batch", 1)}), [{"x": net.rng.normal(size=(20, 6)).astype("f4")}])
    group = made.group("left")
    assert group.free and not made.evidence.readers(group)
    by_size = magnitude(made.evidence, group, {})
    assert mi(made.evidence, group, {}).order.tolist() == by_size.order.tolist()


def test_a_new_criterion_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
        return Ranking(np.arange(group.size)[::-1].copy(), np.linspace(1, 0, group.size + 1))

    monkeypatch.setitem(CRITERIA, "first", first)
    made = mlp(6, 12, 8, 3)
    settings = {"keep": 0.5, "criterion": "first", "allocate": "uniform"}
    result = prune(made.proto, made.feeds, **settings)
    kept = {group.name: group.keep for group in result.plan.groups}
    assert kept == {"fc0:out": tuple(range(6)), "fc1:out": tuple(range(4))}
    assert result.plan.settings["criterion"] == "first"
