"""Signals: the unit of a loss is what it says, a share of variance or nats of the output."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Array, Net, Toy, cnn, mlp

from mipack.calibrate.moments import Moments
from mipack.calibrate.sites import blocks_at
from mipack.select.criteria import mi
from mipack.select.eliminate import eliminate
from mipack.select.evidence import Evidence
from mipack.select.measure import Meter
from mipack.select.signal import SIGNALS, identity, logits, mixed, stake


def evidence(toy: Toy, signal: str) -> Evidence:
    return Evidence(toy.coupling, toy.sites, toy.calibration, signal)


def classifier(seed: int = 0, hidden: int = 12, gain: float = 0.3) -> Toy:
    """x -> relu(dense) -> logits of small size, so that the curvature is nearly the same for all
    samples and the scores are linear in what `head` reads."""
    net = Net(seed)
    x = net.input("x", ("batch", 6))
    h = net.relu(net.dense(x, 6, hidden, name="first"))
    weight = net.weight("head.w", gain * net.rng.normal(size=(hidden, 4)) / np.sqrt(hidden))
    y = net.node("MatMul", h, weight, name="head")
    feeds = [{"x": net.rng.normal(size=(2048, 6)).astype(np.float32)}]
    return Toy(net.proto({y: ("batch", 4)}), feeds, size=256)


@pytest.mark.parametrize("made", [mlp(6, 24, 5, samples=2000), cnn(samples=64)], ids=["mlp", "cnn"])
def test_identity_loses_one_per_reader_when_everything_goes(made: Toy) -> None:
    for group in made.coupling.free:
        readers = made.evidence.readers(group)
        total = mi(evidence(made, "identity"), group, {}).loss[0]
        assert total == pytest.approx(len(readers), rel=0.1)  # the ridge adds a little variance


def test_identity_is_the_share_of_unexplained_variance() -> None:
    made = mlp(6, 24, 5, samples=4000)
    group, site = made.group("fc0"), made.site("fc1")
    ranking = mi(evidence(made, "identity"), group, {})
    c, w = made.calibration.moments["fc1"].covariance(), made.evidence.weight(site)
    for width in (4, 12, 20):
        kept = ranking.keep(width)
        rest = c - c[:, kept] @ np.linalg.solve(c[np.ix_(kept, kept)], c[kept])
        share = np.trace(w.T @ rest @ w) / np.trace(w.T @ c @ w)
        assert ranking.loss[width] == pytest.approx(share, rel=0.05, abs=2e-3)


@pytest.mark.parametrize("signal", ["identity", "mixed"])
def test_the_size_of_a_consumer_does_not_matter(signal: str) -> None:
    made = mlp(6, 24, 5)
    moments, weight = made.calibration.moments["fc1"], made.evidence.weight(made.site("fc1"))
    h, p = made.calibration.curvature, np.linalg.inv(moments.covariance() + np.eye(24))
    one, two = (SIGNALS[signal](moments, p, scale * weight, h) for scale in (1.0, 50.0))
    np.testing.assert_allclose(one, two, rtol=1e-9)


def test_squares_only_identity_loses_one() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(1, 2, (500, 9)), rng.normal(size=(9, 3))
    known = Moments(500.0, x.sum(0), (x**2).sum(0), np.zeros(0), np.zeros((9, 0)))
    one = stake(known, weight, np.arange(9)[:, None], np.zeros((0, 0)), identity)
    assert not one.full
    assert eliminate([one], 9).loss[0] == pytest.approx(1, rel=0.01)


# ---------------------------------------------------------------- nats


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_logits_predict_the_nats_of_a_linear_softmax(seed: int) -> None:
    """What is measured on the model that was really cut and refitted."""
    made = classifier(seed)
    group = made.group("first")
    ranking = mi(evidence(made, "logits"), group, {})
    meter = Meter(made.evidence, made.known, made.batches, True)
    for width in (6, 9):
        measured = meter.kl(group, ranking.keep(width))
        assert ranking.loss[width] == pytest.approx(measured, rel=0.15)


def test_logits_of_values_are_nats_too() -> None:
    """One column of values: the Gaussian divergence 1/2 d^2 / var."""
    net = Net(4)
    x = net.input("x", ("batch", 6))
    h = net.relu(net.dense(x, 6, 12, name="first"))
    y = net.dense(h, 12, 1, name="head")
    feeds = [{"x": net.rng.normal(size=(2048, 6)).astype(np.float32)}]
    made = Toy(net.proto({y: ("batch", 1)}), feeds, size=256)
    ranking = mi(evidence(made, "logits"), made.group("first"), {})
    meter = Meter(made.evidence, made.known, made.batches, True)
    measured = meter.kl(made.group("first"), ranking.keep(6))
    assert ranking.loss[6] == pytest.approx(measured, rel=0.15)


def test_logits_see_through_units_that_the_output_ignores() -> None:
    """A unit whose reader feeds nothing costs no nats, but plenty of variance."""
    made = classifier(5)
    moments = made.calibration.moments["head"]
    weight = made.evidence.weight(made.site("head")).copy()
    extended = np.concatenate([weight, 10 * np.eye(12)[:, :1]], 1)  # an output that nobody reads
    blocks = blocks_at(made.coupling, made.site("head"), made.group("first"))
    h = made.calibration.curvature
    plain = eliminate([stake(moments, extended, blocks, h, identity)], 12)
    informed = eliminate([stake(moments, extended, blocks, h, logits)], 12)
    reference = eliminate([stake(moments, weight, blocks, h, logits)], 12)
    assert plain.order[-1] == 0
    assert informed.order.tolist() == reference.order.tolist()


@pytest.mark.parametrize("signal", [logits, mixed])
def test_without_scores_every_signal_is_identity(signal: object) -> None:
    made = classifier()
    known = made.calibration.moments["head"]
    blind = Moments(known.count, known.first, known.second, np.zeros(0), np.zeros((12, 0)))
    weight, p = made.evidence.weight(made.site("head")), np.eye(12)
    none: Array = np.zeros((0, 0))
    np.testing.assert_array_equal(
        signal(blind, p, weight, none),  # type: ignore[operator]
        identity(blind, p, weight, none),
    )


def test_mixed_weighs_both_signals_equally() -> None:
    made = classifier()
    moments, weight = made.calibration.moments["head"], made.evidence.weight(made.site("head"))
    h, c = made.calibration.curvature, made.calibration.moments["head"].covariance()
    q = mixed(moments, np.linalg.inv(c), weight, h)
    assert np.trace(c @ q) == pytest.approx(2, rel=1e-6)


def test_outputs_that_are_gone_above_do_not_count() -> None:
    made = mlp(6, 24, 5)
    moments, weight = made.calibration.moments["fc1"], made.evidence.weight(made.site("fc1"))
    blocks, h = np.arange(24)[:, None], made.calibration.curvature
    some = stake(moments, weight, blocks, h, identity, np.array([0, 3]))
    sliced = stake(moments, weight[:, [0, 3]], blocks, h, identity)
    np.testing.assert_array_equal(some.q, sliced.q)
