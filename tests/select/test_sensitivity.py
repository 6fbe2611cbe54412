"""Taylor and Fisher against gradients of masks taken by hand, and through prune()."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import helper
from toys import Array, Net, Toy, cnn, mlp

from mipack.calibrate.gradients import gradient_moments
from mipack.errors import InputError, PlanMismatch
from mipack.pipeline import prune
from mipack.select.criteria import fisher, taylor
from mipack.select.evidence import Evidence


def with_gradients(toy: Toy, labels: Array | None = None) -> Evidence:
    listed = None if labels is None else [labels[b.index] for b in toy.batches]
    found = gradient_moments(
        toy.coupling, toy.sites, lambda: toy.batches, toy.known, toy.rows, labels=listed
    )
    return replace(toy.evidence, calibration=replace(toy.calibration, gradients=found))


def masks(toy: Toy, labels: Array) -> Array:
    """d cross-entropy / d mask of fc0's units of every sample, by torch: [samples, units]."""
    w = {n: torch.from_numpy(a.copy()).double() for n, a in toy.coupling.constants.items()}
    x = torch.from_numpy(toy.feeds[0]["x"]).double()
    units = len(w["fc0.b"])
    mask = torch.ones(len(x), units, dtype=torch.float64, requires_grad=True)
    h = torch.relu(x @ w["fc0.w"] + w["fc0.b"]) * mask
    h = torch.relu(h @ w["fc1.w"] + w["fc1.b"])
    loss = torch.nn.functional.cross_entropy(
        h @ w["fc2.w"] + w["fc2.b"], torch.from_numpy(labels), reduction="sum"
    )
    return torch.autograd.grad(loss, mask)[0].numpy()


def test_scores_of_labels_are_gradients_of_masks() -> None:
    toy = mlp(6, 9, 7, 3, samples=60)
    labels = np.random.default_rng(0).integers(0, 3, 60)
    evidence, group = with_gradients(toy, labels), toy.group("fc0")
    slopes = masks(toy, labels)
    for criterion, scores in ((taylor, np.abs(slopes).sum(0)), (fisher, (slopes**2).sum(0))):
        found = criterion(evidence, group, {})
        assert found.order.tolist() == np.argsort(scores).tolist()
        share = np.sort(scores)[:4].sum() / scores.sum()
        assert found.loss[5] == pytest.approx(share, rel=1e-4)


def test_units_of_several_channels_go_by_the_square_of_their_sum() -> None:
    """A channel behind a flatten: its mask multiplies all of its places."""
    net = Net(2)
    x = net.input("x", ("batch", 2, 3, 3))
    h = net.node("Flatten", net.relu(net.conv(x, 2, 5, name="first")))
    y = net.dense(h, 45, 4, name="site")
    toy = Toy(net.proto(y), [{"x": net.rng.normal(size=(30, 2, 3, 3)).astype("f4")}])
    labels = np.random.default_rng(1).integers(0, 4, 30)
    w = {n: torch.from_numpy(a.copy()) for n, a in toy.coupling.constants.items()}
    inner = torch.nn.functional.conv2d(
        torch.from_numpy(toy.feeds[0]["x"]), w["first.w"], w["first.b"], padding=1
    )
    mask = torch.ones(30, 5, 1, 1, requires_grad=True)
    scores = (torch.relu(inner) * mask).flatten(1) @ w["site.w"] + w["site.b"]
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels), reduction="sum")
    slopes = torch.autograd.grad(loss, mask)[0].numpy().reshape(30, 5)
    found = fisher(with_gradients(toy, labels), toy.group("first"), {})
    assert found.order.tolist() == np.argsort((slopes**2).sum(0)).tolist()


@pytest.mark.parametrize("criterion", ["taylor", "fisher"])
def test_own_answers_serve_where_there_are_no_labels(criterion: str) -> None:
    toy = cnn()
    result = prune(toy.proto, toy.feeds, keep=0.6, criterion=criterion, allocate="uniform")
    assert result.after.macs < result.before.macs
    assert all(check.passed for check in result.checks)


SQUARE = np.array([-1, 2, 2])


def test_without_gradients_the_op_is_named() -> None:
    net = Net(0)
    x = net.input("x", ("batch", 6))
    h = net.relu(net.dense(x, 6, 10, name="first"))
    grid = net.node("Reshape", net.dense(h, 10, 4, name="site"), net.weight("s", SQUARE))
    h = net.node("Inverse", grid, name="odd", domain="com.microsoft")
    proto = net.proto({h: ("rows", 2, 2)})
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    toy = Toy(proto, [{"x": net.rng.normal(size=(8, 6)).astype("f4")}])
    with pytest.raises(InputError) as caught:
        prune(toy.proto, toy.feeds, keep=0.5, criterion="fisher")
    assert "needs gradients" in str(caught.value) and "Inverse" in str(caught.value)
    assert "wanda" in caught.value.hint


def test_saved_moments_without_gradients_are_refused(tmp_path: object) -> None:
    toy, path = mlp(4, 6, 5, 3), f"{tmp_path}/m.npz"
    prune(toy.proto, toy.feeds, keep=0.5, moments=path, criterion="wanda")
    with pytest.raises(PlanMismatch, match="hold no gradients"):
        prune(toy.proto, toy.feeds, keep=0.5, moments=path, criterion="taylor")


def test_other_criteria_take_no_gradients(tmp_path: object) -> None:
    toy = mlp(4, 6, 5, 3)
    result = prune(toy.proto, toy.feeds, keep=0.5, criterion="obs")
    assert "calibrate: gradients" not in result.timings
