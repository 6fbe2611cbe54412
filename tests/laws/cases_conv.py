"""Convolutions and pools: channels, groups, all ranks."""

from __future__ import annotations

import numpy as np
from lawkit import IMAGES, Build, Cases

convolutions = Cases()


@convolutions(opsets=(9, 11, 18), cut=[8, 12], **IMAGES)
def plain(b: Build) -> str:
    return b.conv(b.Relu(b.conv(b.Relu(b.conv("x", 3, 8)), 8, 12)), 12, 4, 1)


@convolutions(cut=[8], x=("B", 3, "W"))
def one_dimension(b: Build) -> str:
    return b.conv(b.Sigmoid(b.conv("x", 3, 8, nd=1)), 8, 4, 1, nd=1)


@convolutions(cut=[8], x=("B", 3, "W", "H", "W"))
def three_dimensions(b: Build) -> str:
    return b.conv(b.Sigmoid(b.conv("x", 3, 8, nd=3)), 8, 4, 1, nd=3)


@convolutions(cut=[8, 12], **IMAGES)
def strides_dilations_and_automatic_padding(b: Build) -> str:
    h = b.Conv("x", b.w(8, 3, 3, 3), strides=[2, 1], pads=[1, 0, 1, 2], dilations=[1, 2])
    h = b.Conv(b.Sigmoid(h), b.w(12, 8, 3, 3), b.w(12), auto_pad="SAME_UPPER")
    return b.Conv(b.Relu(h), b.w(4, 12, 2, 2), auto_pad="VALID")


@convolutions(cut=[8, 12], **IMAGES)
def depthwise(b: Build) -> str:
    h = b.conv(b.conv("x", 3, 8, 1), 8, 8, group=8)
    return b.conv(b.Sigmoid(b.conv(b.Sigmoid(h), 8, 12, 1)), 12, 4, 1)


@convolutions(cut=[8, (2, 8)], **IMAGES)
def depth_multiplier(b: Build) -> str:
    """Two outputs per channel: channels go whole, of two outputs one may go, per channel."""
    h = b.conv(b.conv("x", 3, 8, 1), 8, 16, group=8)
    return b.conv(b.Sigmoid(h), 16, 4, 1)


@convolutions(cut=[4, (6, 4), (3, 4)], **IMAGES)
def grouped(b: Build) -> str:
    """24 = 4 groups of 6 in, 12 = 4 of 3 out: groups, and equal counts within each."""
    h = b.conv(b.Relu(b.conv("x", 3, 24)), 24, 12, group=4)
    return b.conv(b.Sigmoid(h), 12, 4, 1)


@convolutions(cut=[], stays={3: "interface", 2: "interface"}, x=("B", 6, "W", "H"))
def groups_of_the_input(b: Build) -> str:
    return b.conv("x", 6, 6, 1, group=3)


@convolutions(cut=[4, (3, 4), (2, 4), (6, 4)], **IMAGES)
def two_groupings_in_a_row(b: Build) -> str:
    h = b.conv(b.Relu(b.conv("x", 3, 24)), 24, 12, group=4)
    return b.conv(b.Relu(b.conv(b.Relu(h), 12, 8, group=4)), 8, 4, 1)


@convolutions(cut=[2, 8, 8], **IMAGES)
def concatenated_into_groups(b: Build) -> str:
    """8 + 16 channels in 3 groups of 8: the seam lies between groups, which must lose alike."""
    c = b.Concat(b.conv("x", 3, 8), b.conv("x", 3, 16), axis=1)
    return b.conv(b.Sigmoid(b.conv(c, 24, 24, group=3)), 24, 4, 1)


@convolutions(cut=[2, 4, 6], **IMAGES)
def seam_inside_a_group(b: Build) -> str:
    """10 + 14 channels in 4 groups of 6: every group loses the same of its 4 + 2."""
    c = b.Concat(b.conv("x", 3, 10), b.conv("x", 3, 14), axis=1)
    return b.conv(b.Relu(b.conv(c, 24, 24, group=4)), 24, 5, 1)


@convolutions(cut=[8, 6], **IMAGES)
def transposed(b: Build) -> str:
    h = b.ConvTranspose(b.Relu(b.conv("x", 3, 8)), b.w(8, 6, 2, 2), b.w(6), strides=[2, 2])
    return b.conv(b.Sigmoid(h), 6, 4, 1)


@convolutions(cut=[2, (4, 2), (3, 2)], **IMAGES)
def transposed_grouped(b: Build) -> str:
    h = b.ConvTranspose(b.Relu(b.conv("x", 3, 8)), b.w(8, 3, 2, 2), b.w(6), group=2)
    return b.conv(b.Sigmoid(h), 6, 4, 1)


@convolutions(cut=[8], **IMAGES)
def weights_made_from_the_input(b: Build) -> str:
    """CondConv: the kernel is a mix of two, chosen by nothing but a constant here."""
    mix = b.Softmax(b.w(2), axis=0)
    kernels = b.Mul(b.Reshape(mix, [2, 1, 1, 1, 1]), b.w(2, 8, 3, 3, 3))
    kernel = b.ReduceSum(kernels, [0], keepdims=0)
    return b.conv(b.Relu(b.Conv("x", kernel, pads=[1] * 4)), 8, 4, 1)


@convolutions(cut=[6, 24], **IMAGES)
def squeeze_and_excite(b: Build) -> str:
    c = b.conv("x", 3, 24)
    gate = b.conv(b.Relu(b.conv(b.GlobalAveragePool(c), 24, 6, 1)), 6, 24, 1)
    return b.conv(b.Mul(c, b.Sigmoid(gate)), 24, 5, 1)


@convolutions(cut=[], stays={9: "spatial"}, x=(2, 3, 8, 8))
def a_kernel_is_no_group(b: Build) -> str:
    return b.conv("x", 3, 4, 9)


# ---------------------------------------------------------------- pools


@convolutions(opsets=(9, 11, 18), cut=[8], **IMAGES)
def pools(b: Build) -> str:
    h = b.Sigmoid(b.conv("x", 3, 8))
    h = b.Concat(
        b.MaxPool(h, kernel_shape=[2, 2], strides=[2, 2]),
        b.AveragePool(h, kernel_shape=[2, 2], strides=[2, 2]),
        b.LpPool(h, kernel_shape=[2, 2], strides=[2, 2]),
        axis=2,
    )
    return b.conv(h, 8, 4, 1)


@convolutions(cut=[8], **IMAGES)
def global_pools(b: Build) -> str:
    h = b.Sigmoid(b.conv("x", 3, 8))
    h = b.Add(b.GlobalAveragePool(h), b.Add(b.GlobalMaxPool(h), b.GlobalLpPool(h)))
    return b.lin(b.Flatten(h), 8, 5)


@convolutions(cut=[8], x=("B", 3, "W"))
def pools_of_sequences(b: Build) -> str:
    h = b.MaxPool(b.conv("x", 3, 8, nd=1), kernel_shape=[3], pads=[1, 1], ceil_mode=1)
    return b.conv(h, 8, 4, 1, nd=1)


@convolutions(cut=[], stays={8: "positions"}, **IMAGES)
def places_of_a_max_pool_count_channels(b: Build) -> str:
    """The second result of MaxPool numbers the positions of the whole tensor."""
    y, places = b.MaxPool(b.conv("x", 3, 8), n=2, kernel_shape=[2, 2], strides=[2, 2])
    far = b.Mul(b.Cast(places, to=1), np.float32(0.01))
    return b.conv(b.Add(y, far), 8, 4, 1)


@convolutions(cut=[8], **IMAGES)
def unread_places_of_a_max_pool(b: Build) -> str:
    y, _ = b.MaxPool(b.conv("x", 3, 8), n=2, kernel_shape=[2, 2], strides=[2, 2])
    return b.conv(y, 8, 4, 1)


@convolutions(cut=[4, 6, 8], x=("S", 16))
def heads_as_a_batch(b: Build) -> str:
    """[24, S] read as 4 sequences of 6 channels: the batch is a group like any other."""
    h = b.Reshape(b.Transpose(b.lin("x", 16, 24), perm=[1, 0]), [4, 6, -1])
    h = b.Sigmoid(b.Conv(h, b.w(8, 6, 3), b.w(8), pads=[1, 1]))  # [4, 8, S]
    return b.lin(b.Transpose(b.Reshape(h, [32, -1]), perm=[1, 0]), 32, 5)


@convolutions(cut=[], stays={24: "spatial", 12: "spatial"})
def pooled_units(b: Build) -> str:
    """Maxout: the window slides over units, so they stay."""
    h = b.MaxPool(b.Unsqueeze(b.lin("x", 16, 24), [1]), kernel_shape=[2], strides=[2])
    return b.lin(b.Squeeze(h, [1]), 12, 5)


@convolutions(cut=[4], stays={6: "spatial"})
def pooled_beside_a_residual(b: Build) -> str:
    """[B, 4, 6] pooled along the last axis: channels are not chosen per place."""
    h = b.Add(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]), b.w(6, scale=1.0))
    h = b.Add(h, b.MaxPool(h, kernel_shape=[3], pads=[1, 1]))
    return b.lin(b.Reshape(b.Sigmoid(h), [0, 24]), 24, 5)


# ------------------------------------------------- channels beside a batch that is tied to others


@convolutions(cut=[4, 6], x=("S", 16))
def batch_tied_to_the_outputs(b: Build) -> str:
    """[4, 6, S] -> [4, 4, S] added to its transpose: every 6 is beside a 4, yet not the same 4."""
    h = b.Reshape(b.Transpose(b.lin("x", 16, 24), perm=[1, 0]), [4, 6, -1])
    y = b.Conv(h, b.w(4, 6, 3), pads=[1, 1])
    return _rows(b, b.Add(y, b.Transpose(y, perm=[1, 0, 2])), 16)


@convolutions(cut=[4, 6], x=("S", 16))
def batch_tied_to_the_inputs(b: Build) -> str:
    h = b.Reshape(b.Transpose(b.lin("x", 16, 16), perm=[1, 0]), [4, 4, -1])
    h = b.Add(h, b.Transpose(h, perm=[1, 0, 2]))
    return _rows(b, b.Conv(h, b.w(6, 4, 3), pads=[1, 1]), 24)


@convolutions(cut=[4, 3, (2, 3)], x=("S", 16))
def batch_tied_to_the_inputs_of_a_group(b: Build) -> str:
    """The 4 are met alone, groups only beside a 4: still groups are not chosen per 4."""
    h = b.Reshape(b.Transpose(b.lin("x", 16, 48), perm=[1, 0]), [4, 3, 4, -1])
    h = b.Add(h, b.w(4, 1, scale=1.0))
    h = b.Add(h, b.Transpose(h, perm=[2, 1, 0, 3]))
    y = b.Conv(b.Reshape(h, [4, 12, -1]), b.w(6, 4, 3), pads=[1, 1], group=3)
    return _rows(b, y, 24)


def _rows(b: Build, y: str, width: int) -> str:
    y = b.Transpose(b.Reshape(b.Sigmoid(y), [width, -1]), perm=[1, 0])
    return b.lin(y, width, 5)
