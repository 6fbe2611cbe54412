"""OBS with its local search, and the closed form of SDP, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from toys import Array, Toy, cnn, mlp

from mipack.calibrate.ridge import absorb
from mipack.select.criteria import CRITERIA
from mipack.select.criteria.obs import Layer, exchanged
from mipack.select.local import damped


def layer(units: int, size: int, seed: int, beside: int = 0) -> Layer:
    rng = np.random.default_rng(seed)
    n = units * size + beside
    root = rng.normal(size=(n, n // 2 + 1))
    covariance = root @ root.T / n + 0.05 * np.eye(n)
    blocks = rng.permutation(units * size).reshape(units, size)
    return Layer(
        covariance, covariance @ rng.normal(size=(n, 5)), blocks, np.arange(n)[-beside or n :]
    )


def explained(made: Layer, kept: Array) -> float:
    at = np.concatenate([made.blocks[kept].reshape(-1), made.beside]).astype(int)
    inner = made.covariance[np.ix_(at, at)]
    return float((np.linalg.solve(inner, made.cross[at]) * made.cross[at]).sum())


@given(st.integers(1, 3), st.integers(0, 2), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_gains_and_losses_are_differences_of_what_is_explained(
    size: int, beside: int, seed: int
) -> None:
    made, kept = layer(7, size, seed, beside), np.array([0, 2, 3, 6])
    total, lost = made.missed(kept)
    assert total == pytest.approx(explained(made, kept))
    want = [total - explained(made, np.delete(kept, k)) for k in range(4)]
    np.testing.assert_allclose(lost, want, rtol=1e-6, atol=1e-9)
    others = np.array([1, 4, 5])
    want = [explained(made, np.append(kept, u)) - total for u in others]
    np.testing.assert_allclose(made.gained(kept, others), want, rtol=1e-6, atol=1e-9)


@given(st.integers(2, 9), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_the_search_never_ends_worse_than_it_began(width: int, seed: int) -> None:
    """Nor below what no single exchange could better."""
    layers = [layer(10, 1, seed), layer(10, 2, seed + 1)]
    start = np.sort(np.random.default_rng(seed).permutation(10)[:width])
    found = exchanged(layers, start)
    before, after = (sum(explained(made, kept) for made in layers) for kept in (start, found))
    assert len(set(found)) == width and after >= before * (1 - 1e-9)
    assert (np.diff(found) > 0).all()


def error(toy: Toy, name: str, site: str, kept: Array) -> float:
    """Squared error of a site's output after the refit, per row."""
    moments, group = toy.calibration.moments[site], toy.group(name)
    reader = next(s for s in toy.evidence.readers(group) if s.name == site)
    weight, covariance = toy.evidence.weight(reader), damped(moments)
    cut = np.setdiff1d(np.arange(len(weight)), kept)
    inner = covariance[np.ix_(kept, kept)]
    left = covariance[np.ix_(cut, cut)] - covariance[np.ix_(cut, kept)] @ np.linalg.solve(
        inner, covariance[np.ix_(kept, cut)]
    )
    return float(np.einsum("ij,ik,jk->", left, weight[cut], weight[cut]))


@pytest.mark.parametrize("width", [3, 5, 8])
def test_obs_finds_nearly_the_best_subset(width: int) -> None:
    toy = mlp(5, 10, 6, 3, samples=500)
    every = [
        error(toy, "fc0", "fc1", np.array(kept))
        for kept in itertools.combinations(range(10), width)
    ]
    found = error(
        toy, "fc0", "fc1", CRITERIA["obs"](toy.evidence, toy.group("fc0"), {}).keep(width)
    )
    assert found <= np.sort(every)[len(every) // 50]


def test_obs_losses_are_errors_in_the_units_of_the_output() -> None:
    toy = mlp(5, 10, 6, 3, samples=500)
    found = CRITERIA["obs"](toy.evidence, toy.group("fc0"), {})
    for width in (4, 7, 9):
        kept = np.sort(found.order[10 - width :])
        assert found.loss[width] == pytest.approx(error(toy, "fc0", "fc1", kept), rel=1e-6)


def test_obs_looks_at_its_layer_alone() -> None:
    toy = cnn()
    group = toy.group("stem")
    plain = CRITERIA["obs"](toy.evidence, group, {})
    other = CRITERIA["obs"](toy.evidence, group, {"wide": np.arange(3)})
    np.testing.assert_array_equal(plain.order, other.order)


@pytest.mark.parametrize("width", [3, 6, 9])
def test_sdp_losses_are_squared_correlations(width: int) -> None:
    """1 - mean over outputs of corr(y, refitted y)^2, up to the ridge."""
    toy = mlp(5, 10, 6, 3, samples=2000)
    group, moments = toy.group("fc0"), toy.calibration.moments["fc1"]
    found = CRITERIA["sdp"](toy.evidence, group, {})
    kept = found.keep(width)
    weight = toy.evidence.weight(toy.site("fc1"))
    new, _ = absorb(moments, weight, kept)
    covariance = moments.covariance()
    full, left = weight, np.zeros_like(weight)
    left[kept] = new
    between = np.einsum("ij,ik,kj->j", full, covariance, left)
    own = [np.einsum("ij,ik,kj->j", w, covariance, w) for w in (full, left)]
    correlation = between / np.sqrt(own[0] * own[1])
    assert found.loss[width] == pytest.approx(1 - (correlation**2).mean(), abs=0.02)
    assert found.loss[0] == pytest.approx(1, abs=0.02)


LOUD = np.array([1, 1, 128, 1, 1, 1], "f4")


def test_sdp_counts_every_output_alike() -> None:
    """A loud output does not drown the others: scaling it changes nothing."""
    toy = mlp(5, 10, 6, 3, samples=500)
    proto = onnx.ModelProto()
    proto.CopyFrom(toy.proto)
    read = next(tensor for tensor in proto.graph.initializer if tensor.name == "fc1.w")
    read.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(read) * LOUD, "fc1.w"))
    loud = Toy(proto, toy.feeds)
    orders = {
        name: [CRITERIA[name](t.evidence, t.group("fc0"), {}).order.tolist() for t in (toy, loud)]
        for name in ("sdp", "obs")
    }
    assert orders["sdp"][0] == orders["sdp"][1] and orders["obs"][0] != orders["obs"][1]
