"""Ops that have no rule of their own but a function body in the standard."""

from __future__ import annotations

from lawkit import Build, Cases

function = Cases()


@function(cut=[12], x=("B", 3, "W", "H"))
def mean_variance_normalization(b: Build) -> str:
    h = b.MeanVarianceNormalization(b.conv("x", 3, 12), axes=[0, 2, 3])
    return b.conv(h, 12, 4)


@function(cut=[], stays={12: "normalised over"}, x=("B", 3, "W", "H"))
def statistics_over_the_units(b: Build) -> str:
    h = b.MeanVarianceNormalization(b.conv("x", 3, 12), axes=[1, 2, 3])
    return b.conv(h, 12, 4)


@function(cut=[12], x=("B", "S", 6))
def log_of_a_sum(b: Build) -> str:
    """The axis that is summed holds no units."""
    h = b.Sigmoid(b.lin("x", 6, 12))
    return b.lin(b.ReduceLogSum(h, [1], keepdims=1), 12, 4)


@function(cut=[12], x=("B", "S", 6))
def log_of_a_sum_of_units(b: Build) -> str:
    """Units that are summed inside of a body are out of the reach of masks."""
    h = b.Sigmoid(b.lin("x", 6, 12))
    return b.Mul("x", b.ReduceLogSum(h, [-1], keepdims=1))


@function(cut=[12], x=("B", 3, "W", "H"))
def a_crop_of_the_space(b: Build) -> str:
    h = b.CenterCropPad(b.conv("x", 3, 12), [4, 3], axes=[2, 3])
    return b.conv(h, 12, 4)


@function(cut=[], stays={4: "no rule"}, x=("B", 6))
def an_op_that_no_standard_knows(b: Build) -> str:
    square = b.Reshape(b.lin("x", 6, 16), [-1, 4, 4])
    h = b.UnfoldTensor(square, dim=-1, size=1, step=1, domain="com.microsoft")
    return b.lin(b.Reshape(h, [-1, 16]), 16, 5)
