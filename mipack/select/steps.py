"""The widths that a group may take: those that run fast."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from mipack.couple.cost import Cost
from mipack.couple.positions import unit_positions
from mipack.couple.solve import Coupling, Group
from mipack.layout import size_of

DENSE_STEP, DENSE_FROM = 16, 256
CONV_STEP, CONV_FROM = 4, 16
"""Widths that run fast: matrix products step by 16, convolutions need multiples of 4."""


BLOCK, RUNS = 16, 8
"""Kernels work on blocks of up to 16 units, so times are known at multiples of them; an axis of at
most `RUNS` blocks is known in `RUNS` finer steps."""
WORTH = 0.03
"""A narrower width that saves less of a group's time than this is a measuring error."""


def step_of(coupling: Coupling, group: Group, fixed: int | None) -> int:
    """Units by which a group's width may change; rounding counts elements of the read axis."""
    readers = coupling.linears_reading(group)
    if not readers:
        return 1
    linear = readers[0]
    axis, block = coupling.axes[linear.x][linear.x_axis], _block(coupling, group)
    conv = linear.window is not None
    start, step = (CONV_FROM, CONV_STEP) if conv else (DENSE_FROM, DENSE_STEP)
    rounds = size_of(axis)[0] >= start and block < step  # wide units are coarse enough as they are
    multiple = fixed if fixed is not None else (step if rounds else 1)
    return min(max(1, multiple // gcd(multiple, block)), group.size)


def _block(coupling: Coupling, group: Group) -> int:
    """Elements that a unit is on the axis that is read (of a family, in all contexts together)."""
    readers = coupling.linears_reading(group)
    axes = [coupling.axes[linear.x][linear.x_axis] for linear in readers[:1]]
    return unit_positions(axes[0], group.atom).shape[1] if axes else 1


def timed_step(coupling: Coupling, group: Group) -> int:
    """The same where time counts: blocks of kernels, finer where the whole axis is a few."""
    most = BLOCK // gcd(BLOCK, _block(coupling, group))
    return next((step for step in (1, 2, 4, 8) if step < most and group.size <= RUNS * step), most)


def fast(cost: Cost, group: Group, widths: Sequence[int]) -> tuple[int, ...]:
    """The widths that are faster than every larger one, the others whole."""
    times = cost.curve("latency", group.atom, {}, np.asarray(widths))
    kept, least = [], float("inf")
    for width, time in zip(reversed(widths), reversed(times), strict=True):
        if time <= (1 - WORTH) * least:
            kept.append(width)
            least = float(time)
    return tuple(reversed(kept))
