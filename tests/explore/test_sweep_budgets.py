"""The budgets of a sweep as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipack.errors import InputError
from mipack.explore.budgets import checked, name_of, parsed
from mipack.explore.points import Pace, Point, Quality, Sweep


@pytest.mark.parametrize(
    ("text", "points", "shares"),
    [
        ("0.2..0.8", None, (0.8, 0.6, 0.4, 0.2)),
        ("0.2..0.8", 3, (0.8, 0.5, 0.2)),
        ("0.2..1", 2, (1.0, 0.2)),
        ("0.4,0.2,0.4", None, (0.4, 0.2)),
        ("0.5", None, (0.5,)),
        (".25 .. .75", 2, (0.75, 0.25)),
    ],
)
def test_a_range_and_a_list(text: str, points: int | None, shares: tuple[float, ...]) -> None:
    assert parsed("keep", text, points) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("text", "points", "says"),
    [
        ("0.8..0.2", None, "the range is empty"),
        ("0.5..0.5", None, "the range is empty"),
        ("a..b", None, "neither a range nor a list"),
        ("0.2..0.5..0.8", None, "neither a range nor a list"),
        ("", None, "neither a range nor a list"),
        ("0.2,", None, "neither a range nor a list"),
        ("0..0.8", None, "not a share"),
        ("0.2..1.5", None, "not a share"),
        ("nan..0.5", None, "the range is empty"),
        ("nan", None, "not a share"),
        ("0.00001", None, "too small"),
        ("0.2..0.8", 1, "not a number of points"),
        ("0.2..0.8", 0, "not a number of points"),
        ("0.2..0.8", 1000, "not a number of points"),
        ("0.2,0.4", 3, "says nothing to the list"),
    ],
)
def test_what_is_no_range_is_said(text: str, points: int | None, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        parsed("keep", text, points)
    assert caught.value.hint


def test_no_budget_is_none() -> None:
    with pytest.raises(InputError, match="holds no budget"):
        checked("macs", [])


def test_names_tell_budgets_apart() -> None:
    names = [name_of("keep", share) for share in parsed("keep", "0.1..0.9", 33)]
    assert len(set(names)) == 33 and name_of("keep", 0.4) == "keep-0.4"


def point(name: str, macs: int, value: float | None, ratio: float | None = None) -> Point:
    quality = value if value is None else Quality(
        metric="accuracy", original=0.9, value=value, interval=None, agreement=None, kl=None,
        cosine=None, samples=10,
    )  # fmt: skip
    pace = () if ratio is None else (
        Pace(shape="batch=1", ratio=ratio, interval=(ratio, ratio), noisy=False),
    )  # fmt: skip
    return Point(
        name=name,
        option="keep",
        share=0.5,
        macs=macs,
        params=1,
        bytes=1,
        quality=quality,
        pace=pace,
    )


def swept(*points: Point) -> Sweep:
    return Sweep(folder=Path(), model="m", original=point("original", 100, None), points=points)


def test_the_front_is_what_nothing_beats() -> None:
    found = swept(point("a", 80, 0.9), point("b", 60, 0.8), point("c", 70, 0.8), point("d", 9, 0.1))
    assert found.front == ("a", "b", "d")  # the original is no better than a, and slower


def test_time_decides_where_all_points_were_timed() -> None:
    slow, fast = point("slow", 10, 0.8, 1.2), point("fast", 50, 0.8, 0.6)
    assert swept(slow, fast).front == ("original", "fast")
    assert swept(slow, point("untimed", 50, 0.8)).front == ("original", "slow")


def test_what_cannot_be_judged_is_not_on_the_front() -> None:
    assert swept(point("a", 50, None), point("b", 60, 0.8)).front == ("original", "b")
