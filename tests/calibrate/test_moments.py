"""Moments: sums that merge, whatever the batches, and the file that keeps them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Array, Toy, cnn, mlp

from mipack.calibrate import moments as module
from mipack.calibrate import taps
from mipack.calibrate.moments import Accumulator, Moments, load_calibration, waves
from mipack.calibrate.sites import Site
from mipack.errors import InputError, PlanMismatch
from mipack.select.decide import Decider, Request

FIELDS = ("count", "first", "second", "scores", "cross")


def accumulate(site: Site, parts: list[tuple[Array, Array]]) -> Moments:
    total = Accumulator(site, parts[0][1].shape[1])
    for rows, scores in parts:
        total.add(torch.from_numpy(rows), torch.from_numpy(scores))
    return total.result()


def far(one: Moments, two: Moments) -> float:
    """The largest relative difference of any sum."""
    pairs = ((np.asarray(getattr(one, f)), np.asarray(getattr(two, f))) for f in FIELDS)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)


def random_rows(site: Site, rows: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(0.5, 1, (rows, site.features)), rng.normal(size=(rows, 3))
    return x.astype(np.float32), z.astype(np.float32)


@pytest.fixture(scope="module")
def site() -> Site:
    return mlp(4, 9, 3).site("fc1")


def test_moments_are_those_of_the_rows(site: Site) -> None:
    x, z = random_rows(site, 500)
    found = accumulate(site, [(x[:300], z[:300]), (x[300:], z[300:])])
    joint = np.cov(np.concatenate([x, z], 1).T.astype(float), bias=True)
    assert found.count == 500
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.covariance(), joint[:9, :9], atol=1e-5)
    np.testing.assert_allclose(found.cross_covariance(), joint[:9, 9:], atol=1e-5)


@given(st.lists(st.integers(0, 400), max_size=4), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_moments_merge(cuts: list[int], shards: int) -> None:
    site = mlp(4, 9, 3).site("fc1")
    x, z = random_rows(site, 400)
    edges = [0, *sorted(cuts), 400]
    parts = [(x[a:b], z[a:b]) for a, b in itertools.pairwise(edges)]
    whole = accumulate(site, [(x, z)])
    merged = accumulate(site, parts[:shards])
    for part in parts[shards:]:
        merged = merged.merge(accumulate(site, [part]))
    assert far(merged, whole) < 1e-6


def test_wide_sites_keep_squares_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    x, z = random_rows(site, 200)
    whole = accumulate(site, [(x, z)])
    monkeypatch.setattr(module, "FEATURES_MOST", site.features - 1)
    found = accumulate(site, [(x, z)])
    assert whole.full and not found.full
    np.testing.assert_allclose(found.second, np.diagonal(whole.second), rtol=1e-6)
    np.testing.assert_allclose(found.covariance(), np.diagonal(whole.covariance()), rtol=1e-5)


def test_no_rows_give_zeros(site: Site) -> None:
    found = accumulate(site, [random_rows(site, 0)])
    assert found.count == 0 and not found.mean.any() and not found.covariance().any()


def test_a_large_mean_does_not_drown_the_variance(site: Site) -> None:
    x, z = random_rows(site, 2000)
    x += np.float32(300)
    found = accumulate(site, [(x, z)]).covariance()
    np.testing.assert_allclose(found, np.cov(x.T.astype(float), bias=True), atol=1e-3)


# ---------------------------------------------------------------- batches and order


def on_digits(folder: Path, size: int, order: list[int]) -> Toy:
    feeds = [dict(np.load(folder / "calib.npz"))]
    return Toy(onnx.load(folder / "model.onnx"), feeds, size=size, order=order)


def on_bert(folder: Path, size: int, order: list[int]) -> Toy:
    files = sorted((folder / "zoo" / "bert_ts" / "calib").glob("*.npz"))
    model = onnx.load(folder / "zoo" / "bert_ts" / "model.onnx")
    feeds = [dict(np.load(file)) for file in files]
    return Toy(model, feeds, mask="attention_mask", size=size, order=order)


def orders(samples: int) -> Iterator[tuple[int, list[int]]]:
    """(batch size, order of the samples)."""
    plain = list(range(samples))
    yield from ((size, plain) for size in (1, 3, 8))
    yield 3, np.random.default_rng(0).permutation(samples).tolist()


def assert_same_moments(toys: list[Toy]) -> None:
    first = toys[0].calibration
    for toy in toys[1:]:
        found = toy.calibration
        assert max(far(found.moments[n], first.moments[n]) for n in first.moments) < 1e-5
        np.testing.assert_allclose(found.curvature, first.curvature, rtol=1e-5, atol=1e-9)


def plan(toy: Toy, *, widest: int) -> list[tuple[int, ...]]:
    """The units that every group of narrow readers keeps."""
    evidence = toy.evidence
    groups = [
        g for g in toy.coupling.free if all(site.features <= widest for site in evidence.readers(g))
    ]
    request = Request(keep=0.5)
    return [g.keep for g in Decider(evidence, groups, "mi", None).decide(request).groups]


def test_digits_depend_on_neither_batch_size_nor_order(digits: Path) -> None:
    made = [on_digits(digits, size, order) for size, order in orders(80)]
    assert_same_moments(made)
    assert plan(made[0], widest=300) == plan(made[-1], widest=300)


def test_bert_depends_on_neither_batch_size_nor_order(shared: Path) -> None:
    made = [on_bert(shared, size, order) for size, order in orders(64)]
    assert_same_moments(made)
    assert len({str(plan(toy, widest=300)) for toy in made}) == 1
    tokens = sum(int(feed["attention_mask"].sum()) for feed in made[0].feeds)
    counts = {s.name: made[0].calibration.moments[s.name].count for s in made[0].sites}
    assert list(counts.values()) == [tokens] * 4 + [64]  # the last reads one row per sentence


def test_waves_give_the_same_as_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    one = cnn().calibration
    assert len(waves(cnn().sites, 5, 40_000)) > 2
    monkeypatch.setattr(taps, "MEMORY", 40_000)
    several = cnn().calibration
    assert several.moments.keys() == one.moments.keys()
    assert max(far(several.moments[n], one.moments[n]) for n in one.moments) < 1e-6


@given(st.integers(0, 2_000_000))
@settings(deadline=None)
def test_waves_hold_every_site_once_within_the_budget(budget: int) -> None:
    sites = SITES
    made = waves(sites, 5, budget)
    assert [site for wave in made for site in wave] == list(sites)
    assert all(len(wave) == 1 or module.wave_bytes(wave, 5) <= budget for wave in made)


SITES = cnn().sites


# ---------------------------------------------------------------- the file


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "moments.npz"
    replace(mlp(4, 9, 3).calibration, model_key="model", data_key="data").save(path)
    return path


def test_a_file_of_moments_is_what_was_saved(tmp_path: Path) -> None:
    calibration, path = cnn().calibration, tmp_path / "moments.npz"
    calibration.save(path)
    found = load_calibration(path, "model", "data")
    assert found.samples == calibration.samples and found.data_key == "data"
    np.testing.assert_array_equal(found.curvature, calibration.curvature)
    assert found.moments.keys() == calibration.moments.keys()
    assert all(far(found.moments[n], calibration.moments[n]) == 0 for n in found.moments)
    assert [file.name for file in tmp_path.iterdir()] == ["moments.npz"]


def test_the_data_need_not_be_at_hand(saved: Path) -> None:
    assert load_calibration(saved, "model", None).data_key == "data"


@pytest.mark.parametrize(("keys", "what"), [(("other", "data"), "another model"),
                                            (("model", "other"), "other data")])  # fmt: skip
def test_moments_of_another_model_or_other_data_are_refused(
    saved: Path, keys: tuple[str, str], what: str
) -> None:
    with pytest.raises(PlanMismatch, match=what) as caught:
        load_calibration(saved, *keys)
    assert caught.value.hint and "\n" not in str(caught.value)


def test_moments_of_another_format_are_refused(saved: Path) -> None:
    with np.load(saved, allow_pickle=False) as data:
        arrays: dict[str, Any] = {**data, "format": np.array("mipack-moments/0")}
    np.savez(saved, **arrays)
    with pytest.raises(PlanMismatch, match="version"):
        load_calibration(saved, "model", "data")


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    with path.open("wb") as file:
        if kind == "an array":
            np.save(file, np.zeros(3))
        elif kind == "other arrays":
            np.savez(file, x=np.zeros(3))
        elif kind == "a pickle":
            np.savez(file, format=np.array([{}], dtype=object))
        else:
            file.write({"empty": b"", "text": b"not moments", "cut": content[:400]}[kind])


DAMAGED = (
    "empty",
    "cut",
    "an array",
    "text",
    "other arrays",
    "a pickle",
)


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused(saved: Path, kind: str) -> None:
    damage(saved, kind)
    with pytest.raises(PlanMismatch, match="moments") as caught:
        load_calibration(saved, "model", "data")
    assert "\n" not in str(caught.value)


def test_moments_cannot_be_saved_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        mlp(4, 9, 3).calibration.save(tmp_path / "missing" / "moments.npz")
