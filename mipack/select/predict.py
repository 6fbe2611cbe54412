"""Predicting what stands above from units, and what each unit adds: the closed form.

Z (standardised) is regressed on x by ridge on `FIT` of the rows; the rest of the rows say what the
prediction is worth. With P = (cov x + ridge)^-1 and coefficients B, leaving out the features b of a
unit moves the prediction of row r by u_r B_b, where u = x P_:b P_bb^-1 is what of the unit the
other features do not tell, and

    B <- B - P_:b P_bb^-1 B_b        P <- P - P_:b P_bb^-1 P_b:

Units are looked at in chunks: within one their columns are kept up to date exactly, the rest of P
and B follows once at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mipack.calibrate.ridge import regularised, shrinkage
from mipack.calibrate.sites import Array
from mipack.select.estimators import standardised

FIT = 0.75
"""Share of the rows that the prediction is fitted on."""


class Predictor(Protocol):
    """Predicts the layer above from units, some of which have been left out for good."""

    def look(self, units: Sequence[int]) -> None:
        """These units are the next to be tried."""

    def rise(self, unit: int) -> Array:
        """By how much each row's squared error would exceed that of all units if this one went
        too: [test rows]."""

    def drop(self, unit: int) -> None:
        """Leave out the unit that was tried last for good."""


def halves(rows: int) -> tuple[slice, slice]:
    """The rows to fit on and the rows to judge by; both are the same where there are too few."""
    fitted = int(FIT * rows)
    if fitted < 2 or rows - fitted < 2:
        return slice(0, rows), slice(0, rows)
    return slice(0, fitted), slice(fitted, rows)


class Ridge:
    """The linear predictor. x [r, features], z [r, outputs], blocks [units, b]."""

    def __init__(self, x: Array, z: Array, blocks: Array) -> None:
        fit, test = halves(len(x))
        x, z = np.asarray(x, np.float64), standardised(z)
        self._blocks, mean, base = blocks, x[fit].mean(0), z[fit].mean(0)
        ridge = shrinkage(len(x[fit]), x.shape[1])
        self.precision, self.slope = fitted(x[fit], z[fit], ridge)
        self._x = x[test] - mean
        self._error = z[test] - base - self._x @ self.slope
        self._start = (self._error**2).sum(1)
        self._chunk: list[int] = []
        self._gone: list[int] = []

    def look(self, units: Sequence[int]) -> None:
        """Settle what went, and bring the columns of these units."""
        if self._gone:
            at = self._blocks[self._gone].reshape(-1)
            rest = np.linalg.solve(self.precision[np.ix_(at, at)], self.precision[at])
            self.slope -= rest.T @ self.slope[at]
            self.precision -= self.precision[:, at] @ rest
            self.precision[at], self.precision[:, at], self.slope[at] = 0, 0, 0
        self._chunk, self._gone = list(units), []
        at = self._blocks[self._chunk].reshape(-1)
        self._p = self.precision[np.ix_(at, at)]
        self._own = self._x @ self.precision[:, at]
        self._b = self.slope[at]

    def rise(self, unit: int) -> Array:
        """Rise of the squared error without this unit: [test rows]."""
        return ((self._error + self._step(unit)) ** 2).sum(1) - self._start

    def _step(self, unit: int) -> Array:
        at = self._local(unit)
        return self._own[:, at] @ np.linalg.solve(self._p[np.ix_(at, at)], self._b[at])

    def _local(self, unit: int) -> Array:
        size = self._blocks.shape[1]
        return self._chunk.index(unit) * size + np.arange(size)

    def drop(self, unit: int) -> None:
        """Leave a unit out for good."""
        self._error += self._step(unit)
        at = self._local(unit)
        rest = np.linalg.solve(self._p[np.ix_(at, at)], self._p[at])
        self._own -= self._own[:, at] @ rest
        self._b = self._b - rest.T @ self._b[at]
        self._p = self._p - self._p[:, at] @ rest
        self._p[np.ix_(at, at)] = np.eye(len(at))  # never asked for again, but stays invertible
        self._gone.append(unit)


def fitted(x: Array, z: Array, ridge: float) -> tuple[Array, Array]:
    """(cov x + ridge)^-1 and the coefficients of z on x."""
    x, z = x - x.mean(0), z - z.mean(0)
    precision = np.linalg.inv(regularised(x.T @ x / len(x), ridge))
    return precision, precision @ (x.T @ z) / len(x)
