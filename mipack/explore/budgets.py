"""The budgets of a sweep: a range, a list, and the name that each gives its point."""

from __future__ import annotations

from collections.abc import Iterable

from mipack.errors import InputError

OPTIONS = ("keep", "macs")
"""What a sweep may vary."""
POINTS = 4
"""How many budgets a range stands for, its ends included."""
MOST = 100
DIGITS = 4
"""Decimals that tell two budgets apart."""


def parsed(option: str, text: str, points: int | None) -> tuple[float, ...]:
    """`0.2..0.8` as `points` budgets at equal distances, `0.2,0.4` as they are listed.

    Raises InputError for another form, an empty range, and `points` beside a list.
    """
    ends = text.split("..")
    if len(ends) == 2:
        return spread(option, text, (ends[0], ends[1]), POINTS if points is None else points)
    if points is not None:
        raise InputError(
            f"--points {points} says nothing to the list --{option} {text}",
            hint=f"give a range, e.g. --{option} 0.2..0.8, or leave --points out",
        )
    return checked(option, [_number(option, text, part) for part in text.split(",")])


def spread(option: str, text: str, ends: tuple[str, str], points: int) -> tuple[float, ...]:
    """Budgets at equal distances from the first end to the last. Raises InputError."""
    low, high = (_number(option, text, part) for part in ends)
    if not low < high:
        raise InputError(
            f"--{option} {text}: the range is empty", hint="write the smaller share first"
        )
    if not 2 <= points <= MOST:
        raise InputError(
            f"--points {points}: not a number of points", hint=f"give 2 to {MOST}, both ends count"
        )
    step = (high - low) / (points - 1)
    return checked(option, [low + step * at for at in range(points)])


def checked(option: str, shares: Iterable[float]) -> tuple[float, ...]:
    """The shares once each, the mildest cut first. InputError for what is none, or for none."""
    found = set()
    for share in shares:
        if not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise InputError(f"--{option} {share}: not a share", hint="give numbers in (0, 1]")
        if not round(share, DIGITS):
            raise InputError(f"--{option} {share}: too small to keep anything", hint="ask for less")
        found.add(round(float(share), DIGITS))
    if not found:
        raise InputError(f"--{option} holds no budget", hint=f"e.g. --{option} 0.2..0.8")
    if len(found) > MOST:
        raise InputError(
            f"--{option}: {len(found)} budgets are more than {MOST}", hint="sweep in two folders"
        )
    return tuple(sorted(found, reverse=True))


def name_of(option: str, share: float) -> str:
    """What a point, its folder and its model are called: `keep-0.4`."""
    return f"{option}-{share:g}"


def _number(option: str, text: str, part: str) -> float:
    try:
        return float(part)
    except ValueError as error:
        raise InputError(
            f"--{option} {text}: neither a range nor a list of shares",
            hint=f"e.g. --{option} 0.2..0.8 or --{option} 0.2,0.4,0.6",
        ) from error
