"""The sample of rows: the same whatever the batches, and it merges."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Array, Net, Toy, cnn, mlp

from mipack.calibrate import sample as module
from mipack.calibrate.moments import load_calibration
from mipack.calibrate.sample import RowSample, Sampler, above_of, places, priorities, rows_most
from mipack.graph.probe import session_with


def assert_same(one: RowSample, two: RowSample) -> None:
    np.testing.assert_array_equal(one.priority, two.priority)
    np.testing.assert_allclose(one.x, two.x, atol=1e-5)
    np.testing.assert_allclose(one.above, two.above, atol=1e-5)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_MOST", 50)


ORDERS = [(1, False), (7, False), (32, True), (5, True)]


@pytest.mark.parametrize(("size", "shuffled"), ORDERS)
def test_neither_batch_size_nor_order_matter(few: None, size: int, shuffled: bool) -> None:
    """Of 64 x 64 places the same 50."""
    first, other = cnn(), cnn()
    other.size = size
    if shuffled:
        other.order = np.random.default_rng(0).permutation(64).tolist()
    for name, rows in first.calibration.rows.items():
        assert len(rows.x) == 50 or name in ("hidden", "head")
        assert_same(other.calibration.rows[name], rows)


@given(st.lists(st.integers(0, 200), max_size=3), st.integers(1, 200), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_shards_merge_to_one_pass(cuts: list[int], most: int, seed: int) -> None:
    site = mlp(4, 9, 3).site("fc1")
    rng = np.random.default_rng(seed)
    x, above = rng.normal(size=(200, 9)).astype("f4"), rng.normal(size=(200, 3)).astype("f4")
    origin = rng.permutation(40)

    def sampled(rows: Array) -> RowSample:
        """Rows 5 k to 5 k + 4 belong to sample k."""
        sampler, samples = Sampler(site, seed), np.unique(rows // 5)
        owner = np.searchsorted(samples, rows // 5)
        sampler.add(
            torch.from_numpy(x[rows]), torch.from_numpy(above[rows]), owner, origin[samples]
        )
        return sampler.result()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_MOST", most)
        whole = sampled(np.arange(200))
        assert len(whole.x) == most
        edges = sorted({0, 200, *(5 * (c // 5) for c in cuts)})
        merged = None
        for start, end in itertools.pairwise(edges):
            part = sampled(np.arange(start, end))
            merged = part if merged is None else part.merge(merged)
        assert merged is not None
        for one, two in zip(merged._parts(), whole._parts(), strict=True):
            np.testing.assert_array_equal(one, two)


def test_sites_of_the_same_rows_draw_the_same_positions(few: None) -> None:
    """So that what one site reads can be compared with what the next one reads."""
    rows = mlp(6, 8, 7, 5, samples=300).calibration.rows
    np.testing.assert_array_equal(rows["fc1"].priority, rows["fc2"].priority)
    np.testing.assert_array_equal(rows["fc1"].above, rows["fc2"].x)


def test_other_seeds_draw_other_rows(few: None) -> None:
    one, two = mlp(6, 8, 5), mlp(6, 8, 5)
    two.sample = 1
    first, second = (toy.calibration.rows["fc1"].x for toy in (one, two))
    shared = {row.tobytes() for row in first} & {row.tobytes() for row in second}
    assert 0 < len(shared) < 30  # by chance 50 * 50 / 256


def test_without_a_seed_nothing_is_drawn() -> None:
    toy = mlp(6, 8, 5)
    toy.sample = None
    assert not toy.calibration.rows


def test_rows_are_drawn_evenly() -> None:
    """Every sample, every place and every batch are as likely."""
    drawn = priorities(3, np.repeat(np.arange(500), 40), np.tile(np.arange(40), 500))
    lowest = np.argsort(drawn)[:5000]
    for part, parts in ((lowest // 40, 500), (lowest % 40, 40)):
        counts = np.bincount(part, minlength=parts)
        expected = 5000 / parts
        assert ((counts - expected) ** 2 / expected).sum() < parts + 6 * np.sqrt(2 * parts)
    assert len(np.unique(drawn)) == len(drawn)


def test_padding_is_never_drawn() -> None:
    net = Net(3)
    x, mask = net.input("x", ("batch", "seq", 5)), net.input("mask", ("batch", "seq"), "int64")
    ones = net.node("Unsqueeze", net.node("Cast", mask, to=1), net.weight("two", np.array([2])))
    h = net.node("Mul", net.relu(net.dense(x, 5, 6, name="first")), ones)
    y = net.dense(h, 6, 3, name="site")
    real = np.random.default_rng(0).random((20, 8)) < 0.6
    real[:, 0] = True
    feeds = {"x": net.rng.normal(size=(20, 8, 5)).astype("f4"), "mask": real.astype(np.int64)}
    feeds["x"][~real] = 1e4
    rows = Toy(net.proto({y: [None] * 3}), [feeds], mask="mask").calibration.rows["site"]
    assert len(rows.x) == real.sum() and np.abs(rows.x).max() < 100
    assert np.abs(rows.above).max() < 100


def test_places_number_the_rows_of_a_sample() -> None:
    assert places(np.array([1, 0, 1, 1, 0, 2])).tolist() == [0, 0, 1, 2, 1, 0]


def test_wide_sites_keep_fewer_rows() -> None:
    assert rows_most(1000, 384) == 4096
    assert rows_most(100_000, 0) * 100_000 * 4 <= 64 << 20


# ---------------------------------------------------------------- what stands above


def test_above_is_what_the_next_layer_reads() -> None:
    """Behind bias, norm of the batch, addition and activation; at the end the scores."""
    toy = cnn()
    wanted = {"wide": "relu3", "inner": "relu5", "outer": "relu8", "hidden": "relu13"}
    found = {site.name: above_of(toy.coupling, site) for site in toy.sites}
    assert {name: found[name] for name in wanted} == wanted
    assert found["head"] == "head.add"
    values = session_with(toy.coupling.model, list(found.values())).run(toy.batches[0].feeds)
    assert set(found.values()) <= set(values)


def test_above_crosses_a_norm_and_stops_where_axes_change() -> None:
    net = Net(0)
    x = net.input("x", ("batch", "seq", 8))
    h = net.relu(net.dense(x, 8, 12, name="up"))
    stream = net.node("Add", x, net.dense(h, 12, 8, name="down"), name="stream")
    scale, shift = (net.weight(n, np.ones(8)) for n in ("scale", "shift"))
    normed = net.node("LayerNormalization", stream, scale, shift, name="normed", axis=-1)
    wide = net.relu(net.dense(normed, 8, 9, name="wider"))
    pooled = net.node("ReduceMean", wide, axes=[1], keepdims=0)
    y = net.dense(pooled, 9, 2, name="head")
    toy = Toy(net.proto(y), [{"x": net.rng.normal(size=(6, 4, 8)).astype("f4")}])
    sites = {site.name: site for site in toy.sites}
    assert above_of(toy.coupling, sites["down"]) == "normed"
    assert sites.keys() == {"down", "head"}
    rows = toy.calibration.rows["down"]
    want = session_with(toy.coupling.model, ["normed"]).run(toy.feeds[0], ["normed"])["normed"]
    np.testing.assert_allclose(np.sort(rows.above, 0), np.sort(want.reshape(-1, 8), 0), atol=1e-6)


# ---------------------------------------------------------------- the file


def test_a_file_keeps_the_rows(tmp_path: Path) -> None:
    calibration = mlp(6, 8, 5).calibration
    calibration.save(tmp_path / "m.npz")
    found = load_calibration(tmp_path / "m.npz", "model", "data").rows
    assert found.keys() == calibration.rows.keys()
    for name, rows in calibration.rows.items():
        for one, two in zip(found[name]._parts(), rows._parts(), strict=True):
            np.testing.assert_array_equal(one, two)
