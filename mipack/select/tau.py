"""Widths by one threshold: every group may give up the same share tau of what it has to lose.

The rule of criteria that find widths themselves (papers.md 2): a group keeps the least width whose
loss is at most tau of its whole loss; at tau 0 that is what the criterion itself found enough. A
budget is met by the least tau that does; where tau 0 leaves less than the budget, every group gets
back the same share of what it gave up for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mipack.layout import Term
from mipack.select.allocate import BISECTIONS
from mipack.select.budget import Option, Widths

SLACK = 1e-12
"""Of the whole loss: what counts as none."""


def enough(option: Option, tau: float = 0.0) -> int:
    """The least allowed width that loses at most this share."""
    most = (tau + SLACK) * float(option.loss[0])
    return next((w for w in option.widths if option.loss[w] <= most), option.widths[-1])


def by_tau(options: Sequence[Option], fits: Callable[[Widths], bool]) -> Widths:
    """The widths of the least tau that fit; the smallest where none do."""
    best: dict[Term, int] = {o.group.atom: o.widths[0] for o in options}
    low, high = -1.0, 1.0
    for _ in range(BISECTIONS):
        level = (low + high) / 2
        widths = {o.group.atom: _at(o, level) for o in options}
        if fits(widths):
            high, best = level, widths
        else:
            low = level
    return best


def _at(option: Option, level: float) -> int:
    """tau above 0; below, the share of what could go for nothing that stays."""
    least = enough(option, max(level, 0.0))
    wanted = least + max(-level, 0.0) * (option.widths[-1] - least)
    return next(w for w in option.widths if w >= wanted)
