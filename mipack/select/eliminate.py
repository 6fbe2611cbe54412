"""Backward elimination with refitted survivors, in blocks.

papers.md 5.4: with P = C^-1 and Q = W' F W in feature space, dropping block B given the survivors
costs tr(P_BB^-1 Q_BB), and

    R = P_BB^-1 P_B:    Q <- Q - Q_:B R - R' Q_B: + R' Q_BB R    P <- P - P_:B R

A round takes the 2c lowest units as candidates (c = survivors / 64), eliminates c of them one by
one on their sub-matrices, which is exact for them, and updates the rest once. Dropping the c lowest
at once would lose both of two duplicates: each is worthless given the other.
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
COMPACT = 0.75
"""Matrices are compacted when this share of their rows is left."""


@dataclass(slots=True)
class Stake:
    """What one site has at stake: P and Q [n, n] (or [n] where only squares are known) and the
    features of each unit, [units, block]."""

    p: torch.Tensor
    q: torch.Tensor
    blocks: torch.Tensor

    @property
    def full(self) -> bool:
        """Whether features interact."""
        return self.p.ndim == 2

    def scores(self, units: torch.Tensor) -> torch.Tensor:
        """The cost of dropping each of these units alone."""
        at = self.blocks[units]
        if not self.full:
            return (self.q[at] / self.p[at]).sum(1)
        if at.shape[1] == 1:
            at = at[:, 0]
            return self.q.diagonal()[at] / self.p.diagonal()[at]
        rows, columns = at[:, :, None], at[:, None, :]
        solved = torch.linalg.solve(self.p[rows, columns], self.q[rows, columns])
        return solved.diagonal(dim1=1, dim2=2).sum(1)

    def part(self, units: torch.Tensor) -> Stake:
        """The same elimination among these units only."""
        at = self.blocks[units].reshape(-1)
        local = torch.arange(len(at)).reshape(len(units), -1)
        if not self.full:
            return Stake(self.p[at], self.q[at], local)
        return Stake(self.p[at][:, at], self.q[at][:, at], local)

    def drop(self, units: torch.Tensor) -> None:
        """Remove units; survivors take over (in place)."""
        if not self.full:
            return
        at = self.blocks[units].reshape(-1)
        inner = self.p[at][:, at]  # R = P_BB^-1 P_B: is [B, n]; most blocks are one number
        rest = self.p[at] / inner if len(at) == 1 else torch.linalg.solve(inner, self.p[at])
        half = self.q[:, at] - 0.5 * rest.T @ self.q[at][:, at]
        self.q.addmm_(half, rest, alpha=-1)  # in place: the matrices are large, the ranks small
        self.q.addmm_(rest.T, half.T, alpha=-1)
        self.p.addmm_(self.p[:, at], rest, alpha=-1)
        self.p[at], self.p[:, at] = 0.0, 0.0
        self.q[at], self.q[:, at] = 0.0, 0.0

    def compact(self, alive: torch.Tensor, features: torch.Tensor) -> Stake:
        """Rows of the features given only; units that are gone keep meaningless blocks."""
        place = torch.full((self.p.shape[0],), -1, dtype=torch.long)
        place[features] = torch.arange(len(features))
        blocks = torch.full_like(self.blocks, -1)
        blocks[alive] = place[self.blocks[alive]]
        return Stake(self.p[features][:, features], self.q[features][:, features], blocks)


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


def eliminate(stakes: Sequence[Stake], units: int, contexts: tuple[int, ...] = ()) -> Ranking:
    """Eliminate all units; costs of several sites add up. Changes the stakes.

    Of a family the stakes' blocks list the units of every context in turn, and each round takes
    equally many from each.
    """
    stakes, rows = list(stakes), prod(contexts)
    alive = torch.arange(rows * units)
    order: list[int] = []
    deltas: list[float] = []
    sizes = [stake.p.shape[0] for stake in stakes]
    while len(alive):
        count = max(1, len(alive) // rows // ROUNDS)
        cost = _cost(stakes, alive)
        if count * rows == 1:
            chosen = [int(torch.argmin(cost))]
            deltas.append(float(cost[chosen[0]]))
        else:
            lowest = _lowest(cost.reshape(rows, -1), 2 * count)
            parts = [stake.part(alive[lowest]) for stake in stakes]
            chosen, gone = _one_by_one(parts, alive[lowest] // units, count)
            chosen = [int(lowest[i]) for i in chosen]
            deltas += gone
        dropped = alive[chosen]
        order += [int(unit) for unit in dropped]
        for stake in stakes:
            stake.drop(dropped)
        left = torch.ones(len(alive), dtype=torch.bool)
        left[chosen] = False
        alive = alive[left]
        _compact(stakes, sizes, alive, rows * units)
    steps = np.maximum(np.array(deltas), 0.0)
    loss = np.concatenate([[0.0], np.cumsum(steps)])[::-1][::rows]
    return Ranking(_by_row(np.array(order, np.int64), rows, units).reshape(*contexts, units), loss)


def _lowest(cost: torch.Tensor, count: int) -> torch.Tensor:
    """Places of the `count` lowest of every row, as one ascending list: [rows * count]."""
    places = torch.argsort(cost, dim=1, stable=True)[:, :count]
    offsets = torch.arange(len(cost))[:, None] * cost.shape[1]
    return torch.sort((places + offsets).reshape(-1)).values


def _by_row(order: Array, rows: int, units: int) -> Array:
    """One list of all units as a list for each row: [rows, units]."""
    return order[np.argsort(order // units, kind="stable")].reshape(rows, units) % units


def _cost(stakes: Sequence[Stake], units: torch.Tensor) -> torch.Tensor:
    return torch.stack([stake.scores(units) for stake in stakes]).sum(0)


def _one_by_one(
    stakes: Sequence[Stake], rows: torch.Tensor, count: int
) -> tuple[list[int], list[float]]:
    """`count` units of every row of a small problem, each chosen after the one before it is gone;
    `rows` says which row a unit is of."""
    alive = torch.arange(len(rows))
    left = dict.fromkeys(rows.tolist(), count)
    chosen: list[int] = []
    deltas: list[float] = []
    for _ in range(count * len(left)):
        cost = _cost(stakes, alive)
        lowest = int(torch.argmin(cost))
        row = int(rows[alive[lowest]])
        chosen.append(int(alive[lowest]))
        deltas.append(float(cost[lowest]))
        for stake in stakes:
            stake.drop(alive[lowest : lowest + 1])
        left[row] -= 1
        stays = torch.ones(len(alive), dtype=torch.bool)
        stays[lowest] = False
        if not left[row]:
            stays &= rows[alive] != row
        alive = alive[stays]
    return chosen, deltas


def _compact(stakes: list[Stake], sizes: list[int], alive: torch.Tensor, units: int) -> None:
    """Shrink matrices whose own units are mostly gone; features of other groups stay."""
    for index, stake in enumerate(stakes):
        gone = (units - len(alive)) * stake.blocks.shape[1]
        start = sizes[index]
        n = stake.p.shape[0]
        if not stake.full or not len(alive) or start - gone > COMPACT * n:
            continue
        features = torch.nonzero(stake.p.diagonal() != 0).reshape(-1)
        stakes[index] = stake.compact(alive, features)
