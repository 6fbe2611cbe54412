"""The metrics against another implementation, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from mipack.errors import InputError
from mipack.evaluate.metrics import METRICS, choose

Array = np.ndarray[Any, np.dtype[Any]]


def score(name: str, output: Array, labels: Array, mask: Array | None = None) -> float:
    metric = METRICS[name]
    rows = metric.rows(output, labels, mask)
    assert len(rows) == len(output)
    return metric.total(rows, np.ones(len(rows)))


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(6, 12))
def test_class_metrics_are_those_of_scikit_learn(seed: int, n: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    output = rng.normal(size=(n, classes)).astype(np.float32)
    labels = rng.integers(0, classes, n)
    guess = output.argmax(axis=1)
    assert score("accuracy", output, labels) == pytest.approx((guess == labels).mean())
    assert score("f1", output, labels) == pytest.approx(
        reference.f1_score(labels, guess, average="macro", zero_division=0)
    )
    assert score("top5", output, labels) == pytest.approx(
        reference.top_k_accuracy_score(labels, output, k=5, labels=np.arange(classes))
    )


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 4))
def test_errors_are_those_of_scikit_learn(seed: int, n: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    output, target = rng.normal(size=(2, n, width))
    assert score("mse", output, target) == pytest.approx(
        reference.mean_squared_error(target, output)
    )
    assert score("mae", output, target) == pytest.approx(
        reference.mean_absolute_error(target, output)
    )


def test_weights_count_samples_more_than_once() -> None:
    rng = np.random.default_rng(0)
    output, labels, weights = (
        rng.normal(size=(30, 4)),
        rng.integers(0, 4, 30),
        rng.integers(0, 4, 30),
    )
    for name in ("accuracy", "f1"):
        metric = METRICS[name]
        rows = metric.rows(output, labels, None)
        repeated = np.repeat(rows, weights, axis=0)
        assert metric.total(rows, weights.astype(float)) == pytest.approx(
            metric.total(repeated, np.ones(len(repeated)))
        )


def test_targets_of_one_column_fit_a_vector() -> None:
    assert score("mae", np.array([[1.0], [2.0]]), np.array([1.5, 2.5])) == 0.5


def test_equal_scores_do_not_make_every_label_a_top_five() -> None:
    assert score("top5", np.zeros((10, 10)), np.arange(10)) == 0.5


def test_nan_is_no_right_answer() -> None:
    output = np.full((3, 6), np.nan)
    labels = np.zeros(3, np.int64)
    assert score("accuracy", output, labels) == 0.0
    assert score("top5", output, labels) == 0.0
    assert score("f1", output, labels) == 0.0


def test_tokens_are_judged_once_each_without_padding_and_ignored_labels() -> None:
    output = np.zeros((2, 3, 2))
    output[:, :, 1] = [[1, 1, -1], [1, -1, 1]]  # predicts 1 1 0 and 1 0 1
    labels = np.array([[1, 0, 0], [0, 0, -100]])
    mask = np.array([[1, 1, 0], [1, 1, 1]])
    assert score("token-accuracy", output, labels, mask) == 0.5
    assert score("token-accuracy", output, labels) == 0.6


@pytest.mark.parametrize(
    ("name", "output", "labels", "words"),
    [
        ("accuracy", np.zeros((2, 3)), np.array([0, 3]), "label 3 is out of range for 3 classes"),
        ("accuracy", np.zeros((2, 3)), np.array([-1, 0]), "label -1 is out of range"),
        ("accuracy", np.zeros((2, 3)), np.array([0.5, 1.0]), "must be integers.*float64"),
        ("accuracy", np.zeros((2, 3)), np.array([0, 1, 2]), "3 labels for 2 samples"),
        ("accuracy", np.zeros((2, 1)), np.array([0, 0]), r"\[2, 1\], not scores"),
        ("accuracy", np.zeros((2, 3), np.int64), np.array([0, 0]), "int64"),
        ("top5", np.zeros((2, 3)), np.array([0, 0]), "always right"),
        ("token-accuracy", np.zeros((2, 3)), np.array([0, 0]), "needs scores of"),
        ("token-accuracy", np.zeros((1, 2, 3)), np.array([[0, 3]]), "out of range"),
        ("mse", np.zeros((2, 3)), np.zeros((2, 2)), "do not fit"),
        ("mse", np.full((2, 1), np.nan), np.zeros((2, 1)), "not finite"),
        ("mae", np.zeros((2, 1)), np.array(["a", "b"]), "no numbers"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, output: Array, labels: Array, words: str) -> None:
    with pytest.raises(InputError, match=words):
        score(name, output, labels)


def test_default_metric() -> None:
    outputs = {"tokens": np.zeros((2, 5, 8)), "logits": np.zeros((2, 3))}
    assert choose(None, None, outputs) is None
    assert choose(None, np.array([0, 1]), outputs) == "accuracy"
    assert choose(None, np.array([[0], [1]]), outputs) == "accuracy"
    assert choose("mse", np.zeros(2), outputs) == "mse"


@pytest.mark.parametrize(
    ("name", "labels", "words"),
    [
        ("precision", np.array([0, 1]), "no metric 'precision'"),
        ("accuracy", None, "needs labels"),
        (None, np.array([0.1, 0.2]), "which metric"),
        (None, np.array([[0, 1], [1, 0]]), "which metric"),
    ],
)
def test_no_default_metric_where_none_is_sure(
    name: str | None, labels: Array | None, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        choose(name, labels, {"logits": np.zeros((2, 3))})
    assert caught.value.hint
