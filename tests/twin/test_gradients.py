"""Gradient moments against autograd on a model written in torch by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import Net, Toy, cnn, mlp

from mipack.calibrate.gradients import gradient_moments
from mipack.calibrate.moments import GradientMoments
from mipack.calibrate.taps import Answers, answers
from mipack.graph.load import runnable
from mipack.runtime.session import Session


def known(toy: Toy) -> Answers:
    with runnable(toy.coupling.model) as source:
        session = Session(source)
    outputs = [spec.name for spec in toy.prepared.signature.outputs]
    return answers(session, outputs, lambda: toy.batches)


def taken(toy: Toy) -> dict[str, GradientMoments]:
    return gradient_moments(
        toy.coupling, toy.sites, lambda: toy.batches, known(toy), toy.rows, seed=0
    )


def test_the_fisher_matrix_is_the_exact_average_over_classes() -> None:
    toy = mlp(6, 24, 5, samples=64)
    weights = {n: torch.from_numpy(a.copy()).double() for n, a in toy.coupling.constants.items()}
    found = taken(toy)
    last = toy.sites[-1]
    w = weights[last.linear.w]
    x = torch.cat([torch.from_numpy(b.feeds["x"][: b.samples]) for b in toy.batches]).double()
    name = toy.prepared.signature.outputs[0].name
    with runnable(toy.coupling.model) as source:
        session = Session(source)
    scores = torch.from_numpy(
        np.concatenate([session.run(b.feeds)[name][: b.samples] for b in toy.batches])
    ).double()
    p = scores.softmax(1)
    want = torch.diag(p.sum(0)) - p.T @ p  # the last layer's outputs are the scores
    np.testing.assert_allclose(found[last.name].outer, want.numpy(), rtol=1e-4, atol=1e-5)
    assert found[last.name].samples == len(x) and w.shape[1] == 5


def test_nothing_depends_on_a_site_that_no_gradient_comes_back_to() -> None:
    """Its answer is the place of the largest."""
    net = Net(2)
    x = net.input("x", ("batch", 6))
    hidden, aside = (net.node("Relu", net.dense(x, 6, 8, name=n)) for n in ("hidden", "aside"))
    answer = net.dense(hidden, 8, 3, name="last")
    place = net.node("ArgMax", net.dense(aside, 8, 4, name="behind"), axis=1)
    number = net.node("Cast", place, to=1)
    feeds = [{"x": net.rng.normal(size=(32, 6)).astype(np.float32)}]
    found = taken(Toy(net.proto({answer: ("batch", 3), number: ("batch", 1)}), feeds))
    assert found["last"].outer.any() and not found["behind"].outer.any()
    assert found["behind"].outer.shape == (4, 4) and not found["behind"].mask_first.any()


@pytest.mark.parametrize("toy", [mlp(6, 24, 5, samples=64), cnn(samples=48)], ids=["mlp", "cnn"])
def test_two_halves_merge_to_the_whole(toy: Toy) -> None:
    whole = taken(toy)
    heads = known(toy)
    parts = []
    for k in range(len(toy.batches)):
        one = Answers(heads.heads, heads.outputs[k : k + 1], heads.per_sample)
        batches = [toy.batches[k]]
        found = gradient_moments(
            toy.coupling, toy.sites, lambda b=batches: b, one, toy.rows, seed=0
        )
        parts.append(found)
    for site in toy.sites:
        merged = parts[0][site.name]
        for part in parts[1:]:
            merged = merged.merge(part[site.name])
        np.testing.assert_allclose(merged.outer, whole[site.name].outer, rtol=1e-3, atol=1e-6)
