"""Random seams: grouped convolutions, shuffles and rotations of concatenations with odd seams."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from lawkit import Build
from random_walk import Draw, Walk, divisors


class Seams(Walk):
    """One tensor [B, channels, 6, 6] of a width that stays, put together from odd pieces."""

    def __init__(self, build: Build, draw: Draw) -> None:
        super().__init__(build, draw)
        self.channels = self.pick([12, 24, 36, 48])
        self.x = self.pieces()

    def pieces(self) -> str:
        """One to three convolutions of the input, side by side."""
        cuts = {1 + self.draw(self.channels - 1) for _ in range(self.draw(3))}
        sizes = [high - low for low, high in pairwise([0, *sorted(cuts), self.channels])]
        made = [self.b.Sigmoid(self.b.conv("x", 3, size, 1)) for size in sizes]
        return made[0] if len(made) == 1 else str(self.b.Concat(*made, axis=1))

    def step(self) -> None:
        """Draw one op."""
        self.x = self.pick(SEAM_STEPS)(self)

    # ---------------------------------------------------------------- steps

    def _groups(self) -> tuple[int, int]:
        group = self.pick(divisors(self.channels))
        return group, self.channels // group

    def grouped(self) -> str:
        group, _ = self._groups()
        return self.b.conv(self.b.Relu(self.x), self.channels, self.channels, 1, group=group)

    def shuffled(self) -> str:
        wide = self.b.Reshape(self.x, [0, *self._groups(), 6, 6])
        turned = self.b.Transpose(wide, perm=[0, 2, 1, 3, 4])
        return str(self.b.Reshape(turned, [0, self.channels, 6, 6]))

    def added(self) -> str:
        return str(self.b.Add(self.x, self.pieces()))

    def weighed(self) -> str:
        """By a weight per channel of a group, alike in all groups or not."""
        group, per = self._groups()
        weight = self.b.w(*([group, per] if self.draw(2) else [per]), 1, 1)
        wide = self.b.Mul(self.b.Reshape(self.x, [0, group, per, 6, 6]), weight)
        return str(self.b.Reshape(wide, [0, self.channels, 6, 6]))

    def rotated(self) -> str:
        at = 1 + self.draw(self.channels - 1)
        return str(self.b.Gather(self.x, [*range(at, self.channels), *range(at)], axis=1))

    def swapped(self) -> str:
        at = 1 + self.draw(self.channels - 1)
        p, q = self.b.Split(self.x, [at, self.channels - at], n=2, axis=1)
        return str(self.b.Concat(self.b.Relu(q), self.b.Sigmoid(p), axis=1))


# fmt: off
SEAM_STEPS: list[Callable[[Seams], str]] = [
    Seams.grouped, Seams.shuffled, Seams.added, Seams.weighed, Seams.rotated, Seams.swapped,
]
# fmt: on


def random_seams(draw: Draw, steps: int) -> tuple[Build, str]:
    """A builder and its output."""
    chain = Seams(Build(x=("B", 3, 6, 6)), draw)
    for _ in range(min(steps, 5)):
        chain.step()
    return chain.b, chain.b.conv(chain.x, chain.channels, 4, 1)
