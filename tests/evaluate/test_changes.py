"""Which answers changed: counted, sorted by how sure the original was, named by where they are."""

from __future__ import annotations

import numpy as np
import pytest

from mipack.evaluate.changes import LISTED, Changes, Watch

LOGITS = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32))


def watched(
    first: np.ndarray,
    second: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    index: np.ndarray | None = None,
) -> Changes:
    watch = Watch("y")
    watch.add(first, second, labels=labels, mask=mask, index=index)
    found = watch.result()
    assert found is not None
    return found


def test_the_surest_change_comes_first_with_its_place_in_the_data() -> None:
    second = LOGITS[:, ::-1].copy()
    second[1] = LOGITS[1]
    labels, index = np.array([0, 1, 1, 1]), np.array([40, 30, 20, 10])
    found = watched(LOGITS, second, labels=labels, index=index)
    assert (found.rows, found.count) == (4, 3)
    assert [change.index for change in found.listed] == [40, 10, 20]
    first = found.listed[0]
    assert (first.before, first.after, first.label, first.place) == (0, 1, 0, None)
    assert first.confidence == pytest.approx(0.9, abs=1e-6)
    assert first.now == pytest.approx(0.9, abs=1e-6)
    assert [(flow.before, flow.after, flow.rows) for flow in found.flows] == [(0, 1, 2), (1, 0, 1)]
    told = [(a.answer, a.before, a.after, a.both) for a in found.answers]
    assert told == [(0, 2, 1, 0), (1, 2, 3, 1)]


def test_probabilities_are_not_taken_for_logits() -> None:
    first, second = np.array([[0.9, 0.1]]), np.array([[0.4, 0.6]])
    change = watched(first, second).listed[0]
    assert (change.confidence, change.now) == (pytest.approx(0.9), pytest.approx(0.6))


def test_tokens_that_are_padding_do_not_count() -> None:
    first = np.zeros((1, 3, 2))
    second = first.copy()
    first[..., 0], second[..., 1] = 1.0, 1.0
    found = watched(first, second, mask=np.array([[1, 1, 0]]))
    assert (found.rows, found.count) == (2, 2)
    assert [(change.index, change.place) for change in found.listed] == [(0, 0), (0, 1)]


def test_samples_are_numbered_as_they_come_where_nothing_numbers_them() -> None:
    watch = Watch("y")
    for _ in range(2):
        watch.add(LOGITS, LOGITS[:, ::-1], labels=None, mask=None, index=None)
    found = watch.result()
    assert found is not None and sorted(c.index for c in found.listed) == list(range(8))


def test_no_more_are_listed_than_a_person_reads() -> None:
    first = np.tile([[1.0, 0.0]], (500, 1))
    found = watched(first, first[:, ::-1])
    assert found.count == 500 and len(found.listed) == LISTED
    assert [change.index for change in found.listed] == list(range(LISTED))  # equally sure


def test_values_are_listed_by_how_far_they_moved() -> None:
    first = np.ones((3, 2, 2, 2), np.float32)
    second = first * np.array([1.0, 1.5, 1.1], np.float32).reshape(3, 1, 1, 1)
    found = watched(first, second)
    assert (found.rows, found.count, found.answers) == (3, 0, ())
    moved = [(change.index, change.distance) for change in found.listed]
    assert moved == [(1, pytest.approx(0.5)), (2, pytest.approx(0.1, abs=1e-6))]


def test_answers_themselves_have_no_confidence() -> None:
    found = watched(np.array([3, 4]), np.array([3, 5]))
    change = found.listed[0]
    assert found.count == 1 and (change.before, change.after, change.confidence) == (4, 5, None)


def test_an_answer_of_nan_is_a_change_without_confidence() -> None:
    change = watched(np.array([[1.0, 0.0]]), np.array([[np.nan, 0.0]])).listed[0]
    assert (change.before, change.after, change.now) == (0, -1, None)


def test_nothing_watched_is_nothing_told() -> None:
    assert Watch("y").result() is None
