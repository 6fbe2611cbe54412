"""What an allocation is about: options with their curves, budgets, and the cost of every choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipack.calibrate.sites import Array
from mipack.couple.cost import Cost
from mipack.couple.solve import Group
from mipack.layout import Term, find

Widths = dict[Term, int]
Picks = list[int]
"""For every option the index of the width chosen."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent: `of` is a measure of the cost, `target` in its own unit."""

    of: str
    target: int
    full: int = 0
    """The same of the original."""

    def total(self, cost: Cost, widths: Mapping[Term, int]) -> int:
        """The exact cost of these widths."""
        return cost.total(self.of, widths)


@dataclass(frozen=True, slots=True)
class Option:
    """A group, the widths that it may take (ascending, the last is its size) and its curve."""

    group: Group
    widths: tuple[int, ...]
    loss: Array


class Problem:
    """Options and budgets as arrays; `looked` counts how often a curve of costs was computed."""

    def __init__(self, options: Sequence[Option], cost: Cost, budgets: Sequence[Budget]) -> None:
        self.cost, self.budgets = cost, tuple(budgets)
        self.atoms = [option.group.atom for option in options]
        self.widths = [np.asarray(option.widths) for option in options]
        self.losses = [
            np.asarray(o.loss, float)[w] for o, w in zip(options, self.widths, strict=True)
        ]
        self.branches = [k for k, widths in enumerate(self.widths) if not widths[0]]
        """Options that may go entirely."""
        self.inside = [self._inside(k) if k in self.branches else [] for k in range(len(options))]
        """For each of them the others that cost nothing without it."""
        self.targets = np.array([max(budget.target, 1) for budget in budgets], float)
        self.looked = 0

    def _inside(self, index: int) -> list[int]:
        idle = self.cost.without(self.atoms[index])
        return [k for k, atom in enumerate(self.atoms) if find(atom) in idle]

    @property
    def least(self) -> Picks:
        """Every option at its smallest width."""
        return self.settled([0] * len(self.atoms))

    def settled(self, picks: Picks) -> Picks:
        """The same with what is inside of branches that go whole, which neither costs nor loses."""
        idle = {k for b in self.branches if not picks[b] for k in self.inside[b]}
        return [most if k in idle else picks[k] for k, most in enumerate(self.most)]

    @property
    def most(self) -> Picks:
        """Every option whole."""
        return [len(widths) - 1 for widths in self.widths]

    def chosen(self, picks: Picks) -> Widths:
        """The widths by atom."""
        listed = zip(self.atoms, self.widths, picks, strict=True)
        return {atom: int(widths[pick]) for atom, widths, pick in listed}

    def loss(self, picks: Picks) -> float:
        """The sum of all losses."""
        return sum(float(loss[k]) for loss, k in zip(self.losses, picks, strict=True))

    def room(self, picks: Picks) -> Array:
        """What is left of every budget, exactly; below zero where it is exceeded."""
        widths = self.chosen(picks)
        return np.array([b.target - b.total(self.cost, widths) for b in self.budgets], float)

    def fits(self, picks: Picks) -> bool:
        """Whether every budget holds."""
        return bool((self.room(picks) >= 0).all())

    def curves(self, index: int, widths: Widths) -> Array:
        """[budgets, widths]: the cost of all that one option takes part in, at each of its widths
        and the present ones of the others."""
        self.looked += 1
        at = self.atoms[index], widths, self.widths[index]
        return np.stack([self.cost.curve(budget.of, *at) for budget in self.budgets])
