"""Give groups another basis: the same function, other weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mipack.couple.basis import Frame
from mipack.couple.positions import unit_positions
from mipack.couple.solve import Coupling
from mipack.layout import factors, leaves

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new basis of a group: covariant units x of each context become `matrices[context] @ x`,
    [contexts, units, units]."""

    frame: Frame
    matrices: Array

    @property
    def inverse(self) -> Array:
        """The same for contravariant units: A^-T."""
        return np.linalg.inv(self.matrices).swapaxes(-1, -2)

    def of(self, name: str) -> Array:
        """What a value or initializer is multiplied by."""
        return self.matrices if self.frame.kinds[name] else self.inverse


def rotate(coupling: Coupling, rotations: Sequence[Rotation]) -> Coupling:
    """The coupling with its weights in the new bases; `coupling` itself is left as it is."""
    constants = dict(coupling.constants)
    for rotation in rotations:
        for name, axis in rotation.frame.weights:
            constants[name] = _along(coupling, rotation, constants[name], name, axis)
    return coupling.with_weights({n: constants[n] for r in rotations for n, _ in r.frame.weights})


def _along(coupling: Coupling, rotation: Rotation, array: Array, name: str, axis: int) -> Array:
    """An initializer with the matrix of each context applied along an axis."""
    group, axes = rotation.frame.group, coupling.axes[name]
    moved = array.astype(np.float64)
    if all(context in leaves(axes[axis]) for context in group.within):
        order = [axis, *(k for k in range(array.ndim) if k != axis)]
        table: Array = moved.transpose(order).reshape(array.shape[axis], -1)
        places = unit_positions(axes[axis], group.atom, group.within)
        places = places.reshape(len(rotation.matrices), group.size, -1)
        table[places] = np.einsum("cij,cjrx->cirx", rotation.of(name), table[places])
    else:
        apart = [next(k for k, t in enumerate(axes) if factors(t) == [c]) for c in group.within]
        order = [*apart, axis, *(k for k in range(array.ndim) if k not in (*apart, axis))]
        table = moved.transpose(order).reshape(len(rotation.matrices), array.shape[axis], -1)
        places = unit_positions(axes[axis], group.atom)
        table[:, places] = np.einsum("cij,cjrx->cirx", rotation.of(name), table[:, places])
    grid = table.reshape([array.shape[k] for k in order])
    return np.ascontiguousarray(grid.transpose(np.argsort(order)).astype(array.dtype))
