"""Subsets, splits and batches, on feeds in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipack.data.dataset import Dataset, ReadOptions
from mipack.data.open import from_feeds
from mipack.errors import InputError
from mipack.records import Signature, TensorSpec

ALL = ReadOptions(samples=None)
VECTOR = Signature((TensorSpec("x", "float32", ("batch", 2)),), ())


def rows(count: int, *, signature: Signature = VECTOR, start: int = 0) -> Dataset:
    x = np.arange(start, start + 2 * count, dtype=np.float32).reshape(count, 2)
    return from_feeds([{"x": x}], signature, ALL)


def values(dataset: Dataset, size: int = 32) -> list[float]:
    found = np.concatenate([b.feeds["x"][: b.samples, 0] for b in dataset.batches(size)])
    return [float(value) for value in found]


@given(count=st.integers(1, 40), size=st.integers(1, 50))
def test_batches_hold_every_sample_once_whatever_the_size(count: int, size: int) -> None:
    dataset = rows(count)
    batches = list(dataset.batches(size))
    assert values(dataset, size) == [2.0 * at for at in range(count)]
    assert all(batch.samples <= size for batch in batches)
    assert np.concatenate([batch.index for batch in batches]).tolist() == list(range(count))


@given(count=st.integers(2, 60), share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_split_parts_are_disjoint_complete_and_not_empty(
    count: int, share: float, seed: int
) -> None:
    dataset = rows(count)
    fit, held = dataset.split(share, seed)
    assert sorted(values(fit) + values(held)) == values(dataset)
    assert fit.samples and held.samples
    again = dataset.split(share, seed)
    assert [part.digest for part in again] == [fit.digest, held.digest]


def test_one_sample_cannot_be_split_and_stays_in_the_first_part() -> None:
    fit, held = rows(1).split(0.5, 0)
    assert (fit.samples, held.samples, list(held.batches())) == (1, 0, [])


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_outside_the_open_interval_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="held-out"):
        rows(3).split(share, 0)


def test_take_is_seeded_keeps_the_order_and_says_so() -> None:
    dataset = rows(100)
    some = dataset.take(10, 3)
    assert some.samples == 10
    assert values(some) == sorted(values(some)) == values(dataset.take(10, 3))
    assert values(some) != values(dataset.take(10, 4))
    assert "10 of 100 samples at random (seed 3)" in some.description
    assert dataset.take(100, 0) is dataset
    with pytest.raises(InputError, match="0 samples"):
        dataset.take(0, 0)


def test_samples_option_takes_a_subset() -> None:
    x = np.zeros((20, 2), np.float32)
    assert from_feeds([{"x": x}], VECTOR, ReadOptions(samples=7)).samples == 7


def test_digest_follows_content_subset_and_order_only() -> None:
    dataset = rows(6)
    assert dataset.digest == rows(6).digest
    assert dataset.digest != rows(6, start=1).digest
    assert dataset.digest != dataset.subset([0, 1]).digest
    assert dataset.subset([1, 0]).digest != dataset.subset([0, 1]).digest


def test_a_static_batch_wins_and_the_last_is_filled() -> None:
    fixed = Signature((TensorSpec("x", "float32", (4, 2)),), ())
    dataset = rows(6, signature=fixed)
    batches = list(dataset.batches(3))
    assert [batch.feeds["x"].shape for batch in batches] == [(4, 2), (4, 2)]
    assert [batch.samples for batch in batches] == [4, 2]
    assert (batches[1].feeds["x"][2:] == batches[1].feeds["x"][1]).all()
    assert values(dataset) == [2.0 * at for at in range(6)]


def test_batch_one_loops() -> None:
    fixed = Signature((TensorSpec("x", "float32", (1, 2)),), ())
    assert [batch.samples for batch in rows(3, signature=fixed).batches()] == [1, 1, 1]


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="batch of 0"):
        next(rows(2).batches(0))


def test_only_equal_shapes_meet_in_a_batch() -> None:
    ragged = Signature((TensorSpec("x", "float32", ("batch", "time")),), ())
    feeds = [{"x": np.full((2, 3 + at % 2), at, np.float32)} for at in range(4)]
    dataset = from_feeds(feeds, ragged, ALL)
    batches = list(dataset.batches())
    assert [batch.feeds["x"].shape for batch in batches] == [(4, 3), (4, 4)]
    assert batches[0].feeds["x"][:, 0].tolist() == [0, 0, 2, 2]


def test_samples_lie_on_the_axis_that_the_inputs_share() -> None:
    states = Signature(
        (TensorSpec("x", "float32", ("batch", 2)), TensorSpec("h", "float32", (1, "batch", 3))), ()
    )
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    h = np.arange(15, dtype=np.float32).reshape(1, 5, 3)
    dataset = from_feeds([{"x": x, "h": h}], states, ALL)
    (batch,) = dataset.subset([3, 1]).batches()
    assert dataset.samples == 5
    np.testing.assert_array_equal(batch.feeds["x"], x[[3, 1]])
    np.testing.assert_array_equal(batch.feeds["h"], h[:, [3, 1]])


@pytest.mark.parametrize(
    "specs",
    [
        (("x", (7, 2)), ("edges", (2, "edges"))),  # sizes of two meanings
        (("x", ("nodes", 2)), ("edges", (2, "edges"))),
        (("x", ("nodes", 2)), ("edges", (None, "edges"))),  # the lengths do not agree
    ],
)
def test_without_a_sample_axis_a_feed_is_one_sample(specs: tuple[tuple[str, tuple]]) -> None:
    signature = Signature(tuple(TensorSpec(n, "float32", shape) for n, shape in specs), ())
    feed = {"x": np.zeros((7, 2), np.float32), "edges": np.zeros((2, 9), np.float32)}
    dataset = from_feeds([feed, feed], signature, ALL)
    assert dataset.samples == 2
    assert [b.feeds["edges"].shape for b in dataset.batches()] == [(2, 9), (2, 9)]
    assert "whole feeds" in dataset.description[0]


def test_a_fixed_first_size_that_outputs_contradict_is_no_batch() -> None:
    x = TensorSpec("x", "float32", (4, 2))
    feed = {"x": np.zeros((4, 2), np.float32)}
    pooled = Signature((x,), (TensorSpec("y", "float32", (1, 2)),))
    batched = Signature((x,), (TensorSpec("y", "float32", (4, 2)),))
    assert from_feeds([feed], pooled, ALL).samples == 1
    assert from_feeds([feed], batched, ALL).samples == 4


def test_no_feeds_or_no_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="no feeds"):
        from_feeds([], VECTOR, ALL)
    with pytest.raises(InputError, match="no inputs"):
        from_feeds([{}], Signature((), ()), ALL)
    with pytest.raises(InputError, match="no samples"):
        from_feeds([{"x": np.zeros((0, 2), np.float32)}], VECTOR, ALL)
