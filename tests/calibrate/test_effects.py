"""Second order: the divergence of small changes, measured, is what one pass predicts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from toys import Array, Net, Toy, cnn, mlp

from mipack.calibrate import effects
from mipack.calibrate.backward import Backward, Place, row_order
from mipack.calibrate.effects import Change, second_order
from mipack.calibrate.sites import Site
from mipack.graph.adjust import set_weight, value_of
from mipack.refit.choose import divergence
from mipack.select.measure import Meter, change, tells


def predicted(toy: Toy, *changes: Change) -> Array:
    backward = Backward(toy.coupling, toy.sites, toy.known.heads, toy.rows)
    return second_order(backward, lambda: toy.batches, changes)


def measured(toy: Toy, steps: dict[str, Array]) -> float:
    """The KL of the model whose sites' weights moved by dW."""
    model = toy.coupling.model.clone()
    for name, step in steps.items():
        site = toy.site(name)
        old = value_of(model.graph, site.linear.w)
        set_weight(model.graph, site.linear.w, site.weight(site.matrix(old) + step, old))
    assert toy.known.head is not None
    return float(divergence(model, toy.known, toy.batches).mean())


def step(toy: Toy, site: Site, scale: float, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(site.features, site.outputs))


def still(dw: Array) -> tuple[Array, Array]:
    return dw, np.zeros(dw.shape[1])


@pytest.mark.parametrize("toy", [mlp(6, 12, 10, 3), cnn(samples=48, classes=3)], ids=["mlp", "cnn"])
def test_small_changes_cost_what_is_predicted(toy: Toy) -> None:
    """Of a convolution too, whose places add up before they are squared."""
    for site in toy.sites:
        dw = step(toy, site, 1e-2 * float(np.abs(toy.evidence.weight(site)).mean()))
        (nats,) = predicted(toy, Change(weights={site.name: still(dw)}))
        assert nats == pytest.approx(measured(toy, {site.name: dw}), rel=0.05)


def test_changes_of_several_sites_add_up_before_they_are_squared() -> None:
    toy = mlp(6, 12, 10, 3)
    first, second = toy.sites[:2]
    moved = {s.name: step(toy, s, 2e-3, seed) for seed, s in enumerate((first, second))}
    together = Change(weights={name: still(dw) for name, dw in moved.items()})
    (nats,) = predicted(toy, together)
    assert nats == pytest.approx(measured(toy, moved), rel=0.05)


def test_a_shift_of_the_bias_counts() -> None:
    toy = mlp(6, 12, 3)
    (site,) = toy.sites
    nothing, shift = np.zeros((12, 3)), np.array([1e-3, 0.0, -1e-3])
    (nats,) = predicted(toy, Change(weights={site.name: (nothing, shift)}))
    assert nats > 0
    all_alike = Change(weights={site.name: (nothing, np.full(3, 1e-3))})
    assert predicted(toy, all_alike)[0] == pytest.approx(0, abs=1e-9)  # softmax does not see it


def test_many_changes_at_once_cost_what_each_costs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a convolution: several share the gradient of a sample's weights, one alone has no need."""
    toy = cnn(samples=48, classes=3)
    site = toy.sites[0]
    made = [Change(weights={site.name: still(step(toy, site, 1e-2, seed))}) for seed in range(8)]
    alone = [predicted(toy, each)[0] for each in made]
    monkeypatch.setattr(effects, "SLOW", 0)
    np.testing.assert_allclose(predicted(toy, *made), alone, rtol=1e-4)


def test_rows_of_samples_are_gathered_wherever_they_lie() -> None:
    """Time first, and samples of different length."""
    rows = torch.arange(1.0, 7.0).reshape(6, 1)
    for owner in ([0, 1, 2, 0, 1, 2], [2, 0, 2, 2, 1, 1], [0, 0, 1, 1, 2, 2]):
        order = row_order(np.array(owner), 3)
        asked = None if order is None else torch.from_numpy(order)
        place = Place(1, torch.tensor(owner), None, 3, asked)
        want = [sum(k + 1.0 for k, o in enumerate(owner) if o == sample) for sample in range(3)]
        assert place.sums(rows)[:, 0].tolist() == want
        assert place.by_sample(rows).shape == (3, max(map(owner.count, owner)), 1)


def test_waves_of_changes_and_one_pass_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = cnn(samples=48, classes=3)
    changes = [Change(weights={s.name: still(step(toy, s, 1e-2))}) for s in toy.sites]
    whole = predicted(toy, *changes)
    monkeypatch.setattr(effects, "MEMORY", 1)
    np.testing.assert_allclose(predicted(toy, *changes), whole, rtol=1e-4)
    assert predicted(toy).shape == (0,)


def test_samples_without_finite_gradients_are_left_out() -> None:
    toy = mlp(6, 12, 3, samples=64)
    dirty = [{name: np.array(value) for name, value in feed.items()} for feed in toy.feeds]
    dirty[0]["x"][5] = 3e38  # overflows in the first layer
    broken = Toy(toy.proto, dirty)
    clean = Toy(toy.proto, [{"x": np.delete(toy.feeds[0]["x"], 5, 0)}])
    made = [Change(weights={toy.sites[0].name: still(step(toy, toy.sites[0], 1e-2))})]
    got = second_order(
        Backward(toy.coupling, toy.sites, toy.known.heads, toy.rows), lambda: broken.batches, made
    )
    np.testing.assert_allclose(got, predicted(clean, *made), rtol=1e-4)


def test_one_side_of_a_product_tells_what_both_lose() -> None:
    """Units of little weight: what cutting them costs is quadratic in it."""
    net = Net(5)
    x = net.input("x", ("batch", 6))
    left, right = (net.dense(x, 6, 12, name=name) for name in ("left", "right"))
    shapes = [np.array(shape, np.int64) for shape in ([-1, 1, 12], [-1, 12, 1], [-1, 1])]
    row, column, flat = (net.weight(f"s{k}", shape) for k, shape in enumerate(shapes))
    sides = net.node("Reshape", left, row), net.node("Reshape", right, column)
    y = net.dense(net.node("Reshape", net.node("MatMul", *sides), flat), 1, 3, name="last")
    feeds = [{"x": net.rng.normal(size=(64, 6)).astype(np.float32)}]
    proto = net.proto({y: ("batch", None)})
    _weaken(proto, "left", 0.02)
    toy = Toy(proto, feeds)
    group = toy.group("left")
    assert not toy.evidence.readers(group)
    kept = np.arange(7)
    made = change(toy.evidence, group, kept, refit=True)
    assert tells(toy.evidence, group) and made.silenced and not made.weights
    (nats,) = predicted(toy, made)
    meter = Meter(toy.evidence, toy.known, toy.batches, True)
    assert nats == pytest.approx(meter.kl(group, kept), rel=0.1) and nats > 0


def _weaken(proto: onnx.ModelProto, name: str, scale: float) -> None:
    for tensor in proto.graph.initializer:
        if tensor.name.startswith(name):
            small = (scale * numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(small, tensor.name))
