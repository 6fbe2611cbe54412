"""The budgets of a sweep as users write them."""

from __future__ import annotations

import pytest

from mipack.errors import InputError
from mipack.explore.budgets import checked, name_of, parsed


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
