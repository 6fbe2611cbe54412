"""The basis in which a group's units are told apart best: principal dims of each context.

Dims between two matrices have no units of their own (`couple.basis`). With C the covariance of what
is covariant and Q what matters of it (W' F W for dims that a weight reads, E[k k'] for dims that
only a product reads), the generalised eigenvectors

    C = L L',   L' Q L = U S U',   A = U' L^-1

make C the identity and Q diagonal at once: the best k dims of a context are the k largest of S, the
truncated SVD of Cq^1/2 Ck^1/2 for queries and keys (design.md 6). Each dim is then scaled by S^1/4
on the covariant side, which shares the size evenly between both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mipack.calibrate.moments import Moments
from mipack.calibrate.pairs import Operand, PairMoments
from mipack.calibrate.sites import Array, Site, blocks_at
from mipack.couple.basis import frame_of, pairs_of
from mipack.couple.solve import Coupling, Group
from mipack.select.evidence import Evidence
from mipack.select.signal import SIGNALS
from mipack.surgery.rotate import Rotation

FORWARD = ("logits", "mixed")
"""Signals that regress the scores on the features."""
FLOOR = 1e-6
"""Of the mean variance, added to every dim: what has none stays invertible."""


def principal(covariance: Array, matters: Array) -> Array:
    """A of each context, most important dim first: [contexts, d, d] from two of the same shape."""
    d = covariance.shape[-1]
    level = np.maximum(np.trace(covariance, axis1=1, axis2=2) / d, 1e-30)
    lower = np.linalg.cholesky(covariance + FLOOR * level[:, None, None] * np.eye(d))
    values, vectors = np.linalg.eigh(lower.swapaxes(1, 2) @ matters @ lower)
    values, vectors = values[:, ::-1], vectors[:, :, ::-1]
    top = np.maximum(values[:, :1], 1e-30)
    scale = np.maximum(values, FLOOR * top) ** 0.25
    return scale[:, :, None] * np.linalg.solve(lower.swapaxes(1, 2), vectors).swapaxes(1, 2)


def rotations_of(evidence: Evidence, groups: Sequence[Group]) -> list[Rotation]:
    """A basis for every group that may have another one."""
    found = []
    for group in groups:
        frame = frame_of(evidence.coupling, group)
        if frame is None:
            continue
        readers, pairs = evidence.readers(group), operand_pairs(evidence, group)
        if readers and not pairs:
            covariance, matters = _read(evidence, group, readers)
        elif pairs and not readers:
            first, second = zip(*pairs, strict=True)
            squares = [evidence.calibration.pairs[o.key].mean_square() for o in first]
            left, right = np.sum(squares, 0), np.sum([spread(evidence, o) for o in second], 0)
            covariant = frame.kinds[first[0].name]
            covariance, matters = (left, right) if covariant else (right, left)
        else:
            continue
        if covariance.shape[-1] == group.size:
            found.append(Rotation(frame, principal(covariance, matters)))
    return found


def operand_pairs(evidence: Evidence, group: Group) -> list[tuple[Operand, Operand]]:
    """The operands of a group's products whose moments are known."""
    found = []
    for pair in pairs_of(evidence.coupling, group):
        left = Operand(pair.left, pair.left_axis, group)
        right = Operand(pair.right, pair.right_axis, group)
        if {left.key, right.key} <= evidence.calibration.pairs.keys():
            found.append((left, right))
    return found


def spread(evidence: Evidence, operand: Operand) -> Array:
    """What a product tells of this operand's rows: their covariance, for a softmax over them
    follows as a rule, and to it a common mean is nothing."""
    return evidence.calibration.pairs[operand.key].covariance()


def _read(evidence: Evidence, group: Group, readers: Sequence[Site]) -> tuple[Array, Array]:
    """C and Q of each context, summed over sites and over the features of a unit."""
    contexts = int(np.prod(group.shape[:-1]))
    covariance = np.zeros((contexts, group.size, group.size))
    matters = np.zeros_like(covariance)
    for site in readers:
        moments = evidence.calibration.moments[site.name]
        if not moments.full:
            return covariance[:, :0, :0], matters
        blocks = blocks_at(evidence.coupling, site, group).reshape(contexts, group.size, -1)
        known = moments.covariance()
        inverse = np.linalg.pinv(known) if evidence.signal in FORWARD else known
        weight, curvature = evidence.weight(site), evidence.calibration.curvature
        q = SIGNALS[evidence.signal](moments, inverse, weight, curvature, evidence.fisher(site))
        for k in range(blocks.shape[-1]):
            at = blocks[:, :, k]
            rows, columns = at[:, :, None], at[:, None, :]
            covariance += known[rows, columns]
            matters += q[rows, columns]
    return covariance, matters


def turned(evidence: Evidence, coupling: Coupling, rotations: Sequence[Rotation]) -> Evidence:
    """The evidence in the new bases: moments are moved, not measured again."""
    moments = dict(evidence.calibration.moments)
    pairs = dict(evidence.calibration.pairs)
    for rotation in rotations:
        group = rotation.frame.group
        for site in evidence.readers(group):
            blocks = blocks_at(evidence.coupling, site, group)
            moments[site.name] = _moved(moments[site.name], blocks, rotation.matrices)
        for operand in {o for pair in operand_pairs(evidence, group) for o in pair}:
            matrix = rotation.of(operand.name)
            old = pairs[operand.key]
            pairs[operand.key] = PairMoments(
                old.count,
                np.einsum("cij,cj->ci", matrix, old.first),
                matrix @ old.second @ matrix.swapaxes(1, 2),
            )
    calibration = replace(evidence.calibration, moments=moments, pairs=pairs)
    return replace(evidence, coupling=coupling, calibration=calibration)


def _moved(moments: Moments, blocks: Array, matrices: Array) -> Moments:
    """Moments of x where x of each context becomes A x; blocks [contexts * units, features]."""
    contexts, d = matrices.shape[:2]
    places = blocks.reshape(contexts, d, -1).swapaxes(1, 2).reshape(-1, d)  # one run per matrix
    each = np.repeat(matrices, blocks.shape[-1], axis=0)

    def turn(table: Array) -> Array:
        table = table.copy()
        table[places] = np.einsum("cij,cj...->ci...", each, table[places])
        return table

    second = turn(turn(moments.second).T).T
    return Moments(moments.count, turn(moments.first), second, moments.scores, turn(moments.cross))
