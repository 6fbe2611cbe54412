"""Normalisations: what they average over is a width, the rest may be cut."""

from __future__ import annotations

import numpy as np
from lawkit import IMAGES, TOKENS, Build, Cases

norms = Cases()
WIDTH = "normalised over"


@norms(opsets=(9, 15, 18), cut=[8], **IMAGES)
def batch_normalization(b: Build) -> str:
    h = b.conv("x", 3, 8)
    h = b.BatchNormalization(h, b.w(8, scale=1.0), b.w(8), b.w(8), b.positive(8))
    return b.conv(b.Relu(h), 8, 4, 1)


@norms(cut=[24])
def batch_normalization_of_rows(b: Build) -> str:
    vectors = b.w(24), b.w(24), b.w(24), b.positive(24)
    return b.lin(b.Relu(b.BatchNormalization(b.lin("x", 16, 24), *vectors)), 24, 5)


@norms(cut=[], stays={8: "training statistics"}, **IMAGES)
def batch_normalization_in_training_form(b: Build) -> list[str]:
    h = b.conv("x", 3, 8)
    vectors = b.w(8), b.w(8), b.w(8), b.positive(8)
    y, mean, _ = b.BatchNormalization(h, *vectors, n=3, training_mode=1)
    return [b.conv(b.Relu(y), 8, 4, 1), b.ReduceSum(mean, keepdims=0)]


@norms(opsets=(9, 18), cut=[8], **IMAGES)
def instance_normalization(b: Build) -> str:
    h = b.InstanceNormalization(b.conv("x", 3, 8), b.w(8), b.w(8))
    return b.conv(b.Relu(h), 8, 4, 1)


@norms(cut=[4], stays={6: WIDTH}, x=("B", 3, 10, 10))
def groups_by_hand(b: Build) -> str:
    """[B, 24, ..] read as [B, 4, 6 * ..]: groups may go, their 6 channels are a width."""
    h = b.conv("x", 3, 24)
    h = b.InstanceNormalization(b.Reshape(h, [0, 4, -1]), b.w(4), b.w(4))
    h = b.Mul(b.Reshape(h, [0, 24, 10, 10]), b.w(24, 1, 1, scale=1.0))
    return b.conv(b.Relu(h), 24, 4, 1)


@norms(cut=[4], stays={6: WIDTH}, **IMAGES)
def group_normalization_per_group(b: Build) -> str:
    """Opset 18: one scale per group."""
    h = b.GroupNormalization(b.conv("x", 3, 24), b.w(4), b.w(4), num_groups=4)
    return b.conv(b.Relu(h), 24, 5, 1)


@norms(opsets=(21,), cut=[4], stays={6: WIDTH}, **IMAGES)
def group_normalization_per_channel(b: Build) -> str:
    h = b.GroupNormalization(b.conv("x", 3, 24), b.w(24), b.w(24), num_groups=4)
    return b.conv(b.Relu(h), 24, 5, 1)


@norms(opsets=(17, 18), cut=[12], stays={24: WIDTH}, **TOKENS)
def layer_normalization(b: Build) -> str:
    h = b.LayerNormalization(b.lin("x", 16, 24), b.w(24), b.w(24), axis=-1)
    h = b.Add(h, b.lin(b.Relu(b.lin(h, 24, 12)), 12, 24))
    return b.lin(b.LayerNormalization(h, b.w(24)), 24, 5)


@norms(cut=[4], stays={6: WIDTH}, **TOKENS)
def layer_normalization_per_head(b: Build) -> str:
    h = b.LayerNormalization(b.Reshape(b.lin("x", 16, 24), [0, 0, 4, 6]), b.w(6), b.w(6))
    return b.lin(b.Reshape(h, [0, 0, 24]), 24, 5)


@norms(cut=[], stays={4: WIDTH, 6: WIDTH}, **TOKENS)
def layer_normalization_of_two_axes(b: Build) -> str:
    """From the axis on: heads and their dims; one scale for all, one per head and dim."""
    h = b.Reshape(b.lin("x", 16, 24), [0, 0, 4, 6])
    h = b.LayerNormalization(h, b.w(4, 6), b.w(4, 6), axis=2)
    return b.lin(b.Reshape(h, [0, 0, 24]), 24, 5)


@norms(cut=[4], stays={6: WIDTH}, **TOKENS)
def layer_normalization_whose_statistics_are_read(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 0, 4, 6])
    y, mean, inverse = b.LayerNormalization(h, b.w(6), b.w(6), n=3)
    h = b.Mul(b.Add(y, mean), inverse)  # mean and inverse are [B, S, 4, 1]
    return b.lin(b.Reshape(h, [0, 0, 24]), 24, 5)


@norms(opsets=(23,), cut=[], stays={24: WIDTH}, **TOKENS)
def rms_normalization(b: Build) -> str:
    return b.lin(b.RMSNormalization(b.lin("x", 16, 24), b.w(24)), 24, 5)


@norms(opsets=(23,), cut=[4], stays={6: WIDTH}, **TOKENS)
def rms_normalization_per_head(b: Build) -> str:
    h = b.RMSNormalization(b.Reshape(b.lin("x", 16, 24), [0, 0, 4, 6]), b.w(6))
    return b.lin(b.Reshape(h, [0, 0, 24]), 24, 5)


@norms(cut=[4], stays={6: WIDTH}, **TOKENS)
def simplified_layer_normalization(b: Build) -> str:
    """ORT's name for it, in the standard domain."""
    h = b.Reshape(b.lin("x", 16, 24), [0, 0, 4, 6])
    h = b.SimplifiedLayerNormalization(h, b.w(6), axis=-1, epsilon=1e-5)
    return b.lin(b.Reshape(h, [0, 0, 24]), 24, 5)


@norms(cut=[12], stays={24: "ReduceMean"}, **TOKENS)
def layer_normalization_decomposed(b: Build) -> str:
    h = b.lin("x", 16, 24)
    h = b.Add(h, b.lin(b.Relu(b.lin(h, 24, 12)), 12, 24))
    centred = b.Sub(h, b.ReduceMean(h, [-1]))
    spread = b.Sqrt(b.Add(b.ReduceMean(b.Pow(centred, np.float32(2)), [-1]), np.float32(1e-5)))
    h = b.Add(b.Mul(b.Div(centred, spread), b.w(24)), b.w(24))
    return b.lin(h, 24, 5)


@norms(cut=[24], **TOKENS)
def l2_normalised_by_hand(b: Build) -> str:
    """x / |x|: a sum of squares counts silenced units as nothing."""
    h = b.lin("x", 16, 24)
    return b.lin(b.Div(h, b.ReduceL2(h, [-1])), 24, 5)


@norms(opsets=(9, 18), cut=[], stays={24: WIDTH})
def lp_normalization(b: Build) -> str:
    return b.lin(b.LpNormalization(b.lin("x", 16, 24), axis=1), 24, 5)


@norms(cut=[4], stays={6: WIDTH})
def lp_normalization_per_head(b: Build) -> str:
    h = b.LpNormalization(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]), axis=-1)
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)


# ---------------------------------------------------------------- softmax and its kin


@norms(opsets=(9, 13, 18), cut=[], stays={24: WIDTH})
def softmax_of_channels(b: Build) -> str:
    return b.lin(b.Softmax(b.lin("x", 16, 24), axis=-1), 24, 5)


@norms(opsets=(13, 18), cut=[4], stays={6: WIDTH})
def softmax_of_one_axis(b: Build) -> str:
    h = b.Softmax(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]), axis=2)
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)


@norms(opsets=(13, 18), cut=[6], stays={4: WIDTH})
def softmax_of_a_middle_axis(b: Build) -> str:
    h = b.Softmax(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]), axis=1)
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)


@norms(opsets=(9, 12), cut=[], stays={4: WIDTH, 6: WIDTH})
def softmax_of_all_from_an_axis_on(b: Build) -> str:
    """Before opset 13 the axes from `axis` on are one."""
    h = b.Softmax(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]))
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)


@norms(cut=[4], stays={6: WIDTH})
def log_softmax(b: Build) -> str:
    h = b.LogSoftmax(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]), axis=-1)
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)


@norms(cut=[4], stays={6: WIDTH})
def hardmax(b: Build) -> str:
    h = b.Hardmax(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]), axis=-1)
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)


@norms(opsets=(9, 13, 18), cut=[24], **TOKENS)
def softmax_over_the_sequence(b: Build) -> str:
    """What is averaged over is dynamic; before opset 13 the transposed form does the same."""
    gate = b.Softmax(b.Transpose(b.lin("x", 16, 24), perm=[0, 2, 1]), axis=2)
    return b.lin(b.Transpose(b.Mul(gate, gate), perm=[0, 2, 1]), 24, 5)


@norms(cut=[4], stays={6: WIDTH}, **TOKENS)
def layer_normalization_whose_mean_alone_is_read(b: Build) -> str:
    _, mean, _ = b.LayerNormalization(b.Reshape(b.lin("x", 16, 24), [0, 0, 4, 6]), b.w(6), n=3)
    return b.lin(b.Reshape(mean, [0, 0, 4]), 4, 5)


@norms(opsets=(21,), cut=[4], stays={6: WIDTH}, x=("B", 3, 10, 10))
def group_normalization_after_a_vector_per_channel_of_a_group(b: Build) -> str:
    """The channels of a group are met without their group: groups are not chosen per channel."""
    h = b.Reshape(b.conv("x", 3, 24), [0, 4, 6, 10, 10])
    h = b.Reshape(b.Mul(h, b.w(6, 1, 1, scale=1.0)), [0, 24, 10, 10])
    h = b.GroupNormalization(h, b.w(24), b.w(24), num_groups=4)
    return b.conv(b.Relu(h), 24, 5, 1)


@norms(opsets=(9, 13), cut=[8], x=("B", 3, 6, 6))
def standardised_per_channel(b: Build) -> str:
    return b.conv(b.MeanVarianceNormalization(b.conv("x", 3, 8)), 8, 4, 1)


@norms(opsets=(13,), cut=[], stays={8: "normalised over"}, x=("B", 3, 6, 6))
def standardised_over_channels(b: Build) -> str:
    h = b.MeanVarianceNormalization(b.conv("x", 3, 8), axes=[0, 1, 2, 3])
    return b.conv(h, 8, 4, 1)


@norms(opsets=(13,), cut=[4], stays={6: ""}, x=(16,))
def standardised_beside_a_residual(b: Build) -> str:
    h = b.Add(b.Reshape(b.MatMul("x", b.w(16, 24)), [1, 4, 1, 6]), b.w(6, scale=1.0))
    h = b.Add(h, b.MeanVarianceNormalization(h))
    return b.MatMul(b.Reshape(b.Sigmoid(h), [24]), b.w(24, 5))
