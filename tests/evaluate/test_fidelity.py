"""Fidelity against closed forms and scipy, and the laws of padding, batches and odd values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from mipack.evaluate.fidelity import FLOOR, Fidelity, Tally

Array = np.ndarray[Any, np.dtype[Any]]
seeds = st.integers(0, 10_000)


def fidelity(
    first: Array, second: Array, *, mask: Array | None = None, sampled: bool = True
) -> Fidelity:
    tally = Tally("y")
    tally.add(first, second, mask=mask, sampled=sampled)
    return tally.result()


@given(seeds, st.integers(2, 7))
def test_kl_of_logits_and_of_their_probabilities_is_that_of_scipy(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0, 3, (2, 9, classes))
    p, q = softmax(first, axis=1), softmax(second, axis=1)
    expected = float(np.mean([entropy(a, b) for a, b in zip(p, q, strict=True)]))
    assert fidelity(first, second).kl == pytest.approx(expected, abs=1e-12)
    assert fidelity(p, q).kl == pytest.approx(expected, abs=1e-12)
    assert fidelity(np.log(p), np.log(q)).kl == pytest.approx(expected, abs=1e-12)


def test_kl_of_two_coins() -> None:
    first, second = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    assert fidelity(first, second).kl == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))


def test_single_precision_probabilities_are_recognised() -> None:
    rng = np.random.default_rng(0)
    p, q = softmax(rng.normal(size=(2, 50, 1000)), axis=2)
    exact = fidelity(p, q).kl
    assert fidelity(p.astype(np.float32), q.astype(np.float32)).kl == pytest.approx(exact, rel=1e-5)


def test_impossible_classes_keep_kl_finite() -> None:
    found = fidelity(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])).kl
    assert found == pytest.approx(0.5 * np.log(0.5) + 0.5 * (np.log(0.5) - np.log(FLOOR)))
    masked = np.array([[1.0, 2.0, -np.inf]])
    assert fidelity(masked, masked).kl == pytest.approx(0.0, abs=1e-12)


@given(seeds)
def test_a_model_agrees_with_itself(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(5, 4, 3)).astype(np.float32)
    found = fidelity(values, values)
    assert (found.agreement, found.flips, found.relative_l2) == (1.0, 0, 0.0)
    assert found.cosine == pytest.approx(1.0)
    assert found.kl == 0.0


def test_agreement_cosine_and_error_by_hand() -> None:
    first = np.array([[3.0, 4.0], [1.0, 0.0]])
    second = np.array([[4.0, 3.0], [1.0, 0.0]])
    found = fidelity(first, second)
    assert (found.rows, found.agreement, found.flips) == (2, 0.5, 1)
    assert found.cosine == pytest.approx((24 / 25 + 1) / 2)
    assert found.relative_l2 == pytest.approx(np.sqrt(2 / 26))


@given(seeds, st.integers(1, 8))
def test_batches_do_not_matter(seed: int, size: int) -> None:
    first, second = np.random.default_rng(seed).normal(size=(2, 8, 5))
    tally = Tally("y")
    for start in range(0, 8, size):
        rows = slice(start, start + size)
        tally.add(first[rows], second[rows], mask=None, sampled=True)
    whole, parts = fidelity(first, second), tally.result()
    assert (parts.rows, parts.flips) == (whole.rows, whole.flips)
    assert (parts.kl, parts.cosine, parts.relative_l2) == pytest.approx(
        (whole.kl, whole.cosine, whole.relative_l2)
    )


def test_large_outputs_are_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 7, 3, 4))
    mask = np.array([[1, 1, 0]] * 7)
    whole = fidelity(first, second, mask=mask)
    monkeypatch.setattr("mipack.evaluate.fidelity.PART_ENTRIES", 24)
    parts = fidelity(first, second, mask=mask)
    assert (parts.rows, parts.flips) == (whole.rows, whole.flips)
    assert parts.kl == pytest.approx(whole.kl)


@given(seeds, st.floats(-1e3, 1e3))
def test_padding_tokens_do_not_matter(seed: int, junk: float) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, 3, 4, 5))
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    other = np.where(mask[:, :, None] > 0, second, junk)
    assert fidelity(first, other, mask=mask) == fidelity(first, second, mask=mask)
    assert fidelity(first, second, mask=mask).rows == mask.sum()


def test_a_mask_of_other_axes_is_not_applied() -> None:
    values = np.ones((2, 5, 3))
    assert fidelity(values, values, mask=np.zeros((2, 4))).rows == 10


@pytest.mark.parametrize("shape", [(6,), (6, 1), (2, 3, 4, 5), ()])
def test_outputs_that_are_no_classes_have_no_agreement(shape: tuple[int, ...]) -> None:
    values = np.ones(shape)
    found = fidelity(values, 2 * values, sampled=bool(shape))
    assert (found.agreement, found.flips, found.kl) == (None, None, None)
    assert found.cosine == pytest.approx(1.0)
    assert found.relative_l2 == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, object, np.str_])
def test_other_outputs_agree_where_they_are_equal(dtype: Any) -> None:
    first = np.array(["1", "0", "1", "1"]).astype(np.int64).astype(dtype)
    second = np.array(["1", "0", "0", "1"]).astype(np.int64).astype(dtype)
    found = fidelity(first, second)
    assert (found.agreement, found.flips, found.rows) == (0.75, 1, 4)
    assert (found.kl, found.cosine, found.relative_l2) == (None, None, None)


def test_nan_of_the_second_model_is_counted_and_flips() -> None:
    first = np.array([[1.0, 2.0], [2.0, 1.0]])
    second = np.array([[np.nan, 2.0], [2.0, 1.0]])
    found = fidelity(first, second)
    assert (found.nonfinite, found.flips, found.agreement) == (1, 1, 0.5)
    assert (found.kl, found.relative_l2) == (0.0, 0.0)
    assert found.cosine == pytest.approx(1.0)
    assert fidelity(second, second).nonfinite == 0


def test_zero_vectors() -> None:
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    both = fidelity(zero, zero)
    assert (both.cosine, both.relative_l2) == (1.0, 0.0)
    alone = fidelity(zero, one)
    assert (alone.cosine, alone.relative_l2) == (0.0, None)


def test_half_precision_does_not_overflow() -> None:
    values = np.full((2, 400), 60_000, np.float16)
    assert fidelity(values, values).cosine == pytest.approx(1.0)
