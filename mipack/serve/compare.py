"""Served answers against local ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mipack.errors import InputError

Array = np.ndarray[Any, Any]
TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2
"""Of outputs of 16 bits, which carry 3 digits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How one output came back. `max_relative`: the largest difference over the largest local
    value. `agreement`: the share of rows with the same first class; None where there are no
    classes. `equal`: to the bit. `passed`: within `tolerance`."""

    output: str
    values: int
    max_absolute: float
    max_relative: float
    agreement: float | None
    equal: bool
    tolerance: float
    passed: bool


@dataclass
class Comparison:
    """Answers of one output, request by request."""

    output: str
    tolerance: float | None
    _values: int = 0
    _absolute: float = 0.0
    _scale: float = 0.0
    _unequal: int = 0
    _broken: int = 0
    _rows: int = 0
    _same: int = 0
    _default: float = TOLERANCE
    _classes: bool = field(default=True)

    def add(self, served: Array, local: Array) -> None:
        """One request's answer. Raises InputError where the shapes differ: nothing can be said."""
        if served.size != local.size:
            raise InputError(
                f"output {self.output}: the server answers {list(served.shape)}, the local model "
                f"{list(local.shape)}",
                hint="is it the same model?",
            )
        served = served.reshape(local.shape)
        self._values += local.size
        same = _same(served, local)
        self._unequal += int(np.sum(~same))
        if local.dtype.kind == "f":
            self._add_floats(served.astype(np.float64), local)
        elif not bool(same.all()):
            self._broken += 1
            self._absolute = max(self._absolute, _integer_gap(served, local))
        self._agree(served, local)

    def _add_floats(self, served: Array, local: Array) -> None:
        self._default = HALF_TOLERANCE if local.dtype.itemsize < 4 else TOLERANCE
        local = local.astype(np.float64)
        finite = np.isfinite(local) & np.isfinite(served)
        # infinities and NaN have no distance: they are where they should be, or the answer is wrong
        self._broken += int(np.sum(~finite & ~_same(served, local)))
        gap = np.abs(served[finite] - local[finite])
        self._absolute = max(self._absolute, float(gap.max(initial=0.0)))
        self._scale = max(self._scale, float(np.abs(local[finite]).max(initial=0.0)))

    def _agree(self, served: Array, local: Array) -> None:
        self._classes &= local.dtype.kind == "f" and local.ndim > 1 and local.shape[-1] > 1
        if self._classes and local.size:
            pairs = zip(
                *(a.reshape(-1, a.shape[-1]).argmax(1) for a in (served, local)), strict=True
            )
            found = [one == other for one, other in pairs]
            self._rows, self._same = self._rows + len(found), self._same + sum(found)

    def answer(self) -> Answer:
        """What all requests together say."""
        tolerance = self._default if self.tolerance is None else self.tolerance
        relative = self._absolute / self._scale if self._scale else self._absolute
        return Answer(
            self.output,
            self._values,
            self._absolute,
            relative,
            self._same / self._rows if self._classes and self._rows else None,
            self._unequal == 0,
            tolerance,
            relative <= tolerance and self._broken == 0,
        )


def _same(one: Array, other: Array) -> Array:
    both_nan = (one != one) & (other != other) if other.dtype.kind == "f" else False
    return np.asarray((one == other) | both_nan)


def _integer_gap(one: Array, other: Array) -> float:
    if other.dtype.kind not in "iub":
        return 1.0
    return float(np.max(np.abs(one.astype(np.float64) - other.astype(np.float64))))


def percentile(seconds: Sequence[float], share: float) -> float:
    """Milliseconds that this share of requests took at most."""
    return 1000 * float(np.quantile(np.asarray(seconds), share))
