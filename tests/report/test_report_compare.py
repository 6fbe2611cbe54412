"""Several runs side by side: cost, quality, and the front that no run beats."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reportkit import bare, contrast, full, quality

from mipack.errors import InputError
from mipack.report.compare import compare
from mipack.report.record import Latency, Quality, Report
from mipack.report.scatter import scatter
from mipack.result import Size


def run(macs: int, agreement: float, difference: float = -1.0, **changes: object) -> Report:
    given = {"after": Size(macs, 200, 800), "quality": quality("y", agreement, difference)}
    return full(**{**given, "latency": None, **changes})


def test_the_front_is_what_no_run_beats_in_both() -> None:
    runs = [
        ("deep", run(200, 0.9, -3.0)),
        ("middle", run(400, 0.95, -1.0)),
        ("beaten", run(500, 0.93, -2.0)),
        ("shallow", run(800, 0.99, 0.0)),
    ]
    found = compare(runs)
    assert [point.name for point in found.points if point.front] == ["deep", "middle", "shallow"]
    assert found.cost == "share of the MACs" and found.quality == "difference of accuracy"
    assert [point.cost for point in found.points] == [0.2, 0.4, 0.5, 0.8]
    assert any("--bench" in note for note in found.notes)


def test_equal_runs_are_both_on_the_front() -> None:
    found = compare([("a", run(400, 0.95)), ("b", run(400, 0.95))])
    assert [point.front for point in found.points] == [True, True]


def test_time_is_the_cost_where_all_were_timed_on_a_shape() -> None:
    def timed(*shapes: str) -> Latency:
        return Latency(timings=(), contrasts=tuple(contrast(s, 0.4) for s in shapes))

    both = [
        ("a", run(400, 0.9, latency=timed("batch=1", "batch=8"))),
        ("b", run(300, 0.9, latency=timed("batch=8"))),
    ]
    found = compare(both)
    assert found.cost == "share of the original's time on batch=8"
    assert found.points[0].cost == 0.4
    assert found.points[0].cost_interval == pytest.approx((0.392, 0.408))
    assert compare([*both, ("c", run(300, 0.9))]).cost == "share of the MACs"


def test_agreement_is_the_quality_where_some_have_no_labels() -> None:
    from dataclasses import replace

    unlabelled = run(400, 0.95, quality=replace(quality("y", 0.95), score=None))
    found = compare([("a", unlabelled), ("b", run(500, 0.97))])
    assert found.quality.startswith("agreement")
    assert found.points[0].quality == pytest.approx(95.0)


def test_runs_without_data_are_listed_but_not_on_the_front() -> None:
    found = compare([("a", run(400, 0.95)), ("b", bare(after=Size(100, 1, 1)))])
    assert [point.front for point in found.points] == [True, False]
    assert any("unknown" in note for note in found.notes)


def test_what_cannot_be_compared_is_said() -> None:
    runs = [("a", run(400, 0.95)), ("b", run(500, 0.95, model_digest="0", data_digest="1"))]
    notes = " ".join(compare(runs).notes)
    assert "different models" in notes and "different data" in notes


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(InputError, match="no report"):
        compare([])


def test_the_picture_has_a_mark_for_every_known_run_and_the_original() -> None:
    chart = scatter(compare([("a", run(400, 0.95)), ("b", run(500, 0.97)), ("c", bare())]))
    assert chart is not None and len(chart.dots) == 3
    assert scatter(compare([("c", bare())])) is None


def test_a_run_that_the_original_beats_is_not_on_the_front() -> None:
    slower = Latency(timings=(), contrasts=(contrast("batch=8", 1.2),))
    found = compare([("slower", run(400, 0.9, -1.0, latency=slower))])
    assert [point.front for point in found.points] == [False]


def test_outputs_that_are_no_answers_are_compared_by_cosine() -> None:
    def vectors(cosine: float) -> Quality:
        given = quality("y", 0.9, 0.0)
        first = replace(given.fidelity[0], agreement=None, flips=None, cosine=cosine)
        return replace(given, score=None, interval=None, fidelity=(first,))

    pairs = (("a", 0.9), ("b", 0.8))
    found = compare([(name, replace(run(400, 0.9), quality=vectors(c))) for name, c in pairs])
    assert found.quality == "cosine with the original, %"
    assert [point.front for point in found.points] == [True, False]
