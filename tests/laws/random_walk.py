"""What random graphs are drawn with: a number below another, and one of several options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from lawkit import Build

T = TypeVar("T")
Draw = Callable[[int], int]
"""A number below the given one."""


class Walk:
    """One tensor on its way through random ops."""

    def __init__(self, build: Build, draw: Draw) -> None:
        self.b, self.draw = build, draw

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.draw(len(options))]


def divisors(size: int) -> list[int]:
    """Divisors but 1 and the number itself."""
    return [d for d in range(2, size) if size % d == 0]
