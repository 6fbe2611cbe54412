"""Dims that only a product of activations reads: those of queries and keys.

Dropping the dims R changes the product by sum_R q_r k_r. Rows of q and k taken as independent,

    E (sum_R q_r k_r)^2 = 1_R' M 1_R,    M = E[q q'] o cov(k)    (design.md 6; o elementwise)

of each context; after `select.rotate` M is diagonal, with rotary positions dims go in pairs.
"""

from __future__ import annotations

import numpy as np

from mipack.calibrate.pairs import Operand
from mipack.calibrate.sites import Array
from mipack.couple.positions import unit_positions
from mipack.couple.solve import Group
from mipack.layout import leaves
from mipack.select.eliminate import Ranking
from mipack.select.evidence import Evidence
from mipack.select.rotate import operand_pairs, spread


def products(evidence: Evidence, group: Group) -> Ranking | None:
    """Backward elimination on M, one unit of every context a round; None where no product of
    activations over the group was observed."""
    pairs = operand_pairs(evidence, group)
    if not pairs:
        return None
    matrix = np.sum([_of_units(evidence, group, *pair) for pair in pairs], 0)
    return _eliminated(matrix, group.shape)


def _of_units(evidence: Evidence, group: Group, left: Operand, right: Operand) -> Array:
    """M over units, [contexts, units, units]: features of a unit (rotary pairs) summed."""
    table = evidence.calibration.pairs[left.key].mean_square() * spread(evidence, right)
    axis = evidence.coupling.axes[left.name][left.axis]
    beside = [c for c in group.within if c in leaves(axis)]
    places = unit_positions(axis, group.atom, beside)[: group.size] % table.shape[-1]
    grid = table[:, places[:, :, None, None], places[None, None, :, :]]
    return grid.sum((2, 4))


def _eliminated(matrix: Array, shape: tuple[int, ...]) -> Ranking:
    contexts, units = len(matrix), matrix.shape[-1]
    alive, gone = np.ones((contexts, units), bool), np.zeros((contexts, units))
    diagonal = np.diagonal(matrix, axis1=1, axis2=2)
    order, deltas = np.zeros((contexts, units), np.int64), np.zeros(units)
    rows = np.arange(contexts)
    for step in range(units):
        cost = np.where(alive, diagonal + 2 * np.einsum("cij,cj->ci", matrix, gone), np.inf)
        chosen = cost.argmin(1)
        order[:, step], deltas[step] = chosen, cost[rows, chosen].sum()
        alive[rows, chosen], gone[rows, chosen] = False, 1.0
    loss = np.concatenate([[0.0], np.cumsum(np.maximum(deltas, 0.0))])[::-1]
    return Ranking(order.reshape(shape), loss / max(float(loss[0]), 1e-30))
