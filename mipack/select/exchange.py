"""Spending what a price leaves: widen what saves most loss per cost, and try every single change.

Prices find points of the lower hull only, and a step of one group rarely fits what is left. So
each option is put to each other width, the others make room for it or use what it frees, and the
result stays if less is lost. On a few groups this comes to the optimum or within a hair of it
(tests try everything); on many, where single steps matter little, what is left over buys next to
nothing, and it stops.
"""

from __future__ import annotations

import numpy as np

from mipack.calibrate.sites import Array
from mipack.select.budget import Picks, Problem

WORK = 4_000
"""Curves of costs that may be computed: a second or two."""
HAIR = 1e-3
"""Less than this share of the loss is not looked for, where that is much work."""


def spent(problem: Problem, picks: Picks) -> Picks:
    """At least as good a choice within the same budgets, which `picks` must meet."""
    best = filled(problem, picks)
    few = sum(map(len, problem.widths)) * len(best) <= WORK
    start, improved = problem.looked, few or _left(problem, best) > HAIR * problem.loss(best)
    while improved:
        improved = False
        for index, width in _changes(problem, best):
            if problem.looked - start > WORK:
                return best
            if width == best[index]:
                continue
            found = _changed(problem, best, index, width)
            if found is not None and problem.loss(found) < problem.loss(best) * (1 - 1e-12):
                best, improved = found, True
    return best


def _left(problem: Problem, picks: Picks) -> float:
    """The loss that what is left would save at the best rate of any widening, if one fitted."""
    room = problem.room(picks)
    rates = [_rates(problem, picks, k)[0].max() for k in range(len(picks))]
    return float(max(rates, default=0.0) * (room / problem.targets).min())


def _changes(problem: Problem, picks: Picks) -> list[tuple[int, int]]:
    """Every option at every width, small changes first."""
    listed = [(k, w) for k, widths in enumerate(problem.widths) for w in range(len(widths))]
    return sorted(listed, key=lambda change: (abs(change[1] - picks[change[0]]), change))


def _changed(problem: Problem, picks: Picks, index: int, width: int) -> Picks | None:
    """One option at this width, the others as well as they can be; None where nothing fits."""
    moved = [*picks]
    moved[index] = width
    fitting = _narrowed(problem, problem.settled(moved), index)
    return None if fitting is None else filled(problem, fitting)


def filled(problem: Problem, picks: Picks) -> Picks:
    """Widen by the change of most loss saved per cost while one fits."""
    picks, room = [*picks], problem.room(picks)
    while True:
        found = [_widening(problem, picks, room, k) for k in range(len(picks))]
        ratio, index, width = max(found, key=lambda f: (f[0], -f[1]), default=(0.0, 0, 0))
        if ratio <= 0:
            return picks
        picks[index] = width
        room = problem.room(picks)


def _widening(problem: Problem, picks: Picks, room: Array, index: int) -> tuple[float, int, int]:
    """(loss saved per cost, option, width) of the best widening of one option; 0 where none fits.

    Curves are rounded where bytes and time are: what seems to fit is looked at exactly.
    """
    now = picks[index]
    if now == len(problem.widths[index]) - 1:
        return 0.0, index, now
    rates, more = _rates(problem, picks, index)
    ratios = np.where((more <= room[:, None]).all(axis=0), rates, 0.0)
    for step in np.argsort(-ratios, kind="stable"):
        if ratios[step] <= 0:
            break
        if problem.fits([*picks[:index], now + int(step), *picks[index + 1 :]]):
            return float(ratios[step]), index, now + int(step)
    return 0.0, index, now


def _rates(problem: Problem, picks: Picks, index: int) -> tuple[Array, Array]:
    """For every width of an option from the present one on the loss saved per cost (in shares of
    the tightest budget), and the cost: [widths], [budgets, widths]."""
    now = picks[index]
    curves = problem.curves(index, problem.chosen(picks))[:, now:]
    more = curves - curves[:, :1]
    saved = problem.losses[index][now] - problem.losses[index][now:]
    return saved / np.maximum(np.max(more / problem.targets[:, None], axis=0), 1e-18), more


def _narrowed(problem: Problem, picks: Picks, fixed: int) -> Picks | None:
    """Narrow others by the change of least loss per cost saved until every budget holds."""
    picks = [*picks]
    while True:
        excess = np.maximum(-problem.room(picks), 0.0)
        if not excess.any():
            return picks
        others = [k for k in range(len(picks)) if k != fixed and picks[k] > 0]
        found = [_narrowing(problem, picks, excess, k) for k in others]
        price, index, width = min(found, default=(np.inf, 0, 0))
        if price == np.inf:
            return None
        picks[index] = width
        picks = problem.settled(picks)


def _narrowing(problem: Problem, picks: Picks, excess: Array, index: int) -> tuple[float, int, int]:
    """(loss per cost saved where budgets are exceeded, option, width) of the best narrowing."""
    now = picks[index]
    curves = problem.curves(index, problem.chosen(picks))[:, : now + 1]
    saved = np.minimum(curves[:, -1:] - curves, excess[:, None]) / problem.targets[:, None]
    relief = np.maximum(saved, 0.0).sum(axis=0)[:-1]
    lost = problem.losses[index][:now] - problem.losses[index][now]
    prices = np.where(relief > 0, np.maximum(lost, 0.0) / np.maximum(relief, 1e-300), np.inf)
    best = int(np.argmin(prices[::-1]))  # of equal ones the widest
    return float(prices[::-1][best]), index, now - 1 - best
