"""What depends on the order of an axis (sums, sorting, triangles), and axes moved along and
added back, so that what is beside them is kept alike all along."""

from __future__ import annotations

import numpy as np
from lawkit import Build, Cases

ordered = Cases()
FAR = 2**31


RESIDUAL = {"cut": [4], "stays": {6: ""}, "x": ("B", 16)}
"""[B, 4, 6] with its last axis moved along and added back: as 6 is met alone (a vector), 4 might
be taken for a family chosen per unit of 6; but 6 is mixed, so 4 is kept alike all along."""


def _heads(b: Build) -> str:
    return str(b.Add(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]), b.w(6, scale=1.0)))


def _out(b: Build, h: str) -> str:
    return b.lin(b.Reshape(b.Sigmoid(h), [0, 24]), 24, 5)


@ordered(**RESIDUAL)
def flipped_beside_a_residual(b: Build) -> str:
    h = _heads(b)
    return _out(b, b.Add(h, b.Slice(h, [-1], [-FAR], [2], [-1])))


@ordered(**RESIDUAL)
def permuted_beside_a_residual(b: Build) -> str:
    h = _heads(b)
    return _out(b, b.Add(h, b.Gather(h, [2, 5, 0, 1, 3, 4], axis=2)))


@ordered(**RESIDUAL)
def summed_up_beside_a_residual(b: Build) -> str:
    h = _heads(b)
    return _out(b, b.Add(h, b.CumSum(h, np.int64(2))))


@ordered(**RESIDUAL)
def elements_beside_a_residual(b: Build) -> str:
    h = _heads(b)
    places = b.Cast(b.Mul(b.Sigmoid(h), np.float32(5.9)), to=7)
    return _out(b, b.Add(h, b.GatherElements(h, places, axis=2)))


@ordered(cut=[4], stays={6: ""}, x=(16,))
def rows_beside_a_residual(b: Build) -> str:
    h = b.Add(b.Reshape(b.MatMul("x", b.w(16, 24)), [6, 4]), b.w(6, 1, scale=1.0))
    h = b.Add(h, b.GatherND(h, b.const([[3], [5], [0], [1], [2], [4]])))
    return b.MatMul(b.Reshape(b.Sigmoid(h), [24]), b.w(24, 5))


# ---------------------------------------------------------------- along an axis


@ordered(cut=[24], x=("B", 7, 16))
def cumulative_sum_over_time(b: Build) -> str:
    return b.lin(b.CumSum(b.Sigmoid(b.lin("x", 16, 24)), np.int64(1), reverse=1), 24, 5)


@ordered(cut=[], stays={24: "order matters"})
def cumulative_sum_over_units(b: Build) -> str:
    return b.lin(b.CumSum(b.Sigmoid(b.lin("x", 16, 24)), np.int64(-1), exclusive=1), 24, 5)


@ordered(cut=[24], x=("B", 7, 16))
def best_of_time(b: Build) -> str:
    values, places = b.TopK(b.Sigmoid(b.lin("x", 16, 24)), [3], n=2, axis=1)
    return b.lin(b.Add(values, b.Cast(places, to=1)), 24, 5)


@ordered(opsets=(10, 11, 18), cut=[], stays={24: "order matters"})
def best_of_units(b: Build) -> str:
    values, _ = b.TopK(b.Sigmoid(b.lin("x", 16, 24)), [3], n=2)
    return b.lin(values, 3, 5)


@ordered(opsets=(9,), cut=[], stays={24: "order matters"})
def best_of_units_by_attribute(b: Build) -> str:
    values, _ = b.TopK(b.Sigmoid(b.lin("x", 16, 24)), n=2, k=3)
    return b.lin(values, 3, 5)


@ordered(cut=[24], x=(7, 3, 16))
def reversed_sequences(b: Build) -> str:
    h = b.Sigmoid(b.lin("x", 16, 24))
    return b.lin(b.ReverseSequence(h, b.const([7, 2, 5]), batch_axis=1, time_axis=0), 24, 5)


@ordered(cut=[3], stays={7: "order matters"}, x=(16,))
def reversed_sequences_of_a_cut_batch(b: Build) -> str:
    """The lengths are a constant per sequence."""
    h = b.Sigmoid(b.Reshape(b.MatMul("x", b.w(16, 21)), [7, 3]))
    h = b.ReverseSequence(h, b.const([7, 2, 5]), batch_axis=1, time_axis=0)
    return b.MatMul(b.Reshape(h, [21]), b.w(21, 5))


@ordered(cut=[], stays={24: "order matters"}, x=("B", 3, 16))
def reversed_units_by_length(b: Build) -> str:
    h = b.Transpose(b.lin("x", 16, 24), perm=[2, 1, 0])  # [24, 3, B]
    h = b.ReverseSequence(h, b.const([7, 24, 5]), batch_axis=1, time_axis=0)
    return b.lin(b.Transpose(h, perm=[2, 1, 0]), 24, 5)


@ordered(cut=[4], stays={6: "triangle"}, x=("B", 16))
def triangle(b: Build) -> str:
    """The last two axes of [B, 4, 6, 6] make a triangle, the heads before them may go."""
    h = b.Trilu(b.Reshape(b.lin("x", 16, 144), [0, 4, 6, 6]), np.int64(1), upper=0)
    return b.lin(b.Sigmoid(b.Reshape(h, [0, 144])), 144, 5)
