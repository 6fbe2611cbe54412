"""Backward elimination with refitted survivors, in blocks.

papers.md 5.4: with P = C^-1 and Q = W' F W in feature space, dropping block B given the survivors
costs tr(P_BB^-1 Q_BB), and

    R = P_BB^-1 P_B:    H = Q_B: - 1/2 Q_BB R    P <- P - R' P_B:    Q <- Q - H' R - R' H

A round takes the 2c lowest units as candidates (c = survivors / 64), eliminates c of them one by
one on their sub-matrices, which is exact for them, and updates the rest once. Dropping the c lowest
at once would lose both of two duplicates: each is worthless given the other.

Costs are those of the blocks on the diagonal. These are kept up to date; the matrices wait until
`WAIT` features have gone, for products of a few rows are bound by memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from mipack.calibrate.sites import Array

ROUNDS = 64
"""Survivors per unit that a round removes."""
WAIT = 96
"""Features that go before the matrices are updated."""


@dataclass(frozen=True, slots=True)
class Stake:
    """What one site has at stake: P and Q [n, n] (or [n] where only squares are known) and the
    features of each unit, [units, block]."""

    p: Array
    q: Array
    blocks: Array

    @property
    def full(self) -> bool:
        """Whether features interact."""
        return self.p.ndim == 2


@dataclass(frozen=True, slots=True)
class Ranking:
    """Units from the first to go to the last; `loss[k]` is the loss of keeping the last k.

    `order` is [units], or [contexts.., units] for a family: every row goes through its own units.
    """

    order: Array
    loss: Array
    nats: bool = False
    """Whether losses are nats per sample; else they compare within the group alone."""

    def keep(self, width: int) -> Array:
        """The units that stay at this width, ascending: [contexts.., width]."""
        return np.sort(self.order[..., self.order.shape[-1] - width :], axis=-1)


class _Matrices:
    """P and Q of a stake while its units go: P = p - R' T and Q = q - H' R - R' H, with a row of R,
    of T = P_B: and of H for every feature that went since p and q were updated."""

    def __init__(self, stake: Stake, most: int = 1) -> None:
        """`most`: units that go at once."""
        self._blocks, self._block = stake.blocks, stake.blocks.shape[1]
        rows, columns = self._blocks[:, :, None], self._blocks[:, None, :]
        self._diagonals = stake.p[rows, columns], stake.q[rows, columns]
        self._stays = np.ones(len(stake.p), bool)
        self._room = WAIT + most * self._block
        self._begin(stake.p, stake.q)

    def _begin(self, p: Array, q: Array) -> None:
        self._p, self._q, self._waiting = p, q, 0
        self._r, self._t, self._h = np.empty((3, min(self._room, len(p)), len(p)))

    def scores(self, units: Array) -> Array:
        """The cost of dropping each of these units alone."""
        p, q = (blocks[units] for blocks in self._diagonals)
        if self._block == 1:
            return np.asarray(q / p)[:, 0, 0]
        return np.linalg.solve(p, q).trace(axis1=1, axis2=2)

    def part(self, units: Array) -> _Matrices:
        """The same elimination among these units only, one at a time."""
        at = self._blocks[units].reshape(-1)
        p, q = self._lines(at, at)
        return _Matrices(Stake(p, q, np.arange(len(at)).reshape(len(units), -1)))

    def drop(self, units: Array) -> None:
        """Remove units; survivors take over."""
        if self._waiting + len(units) * self._block > len(self._r):
            self._update()
        at = self._blocks[units].reshape(-1)
        t, h = self._lines(at)
        inner = t[:, at]
        r = t / inner if len(at) == 1 else np.linalg.solve(inner, t)
        h -= 0.5 * h[:, at] @ r
        rows = slice(self._waiting, self._waiting + len(at))
        self._r[rows], self._t[rows], self._h[rows] = r, t, h
        self._waiting += len(at)
        self._stays[at] = False
        self._lower(r, t, h)

    def _lines(self, at: Array, columns: Array | slice = slice(None)) -> tuple[Array, Array]:
        """Rows of P and of Q, of these columns."""
        tables = [table[: self._waiting] for table in (self._r, self._t, self._h)]
        (r, t, h), (own, _, half) = [x[:, columns] for x in tables], [x[:, at].T for x in tables]
        p = self._p[at][:, columns] - own @ t
        q = self._q[at][:, columns] - half @ r - own @ h
        return p, q

    def _lower(self, r: Array, t: Array, h: Array) -> None:
        """Keep the blocks on the diagonal up to date."""
        p, q = self._diagonals
        r, t, h = (table[:, self._blocks].swapaxes(0, 1) for table in (r, t, h))
        p -= r.swapaxes(1, 2) @ t
        both = h.swapaxes(1, 2) @ r
        q -= both + both.swapaxes(1, 2)

    def _update(self) -> None:
        """Bring the matrices up to date, without the features that are gone; units that are gone
        keep meaningless blocks."""
        stays = np.flatnonzero(self._stays)
        place = np.zeros(len(self._stays), np.int64)
        place[stays] = np.arange(len(stays))
        tables = (table[: self._waiting, stays] for table in (self._r, self._t, self._h))
        r, t, h = map(torch.from_numpy, tables)
        p, q = (matrix[np.ix_(stays, stays)] for matrix in (self._p, self._q))
        torch.from_numpy(p).addmm_(r.T, t, alpha=-1)
        torch.from_numpy(q).addmm_(h.T, r, alpha=-1).addmm_(r.T, h, alpha=-1)
        self._blocks, self._stays = place[self._blocks], np.ones(len(stays), bool)
        self._begin(p, q)


def eliminate(stakes: Sequence[Stake], units: int, contexts: tuple[int, ...] = ()) -> Ranking:
    """Eliminate all units; costs of several sites add up.

    Of a family the stakes' blocks list the units of every context in turn, and each round takes
    equally many from each.
    """
    rows = prod(contexts)
    most = max(1, units // ROUNDS)
    sites = [_Matrices(stake, most * rows) for stake in stakes if stake.full]
    squares = [(s.q / s.p)[s.blocks].sum(1) for s in stakes if not s.full]
    fixed = np.sum([np.zeros(rows * units), *squares], 0)
    alive = np.arange(rows * units)
    order: list[Array] = []
    deltas: list[float] = []
    while len(alive):
        count = max(1, len(alive) // rows // ROUNDS)
        cost = _cost(sites, fixed, alive)
        if count * rows == 1:
            chosen = np.argmin(cost, keepdims=True)
            deltas.append(float(cost[chosen[0]]))
        else:
            lowest = _lowest(cost.reshape(rows, -1), 2 * count)
            units_there = alive[lowest]
            parts = [site.part(units_there) for site in sites]
            places, gone = _one_by_one(parts, fixed[units_there], units_there // units, count)
            chosen = lowest[places]
            deltas += gone
        dropped = alive[chosen]
        order.append(dropped)
        for site in sites:
            site.drop(dropped)
        alive = np.delete(alive, chosen)
    steps = np.maximum(np.array(deltas), 0.0)
    loss = np.concatenate([[0.0], np.cumsum(steps)])[::-1][::rows]
    return Ranking(_by_row(np.concatenate(order), rows, units).reshape(*contexts, units), loss)


def _lowest(cost: Array, count: int) -> Array:
    """Places of the `count` lowest of every row, as one ascending list: [rows * count]."""
    places = np.argsort(cost, axis=1, kind="stable")[:, :count]
    offsets = np.arange(len(cost))[:, None] * cost.shape[1]
    return np.sort((places + offsets).reshape(-1))


def _by_row(order: Array, rows: int, units: int) -> Array:
    """One list of all units as a list for each row: [rows, units]."""
    return order[np.argsort(order // units, kind="stable")].reshape(rows, units) % units


def _cost(sites: Sequence[_Matrices], fixed: Array, units: Array) -> Array:
    """What dropping each unit alone costs, all sites together."""
    total = fixed[units]
    for site in sites:
        total += site.scores(units)
    return total


def _one_by_one(
    sites: Sequence[_Matrices], fixed: Array, rows: Array, count: int
) -> tuple[list[int], list[float]]:
    """`count` units of every row of a small problem, each chosen after the one before it is gone;
    `rows` says which row a unit is of."""
    alive = np.arange(len(rows))
    left = dict.fromkeys(rows.tolist(), count)
    chosen: list[int] = []
    deltas: list[float] = []
    for _ in range(count * len(left)):
        cost = _cost(sites, fixed, alive)
        lowest = int(np.argmin(cost))
        row = int(rows[alive[lowest]])
        chosen.append(int(alive[lowest]))
        deltas.append(float(cost[lowest]))
        for site in sites:
            site.drop(alive[lowest : lowest + 1])
        left[row] -= 1
        stays = np.ones(len(alive), bool)
        stays[lowest] = False
        if not left[row]:
            stays &= rows[alive] != row
        alive = alive[stays]
    return chosen, deltas
