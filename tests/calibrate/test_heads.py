"""Heads: what outputs mean, and divergences that are those of the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Array, Net, Toy

from mipack.calibrate.heads import Head, heads_of, softmax


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (draw(8, 3), "logits"),
        (softmax(draw(8, 3)).astype(np.float32), "probabilities"),
        (draw(8, 1), "values"),
        (draw(8), "values"),
        (draw(8, 4, 3), "values"),
    ],
)
def test_kinds(output: Array, kind: str) -> None:
    (head,) = heads_of([{"y": output}])
    assert head.kind == kind


def test_outputs_that_tell_nothing_have_no_head() -> None:
    outputs: dict[str, Any] = {
        "ids": np.zeros((4, 2), np.int64),
        "scalar": np.float32(1),
        "empty": np.zeros((4, 0), np.float32),
        "infinite": np.full((4, 2), np.inf, np.float32),
    }
    assert heads_of([outputs]) == ()


def test_classes_are_judged_before_values() -> None:
    found = heads_of([{"box": draw(8, 5, 4), "logits": draw(8, 3)}])
    assert [head.name for head in found] == ["logits", "box"]


def test_every_head_gives_scores_curvature_and_divergence_per_sample() -> None:
    for shape in ((8, 3), (8, 1), (8,), (8, 4, 3), (8, 2, 5, 3)):
        output = draw(*shape)
        (head,) = heads_of([{"y": output}])
        scores = head.scores(output)
        assert scores.shape == (8, len(head.variance))
        assert head.curvature(scores).shape == (scores.shape[1],) * 2
        assert head.divergence(output, draw(*shape, seed=1)).shape == (8,)
        assert head.agrees(output, output).all()


def test_logits_and_their_probabilities_are_equally_far() -> None:
    a, b = draw(8, 4), draw(8, 4, seed=1)
    (logits,) = heads_of([{"y": a}])
    (normal,) = heads_of([{"y": softmax(a)}])
    want = (softmax(a) * np.log(softmax(a) / softmax(b))).sum(1)
    np.testing.assert_allclose(logits.divergence(a, b), want, rtol=1e-5)
    np.testing.assert_allclose(normal.divergence(softmax(a), softmax(b)), want, rtol=1e-5)


@given(st.integers(0, 99))
@settings(deadline=None)
def test_divergence_is_half_the_curvature_of_a_small_step(seed: int) -> None:
    for shape in ((6, 4), (6, 1)):
        a, step = draw(*shape, seed=seed).astype(float), 1e-3 * draw(*shape, seed=seed + 1)
        (head,) = heads_of([{"y": a}])
        one_by_one = [head.curvature(head.scores(row[None])) for row in a]
        want = [0.5 * s @ h @ s for s, h in zip(step, one_by_one, strict=True)]
        np.testing.assert_allclose(head.divergence(a, a + step), want, rtol=1e-2, atol=1e-12)


def test_values_are_judged_by_their_variance() -> None:
    """1/2 sum (a - b)^2 / var over columns, averaged over positions; units do not matter."""
    a, b = draw(50, 6, 3), draw(50, 6, 3, seed=1)
    (head,) = heads_of([{"y": a}])
    variance = a.reshape(-1, 3).var(0)
    want = 0.5 * ((a - b) ** 2 / variance).sum(-1).mean(-1)
    np.testing.assert_allclose(head.divergence(a, b), want, rtol=1e-4)
    scale = np.array([1, 10, 1000])
    (other,) = heads_of([{"y": a * scale}])
    np.testing.assert_allclose(other.divergence(a * scale, b * scale), want, rtol=1e-4)


def test_a_constant_column_does_not_divide_by_zero() -> None:
    a = np.concatenate([draw(8, 1, 2), np.ones((8, 1, 1))], 2)
    (head,) = heads_of([{"y": a}])
    assert np.isfinite(head.divergence(a, a + 0.1)).all() and not head.divergence(a, a).any()


def test_extreme_logits_stay_finite() -> None:
    head = Head("y", "logits", np.ones(2))
    far, near = np.array([[1e4, -1e4]]), np.array([[-1e4, 1e4]])
    assert np.isfinite(head.divergence(far, near)).all() and not head.divergence(far, far).any()
    (sure,) = heads_of([{"y": np.array([[1.0, 0.0], [0.0, 1.0]])}])
    assert np.isfinite(sure.divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))).all()


@pytest.mark.parametrize("shape", [("batch", 1), ("batch",), ("batch", 3)])
def test_a_model_calibrates_whatever_its_output(shape: tuple[int | str, ...]) -> None:
    """A squeezed output [batch] is one column of scores."""
    net = Net(0)
    columns = int(shape[1]) if len(shape) > 1 else 1
    x = net.input("x", ("batch", 5))
    y = net.dense(net.relu(net.dense(x, 5, 8, name="first")), 8, columns, name="site")
    if len(shape) == 1:
        y = net.node("Squeeze", y, net.weight("one", np.array([1], np.int64)))
    made = Toy(net.proto({y: shape}), [{"x": draw(40, 5)}])
    assert made.calibration.moments["site"].cross.shape == (8, columns)
    assert made.calibration.curvature.shape == (columns, columns)
