"""Random image networks: convolutions of all groupings, and what goes with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from lawkit import Build
from random_walk import Draw, Walk, divisors


class Images(Walk):
    """One image tensor [B, channels, W, H] on its way through convolutions and what goes with
    them; `kept` holds earlier ones."""

    def __init__(self, build: Build, draw: Draw) -> None:
        super().__init__(build, draw)
        self.channels = self.pick([6, 8, 12])
        self.x = build.conv("x", 3, self.channels)
        self.kept: list[tuple[str, int]] = []

    def step(self) -> None:
        """Draw one op, or nothing where it does not fit."""
        if self.draw(2) == 0:
            self.kept.append((self.x, self.channels))
        self.pick(IMAGE_STEPS)(self)
        if self.channels > 48:
            self.conv()

    def close(self) -> str:
        """A last convolution."""
        return self.b.conv(self.x, self.channels, 4, 1)

    def put(self, x: str, channels: int | None = None) -> None:
        """Go on with another tensor."""
        self.x, self.channels = x, self.channels if channels is None else channels

    # ---------------------------------------------------------------- steps

    def unary(self) -> None:
        self.put(getattr(self.b, self.pick(["Relu", "Sigmoid", "HardSwish"]))(self.x))

    def conv(self) -> None:
        out = self.pick([4, 6, 8, 12, 16])
        self.put(self.b.conv(self.x, self.channels, out, self.pick([1, 3])), out)

    def grouped(self) -> None:
        group = self.pick([1, *divisors(self.channels), self.channels])
        out = group * self.pick([1, 2, 3])
        self.put(self.b.conv(self.x, self.channels, out, group=group), out)

    def transposed(self) -> None:
        group = self.pick([1, *divisors(self.channels)])
        per = self.pick([1, 2, 3])
        weight = self.b.w(self.channels, per, 3, 3)
        y = self.b.ConvTranspose(self.x, weight, self.b.w(per * group), group=group, pads=[1] * 4)
        self.put(y, per * group)

    def shuffle(self) -> None:
        """Channels as groups x rest, transposed, the sizes read at run time."""
        options = divisors(self.channels)
        if not options:
            return
        group = self.pick(options)
        sizes = self.b.Shape(self.x)
        rows, space = self.b.Slice(sizes, [0], [1]), self.b.Slice(sizes, [2], [4])
        wide = self.b.Concat(rows, [group, self.channels // group], space, axis=0)
        h = self.b.Transpose(self.b.Reshape(self.x, wide), perm=[0, 2, 1, 3, 4])
        if self.draw(2):
            self.put(self.b.Reshape(h, sizes))
        else:
            self.put(self.b.Reshape(h, self.b.Concat(rows, [self.channels], space, axis=0)))

    def normalise(self) -> None:
        c = self.channels
        kind = self.draw(5)
        if kind == 0:
            vectors = self.b.w(c, scale=1.0), self.b.w(c), self.b.w(c), self.b.positive(c)
            self.put(self.b.BatchNormalization(self.x, *vectors))
        elif kind == 1:
            self.put(self.b.InstanceNormalization(self.x, self.b.w(c), self.b.w(c)))
        elif kind == 2 and divisors(c):
            group = self.pick(divisors(c))
            vectors = self.b.w(group), self.b.w(group)
            self.put(self.b.GroupNormalization(self.x, *vectors, num_groups=group))
        elif kind == 3 and divisors(c):
            group = self.pick(divisors(c))
            wide = self.b.Reshape(self.x, [0, group, -1])
            wide = self.b.InstanceNormalization(wide, self.b.w(group), self.b.w(group))
            self.put(self.b.Reshape(wide, self.b.Shape(self.x)))
        else:
            self.put(self.b.PRelu(self.x, self.b.w(c, 1, 1)))

    def gate(self) -> None:
        """Squeeze and excite."""
        pooled = self.b.GlobalAveragePool(self.x)
        small = self.b.Relu(self.b.conv(pooled, self.channels, 6, 1))
        self.put(self.b.Mul(self.x, self.b.Sigmoid(self.b.conv(small, 6, self.channels, 1))))

    def halves(self) -> None:
        if self.channels % 2:
            return
        half = self.channels // 2
        p, q = self.b.Split(self.x, n=2, axis=1, num_outputs=2)
        kind = self.draw(3)
        if kind == 0:
            self.put(self.b.Max(p, q), half)
        elif kind == 1:
            self.put(self.b.Concat(q, p, axis=1))
        else:
            self.put(self.b.Concat(p, self.b.conv(q, half, half), axis=1))

    def piece(self) -> None:
        if self.channels < 3:
            return
        low = self.draw(self.channels - 1)
        high = min(low + 2 + self.draw(self.channels), self.channels)
        self.put(self.b.Slice(self.x, [low], [high], [1]), high - low)

    def pad(self) -> None:
        before, after = self.draw(3), self.draw(3)
        padded = self.b.Pad(self.x, [before, after], np.float32(0), [1])
        self.put(padded, self.channels + before + after)

    def join(self) -> None:
        """Meet an earlier tensor: added where it fits, else concatenated."""
        if not self.kept:
            return
        other, channels = self.pick(self.kept)
        if channels == self.channels and self.draw(3):
            self.put(self.b.Add(self.x, other))
        else:
            self.put(self.b.Concat(self.x, other, axis=1), self.channels + channels)

    def pool(self) -> None:
        """One that keeps the spatial sizes, so that earlier tensors still fit."""
        op = self.pick(["MaxPool", "AveragePool"])
        self.put(getattr(self.b, op)(self.x, kernel_shape=[3, 3], pads=[1] * 4))

    def channel_mean(self) -> None:
        self.put(self.b.Mul(self.x, self.b.ReduceMean(self.x, [1])))


# fmt: off
IMAGE_STEPS: list[Callable[[Images], None]] = [
    Images.unary, Images.conv, Images.conv, Images.grouped, Images.grouped, Images.transposed,
    Images.shuffle, Images.normalise, Images.gate, Images.halves, Images.piece, Images.pad,
    Images.join, Images.join, Images.join, Images.pool, Images.channel_mean,
]
# fmt: on


def random_images(draw: Draw, steps: int) -> tuple[Build, str]:
    """A builder and its output."""
    chain = Images(Build(x=("B", 3, "W", "H")), draw)
    for _ in range(steps):
        chain.step()
    return chain.b, chain.close()
