"""Refit: survivors take over, errors do not pile up, and nothing gets worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from toys import Array, Net, Toy, cnn, mlp, run

from mipack.graph.adjust import value_of
from mipack.graph.names import node_names
from mipack.refit import bottom_up as module
from mipack.refit.bottom_up import Refitted, bottom_up, local, refit_sites
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep


@dataclass(frozen=True)
class Refit:
    """A toy with some groups cut: the plain cut, and what each refit makes of it."""

    toy: Toy
    keep: Keep
    plain: ir.Model
    near: Refitted
    walked: Refitted

    def error(self, model: ir.Model) -> float:
        """Squared error of the first output on the held-out batches, as a share of its variance."""
        name = self.toy.prepared.signature.outputs[0].name
        pairs = [
            (
                run(model, b.feeds)[name][: b.samples],
                run(self.toy.proto, b.feeds)[name][: b.samples],
            )
            for b in self.toy.batches[-1:]
        ]
        got, want = (np.concatenate(side).astype(float) for side in zip(*pairs, strict=True))
        return float(((got - want) ** 2).sum() / ((want - want.mean(0)) ** 2).sum())


def refit(toy: Toy, **kept: Any) -> Refit:
    """Cut groups to these units; the last batch is held out."""
    keep = Keep({toy.group(name).atom: np.asarray(units) for name, units in kept.items()})
    plain = cut(toy.coupling, keep)
    near = local(toy.coupling, toy.sites, keep, plain, toy.calibration)
    held = toy.batches[-1:]
    walked = bottom_up(
        toy.coupling, toy.sites, keep, near, toy.batches[:-1] or held, held, toy.rows
    )
    return Refit(toy, keep, plain, near, walked)


def finished(net: Net, y: str, *shape: int, samples: int = 600, size: int = 300) -> Toy:
    feeds = [{"x": net.rng.normal(size=(samples, *shape)).astype(np.float32)}]
    return Toy(net.proto({y: ("batch", *[None] * len(shape))}), feeds, size=size)


def twins(net: Net, name: str, units: int) -> None:
    """The second half of the units of a layer repeats the first."""
    for part, axis in (("w", -1 if net.weights[f"{name}.w"].ndim == 2 else 0), ("b", 0)):
        array = np.moveaxis(net.weights[f"{name}.{part}"], axis, 0)
        array[units // 2 :] = array[: units // 2]


# ---------------------------------------------------------------- survivors determine what goes


def test_dense_twins_are_absorbed_whole() -> None:
    net = Net(1)
    h = net.relu(net.dense(net.input("x", ("batch", 6)), 6, 12, name="a"))
    twins(net, "a", 12)
    made = refit(finished(net, net.dense(h, 12, 4, name="b"), 6), a=np.arange(6))
    assert made.error(made.plain) > 0.1
    assert made.error(made.near.model) < 1e-4  # but for the ridge
    assert made.error(made.walked.model) < 1e-6


@pytest.mark.parametrize(
    "form",
    [
        {"strides": [2, 2]},
        {"pads": [0, 1, 2, 0]},
        {"dilations": [2, 1], "pads": [1, 1, 1, 1]},
        {"strides": [1, 2], "pads": [0, 0, 0, 0]},
    ],
)
def test_convolution_twins_are_absorbed_whole(form: dict[str, Any]) -> None:
    net = Net(2)
    x = net.input("x", ("batch", 2, 7, 6))
    h = net.relu(net.conv(x, 2, 8, name="a"))
    twins(net, "a", 8)
    made = refit(finished(net, net.conv(h, 8, 3, name="b", **form), 2, 7, 6, samples=60, size=30),
                 a=np.arange(4))  # fmt: skip
    assert made.error(made.plain) > 0.1
    assert made.error(made.near.model) < 1e-3
    assert made.error(made.walked.model) < 1e-5


def test_a_chain_of_twins_is_the_original_again() -> None:
    """Both axes of the middle weight are cut."""
    net = Net(3)
    h = net.relu(net.dense(net.input("x", ("batch", 6)), 6, 12, name="a"))
    twins(net, "a", 12)
    h = net.relu(net.dense(h, 12, 10, name="b"))
    twins(net, "b", 10)
    made = refit(finished(net, net.dense(h, 10, 4, name="c"), 6), a=np.arange(6), b=np.arange(5))
    assert made.error(made.plain) > 0.1
    assert made.error(made.walked.model) < 1e-5
    assert value_of(made.walked.model.graph, "b.w").shape == (6, 5)


# ---------------------------------------------------------------- errors do not pile up


def deep(seed: int = 4) -> Toy:
    net = Net(seed)
    h = net.input("x", ("batch", 8))
    for k in range(5):
        h = net.relu(net.dense(h, 8 if not k else 24, 24, name=f"l{k}"))
    return finished(net, net.dense(h, 24, 4, name="last"), 8, samples=2000, size=500)


def test_each_step_of_the_refit_helps_a_deep_net() -> None:
    made = refit(deep(), **{f"l{k}": np.arange(12) for k in range(5)})
    errors = [made.error(m) for m in (made.plain, made.near.model, made.walked.model)]
    assert errors[0] > 1.3 * errors[1] and errors[1] > 1.3 * errors[2]


def residual(seed: int = 5) -> Toy:
    """A stream that two blocks add to; what the first loses the second can make good."""
    net = Net(seed)
    stream = net.dense(net.input("x", ("batch", 6)), 6, 16, name="stem")
    for k in range(2):
        h = net.relu(net.dense(stream, 16, 32, name=f"up{k}"))
        stream = net.node("Add", stream, net.dense(h, 32, 16, name=f"down{k}"), name=f"sum{k}")
    return finished(net, stream, 6, samples=2000, size=500)


def test_a_residual_branch_corrects_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target is the stream behind the branch, not the branch alone."""
    cuts = {"up0": np.arange(6), "up1": np.arange(24)}
    corrected = refit(residual(), **cuts)
    names = lambda c, dense, ours: (dense.outputs[0].name, ours.outputs[0].name)  # noqa: E731
    monkeypatch.setattr(module, "_anchors", names)
    alone = refit(residual(), **cuts)
    assert corrected.error(corrected.walked.model) < 0.7 * alone.error(alone.walked.model)


@pytest.mark.parametrize("bias", [True, False])
def test_the_target_is_the_furthest_sum(bias: bool) -> None:
    """Through the bias (also one that only the cut model has) and the residual additions."""
    net = Net(6)
    x = net.input("x", ("batch", 6))
    skip, h = net.dense(x, 6, 5, name="skip"), net.relu(net.dense(x, 6, 8, name="a"))
    y = net.node("Add", net.dense(h, 8, 5, name="b", bias=bias), skip, name="joined")
    made = refit(finished(net, net.relu(y), 6), a=np.arange(4))
    nodes = node_names(made.toy.coupling.model.graph), node_names(made.near.model.graph)
    assert module._anchors(made.toy.coupling, *(n["b"] for n in nodes)) == ("joined", "joined")
    assert made.error(made.walked.model) <= made.error(made.near.model) + 1e-6


def test_a_value_read_twice_ends_the_sums() -> None:
    net = Net(7)
    x = net.input("x", ("batch", 6))
    h = net.relu(net.dense(x, 6, 8, name="a"))
    y = net.dense(h, 8, 5, name="b", bias=False)
    out = net.node("Add", y, net.relu(y), name="out")
    made = refit(finished(net, out, 6), a=np.arange(4))
    nodes = node_names(made.toy.coupling.model.graph), node_names(made.near.model.graph)
    assert module._anchors(made.toy.coupling, *(n["b"] for n in nodes)) == ("b", "b.add_bias")


# ---------------------------------------------------------------- never worse


@pytest.mark.parametrize("seed", range(4))
def test_no_site_gets_worse_on_held_out_rows(seed: int) -> None:
    """Far fewer rows than features: what was fitted does not hold, and is not taken."""
    net = Net(seed)
    h = net.relu(net.dense(net.input("x", ("batch", 4)), 4, 60, name="a"))
    made = refit(finished(net, net.dense(h, 60, 8, name="b"), 4, samples=24, size=12),
                 a=np.arange(0, 60, 2))  # fmt: skip
    assert made.error(made.walked.model) <= made.error(made.near.model) * (1 + 1e-6)


def test_a_step_that_does_not_help_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._Sums, "solve", lambda self: torch.full_like(self.cross, 9.0))
    made = refit(mlp(6, 12, 4), fc0=np.arange(6))
    assert made.walked.improved == 0
    for name in ("fc1.w", "fc1.b"):
        near, walked = (value_of(r.model.graph, name) for r in (made.near, made.walked))
        np.testing.assert_array_equal(near, walked)


@pytest.mark.parametrize("mean", [0.0, 300.0])
def test_the_sums_give_the_regression_whatever_the_mean(mean: float) -> None:
    """Rows of mean 300 and deviation 1 are no worse than centred ones."""
    rng = np.random.default_rng(0)
    x = (mean + rng.normal(size=(500, 7))).astype(np.float32)
    gap = (x - mean) @ rng.normal(size=(7, 3)) + rng.normal(size=(500, 3)) + 2
    rows, missing = torch.from_numpy(x), torch.from_numpy(gap.astype(np.float32))
    sums = module._Sums.empty(rows[:50].mean(0), 3)
    for part in (slice(0, 50), slice(50, 400), slice(400, 500)):
        sums.add(rows[part], missing[part])
    step = sums.solve()
    plain = sums.uncentred(step).numpy()
    left = gap - x.astype(float) @ plain[:-1] - plain[-1]
    assert sums.error(step) == pytest.approx((left**2).sum(), rel=1e-3)
    assert sums.error(None) == pytest.approx((gap**2).sum(), rel=1e-4)
    design = np.concatenate([x - mean, np.ones((500, 1))], 1)
    best = gap - design @ np.linalg.lstsq(design, gap, rcond=None)[0]
    assert (left**2).sum() == pytest.approx((best**2).sum(), rel=1e-2)


# ---------------------------------------------------------------- what is touched


def test_only_reported_weights_change() -> None:
    toy = cnn(samples=64)
    toy.size = 32
    made = refit(toy, stem=np.arange(6), hidden=np.arange(10))
    cut = {"wide.w", "wide.b", "head.w", "head.b"}
    assert set(made.near.changed) == cut
    assert set(made.walked.changed) <= cut | {"hidden.w", "hidden.b"}  # which is fed by `wide`
    for model in (made.near.model, made.walked.model):
        for name, value in made.plain.graph.initializers.items():
            if name not in made.walked.changed:
                np.testing.assert_array_equal(
                    value.const_value.numpy(), value_of(model.graph, name)
                )


def shared(*, outside: bool) -> Refit:
    """Two readers of one weight, and a third that loses nothing where `outside`."""
    net = Net(9)
    x = net.input("x", ("batch", 6))
    h = net.relu(net.dense(x, 6, 10, name="a"))
    weight = net.weight("shared.w", (10, 10))
    h = net.relu(net.node("MatMul", h, weight, name="one"))
    h = net.relu(net.node("MatMul", h, weight, name="two"))
    y = net.dense(h, 10, 3, name="b")
    if outside:
        y = net.node("Add", y, net.node("ReduceSum", weight, keepdims=0, name="raw"))
    return refit(finished(net, y, 6), a=np.arange(5))


def test_readers_of_one_weight_are_one_regression() -> None:
    made = shared(outside=False)
    sites = refit_sites(made.toy.coupling, made.toy.sites, made.keep)
    assert [s.name for s in sites] == ["one", "two", "b"]
    assert made.error(made.near.model) < made.error(made.plain)
    before, after = (value_of(m.graph, "shared.w") for m in (made.plain, made.near.model))
    assert np.abs(before - after).max() > 1e-3


def test_a_weight_that_others_read_is_left_alone() -> None:
    made = shared(outside=True)
    names = [s.name for s in refit_sites(made.toy.coupling, made.toy.sites, made.keep)]
    assert "one" not in names and "two" not in names
    assert "shared.w" not in made.walked.changed


def biasless(kind: str, *, last: bool) -> Toy:
    """A reader without a bias, before a ReLU or as the model's output."""
    net = Net(10)
    if kind == "conv":
        h = net.relu(net.conv(net.input("x", ("batch", 2, 5, 5)), 2, 8, name="a"))
        y = net.conv(h, 8, 4, name="b", bias=False)
        shape: tuple[int, ...] = (2, 5, 5)
    elif kind == "gemm":
        h = net.relu(net.dense(net.input("x", ("batch", 6)), 6, 8, name="a"))
        y = net.node("Gemm", h, net.weight("b.w", (4, 8)), name="b", transB=1, alpha=0.5)
        shape = (6,)
    elif kind == "left":
        net.input("x", ("batch", 6, 5))
        h = net.relu(net.node("MatMul", net.weight("a.w", (8, 6)), "x", name="a"))
        y = net.node("MatMul", net.weight("b.w", (4, 8)), h, name="b")
        shape = (6, 5)
    else:
        h = net.relu(net.dense(net.input("x", ("batch", 6)), 6, 8, name="a"))
        y = net.dense(h, 8, 4, name="b", bias=False)
        shape = (6,)
    return finished(net, y if last else net.relu(y), *shape, samples=300, size=150)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("kind", ["matmul", "left", "gemm", "conv"])
def test_readers_without_bias_get_one(kind: str, last: bool) -> None:
    made = refit(biasless(kind, last=last), a=np.arange(4))
    (bias,) = set(made.walked.changed) - {"b.w"}
    assert bias not in made.plain.graph.initializers
    assert value_of(made.walked.model.graph, bias).any()
    errors = [made.error(m) for m in (made.plain, made.near.model, made.walked.model)]
    assert errors[2] <= errors[1] * 1.001 < errors[0]


@pytest.mark.parametrize("dtype", ["float16"])
def test_half_precision_weights_stay_so(dtype: str) -> None:
    net = Net(11)
    x = net.input("x", ("batch", 6), dtype)
    h = net.relu(net.dense(x, 6, 12, name="a", dtype=dtype))
    twins(net, "a", 12)
    y = net.dense(h, 12, 4, name="b", dtype=dtype)
    feeds = [{"x": net.rng.normal(size=(600, 6)).astype(dtype)}]
    toy = Toy(net.proto({y: ("batch", 4)}, dtype=dtype), feeds, size=300)
    made = refit(toy, a=np.arange(6))
    assert {value_of(made.walked.model.graph, n).dtype for n in ("b.w", "b.b")} == {np.dtype(dtype)}
    assert made.error(made.walked.model) < 1e-4 < 0.1 < made.error(made.plain)


def test_a_computed_bias_survives() -> None:
    net = Net(12)
    x = net.input("x", ("batch", 6))
    h = net.relu(net.dense(x, 6, 12, name="a"))
    twins(net, "a", 12)
    axes = net.weight("axes", np.array([0], np.int64))
    moving = net.node(
        "Squeeze", net.dense(net.node("ReduceMean", x, axes=[0]), 6, 4, name="c"), axes
    )
    y = net.node("Gemm", h, net.weight("b.w", (12, 4)), moving, name="b")
    made = refit(finished(net, y, 6), a=np.arange(6))
    assert made.error(made.walked.model) < 1e-3


# ---------------------------------------------------------------- rows that do not count


def masked_toy(noise: float) -> Toy:
    """[B, S, C] with a mask; what stands at padding is noise of this size."""
    net = Net(13)
    x, mask = net.input("x", ("batch", "time", 6)), net.input("mask", ("batch", "time"), "int64")
    axes = net.weight("axes", np.array([2], np.int64))
    ones = net.node("Unsqueeze", net.node("Cast", mask, to=1), axes)
    h = net.relu(net.dense(x, 6, 12, name="a"))
    y = net.node("Mul", net.dense(h, 12, 4, name="b"), ones)
    real = (net.rng.random((120, 7)) < 0.6).astype(np.int64)
    data = net.rng.normal(size=(120, 7, 6)) + (1 - real)[:, :, None] * noise
    feeds = [{"x": data.astype(np.float32), "mask": real}]
    return Toy(net.proto({y: ("batch", "time", 4)}), feeds, mask="mask", size=60)


def test_padding_does_not_move_the_refit() -> None:
    quiet, loud = (refit(masked_toy(noise), a=np.arange(6)) for noise in (0.0, 50.0))
    for name in ("b.w", "b.b"):
        a, b = (value_of(r.walked.model.graph, name) for r in (quiet, loud))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_what_fills_a_fixed_batch_does_not_move_the_refit() -> None:
    weights: list[Array] = []
    for batch in (40, "batch"):
        net = Net(14)
        x = net.input("x", (batch, 6))
        y = net.dense(net.relu(net.dense(x, 6, 12, name="a")), 12, 4, name="b")
        feeds = [{"x": net.rng.normal(size=(100, 6)).astype(np.float32)}]
        toy = Toy(net.proto({y: (batch, 4)}), feeds, size=40)
        weights.append(value_of(refit(toy, a=np.arange(6)).walked.model.graph, "b.w"))
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-4, atol=1e-5)
