"""Predicting what stands above with a small network, as the MIPP paper does.

One hidden layer is trained on `FIT` of the rows with early stopping on the rest. Without a unit
(its features at their mean, 0) the network is trained a few steps more, and what it is then worth
counts; the steps share a budget, so that the time is bounded whatever the number of units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mipack.calibrate.sites import Array
from mipack.select.estimators import standardised
from mipack.select.predict import halves

HIDDEN, BATCH, RATE = 256, 256, 1e-3
EPOCHS, PATIENCE = 100, 5
"""The paper's 100 epochs, ended after so many that brought nothing."""
STEPS_MOST, STEPS = 8_000, (4, 100)
"""Steps of all short trainings together; of one, at least and at most."""

State = dict[str, torch.Tensor]


class Network:
    """The nonlinear predictor. x [r, features], z [r, outputs], blocks [units, b]."""

    def __init__(self, x: Array, z: Array, blocks: Array, seed: int) -> None:
        fit, test = halves(len(x))
        own, above = (torch.from_numpy(standardised(a)).float() for a in (x, z))
        self._fit, self._test = (own[fit], above[fit]), (own[test], above[test])
        self._draw = torch.Generator().manual_seed(seed)
        self._blocks = torch.from_numpy(blocks)
        self._mask = torch.ones(own.shape[1])
        self._steps = int(np.clip(STEPS_MOST // len(blocks), *STEPS))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = torch.nn.Sequential(
                torch.nn.Linear(own.shape[1], HIDDEN),
                torch.nn.ReLU(),
                torch.nn.Linear(HIDDEN, above.shape[1]),
            )
        self._adam = torch.optim.Adam(self._net.parameters(), RATE)
        self._train_fully()
        self._start = self._errors(self._mask)
        self._tried: tuple[State, torch.Tensor] | None = None

    def look(self, units: Sequence[int]) -> None:
        """Nothing to prepare."""

    def rise(self, unit: int) -> Array:
        """Rise of the squared error after a short training without this unit: [test rows]."""
        mask = self._mask.clone()
        mask[self._blocks[unit]] = 0.0
        before = self._state()
        self._train(self._steps, mask)
        found = self._errors(mask) - self._start
        self._tried = self._state(), mask
        self._net.load_state_dict(before)
        return found.double().numpy()

    def drop(self, unit: int) -> None:
        """Leave the unit that was tried last out for good."""
        assert self._tried is not None
        state, self._mask = self._tried
        self._net.load_state_dict(state)

    def _state(self) -> State:
        return {name: value.clone() for name, value in self._net.state_dict().items()}

    def _errors(self, mask: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return (self._net(self._test[0] * mask) - self._test[1]).square().sum(1)

    def _train_fully(self) -> None:
        best, state, waited = float("inf"), self._state(), 0
        for _ in range(EPOCHS):
            self._train(max(1, len(self._fit[0]) // BATCH), self._mask)
            error = float(self._errors(self._mask).mean())
            waited += 1
            if error < best:
                best, state, waited = error, self._state(), 0
            if waited >= PATIENCE:
                break
        self._net.load_state_dict(state)

    def _train(self, steps: int, mask: torch.Tensor) -> None:
        x, z = self._fit
        for _ in range(steps):
            rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=self._draw)
            loss = (self._net(x[rows] * mask) - z[rows]).square().sum(1).mean()
            self._adam.zero_grad()
            loss.backward()
            self._adam.step()
