"""Concatenation, splits and padding."""

from __future__ import annotations

import numpy as np
from lawkit import IMAGES, TOKENS, Build, Cases

sums = Cases()


@sums(opsets=(9, 13, 18), cut=[10, 14])
def concat(b: Build) -> str:
    h = b.Concat(b.lin("x", 16, 10), b.Relu(b.lin("x", 16, 14)), axis=1)
    return b.lin(b.Sigmoid(h), 24, 5)


@sums(cut=[8, 12], **IMAGES)
def dense_block(b: Build) -> str:
    """Every layer reads all before it."""
    h = b.conv("x", 3, 8)
    h = b.Concat(h, b.conv(b.Relu(h), 8, 12), axis=1)
    h = b.BatchNormalization(h, b.w(20, scale=1.0), b.w(20), b.w(20), b.positive(20))
    return b.conv(b.Relu(h), 20, 4, 1)


@sums(cut=[24], **TOKENS)
def concat_along_the_sequence(b: Build) -> str:
    """A class token before the sequence."""
    token = b.Expand(b.w(1, 1, 24, scale=1.0), b.Concat(b.Shape("x", end=1), [1, 24], axis=0))
    h = b.Sigmoid(b.Concat(token, b.lin("x", 16, 24), axis=1))
    return b.lin(h, 24, 5)


@sums(cut=[2])
def parts_in_two_orders(b: Build) -> str:
    """A + B = B + A with |A| = 6, |B| = 10: only A = P+P+P, B = P+P+P+P+P with |P| = 2 fits."""
    p, q = b.lin("x", 16, 6), b.lin("x", 16, 10)
    return b.lin(b.Sigmoid(b.Add(b.Concat(p, q, axis=1), b.Concat(q, p, axis=1))), 16, 5)


@sums(cut=[8])
def concat_with_itself(b: Build) -> str:
    t = b.Sigmoid(b.lin("x", 16, 8))
    return b.lin(b.Concat(t, b.Neg(t), axis=1), 16, 5)


@sums()
def distributed_product(b: Build) -> str:
    """(A + B) x C from [.., A, C] and [.., B, C]."""
    p = b.Reshape(b.lin("x", 16, 12), [0, 3, 4])
    q = b.Reshape(b.lin("x", 16, 20), [0, 5, 4])
    return b.lin(b.Reshape(b.Sigmoid(b.Concat(p, q, axis=1)), [0, 32]), 32, 5)


@sums(cut=[10], stays={16: "interface"})
def concat_with_an_input(b: Build) -> str:
    h = b.Concat("x", b.Sigmoid(b.lin("x", 16, 10)), axis=-1)
    return b.lin(h, 26, 5)


@sums(cut=[10, 6])
def concat_with_a_constant(b: Build) -> str:
    """A constant row, one per sample: its units may go as well."""
    row = b.Expand(b.w(1, 6, scale=1.0), b.Concat(b.Shape("x", end=1), [6], axis=0))
    return b.lin(b.Concat(b.Sigmoid(b.lin("x", 16, 10)), row, axis=1), 16, 5)


# ---------------------------------------------------------------- splits


@sums(opsets=(9, 11), cut=[10, 14])
def split_by_attribute(b: Build) -> str:
    p, q = b.Split(b.lin("x", 16, 24), n=2, axis=1, split=[10, 14])
    return b.Add(b.lin(b.Sigmoid(p), 10, 5), b.lin(b.Cos(q), 14, 5))


@sums(opsets=(9, 11), cut=[12])
def split_in_halves_without_sizes(b: Build) -> str:
    p, q = b.Split(b.lin("x", 16, 24), n=2, axis=1)
    return b.lin(b.Mul(p, b.Sigmoid(q)), 12, 5)


@sums(opsets=(9, 11, 13), cut=[12, 12])
def split_in_uneven_halves(b: Build) -> str:
    """Equal parts in the file, each cut on its own: the sizes have to be written down."""
    p, q = b.Split(b.lin("x", 16, 24), n=2, axis=-1)
    return b.Add(b.lin(b.Sigmoid(p), 12, 5), b.lin(b.Cos(q), 12, 5))


@sums(opsets=(13, 18), cut=[10, 14])
def split_by_operand(b: Build) -> str:
    p, q = b.Split(b.lin("x", 16, 24), [10, 14], n=2, axis=-1)
    return b.Add(b.lin(b.Sigmoid(p), 10, 5), b.lin(b.Cos(q), 14, 5))


@sums(cut=[8, 8, 7])
def split_by_count_with_a_shorter_last(b: Build) -> str:
    parts = b.Split(b.lin("x", 16, 23), n=3, axis=1, num_outputs=3)
    p, q, r = (b.Sigmoid(t) for t in parts)
    return b.Add(b.Add(b.lin(p, 8, 5), b.lin(q, 8, 5)), b.lin(r, 7, 5))


@sums(cut=[8, 7])
def split_by_count_with_tied_parts(b: Build) -> str:
    p, q, r = b.Split(b.Relu(b.lin("x", 16, 23)), n=3, axis=1, num_outputs=3)
    return b.Add(b.lin(b.Add(p, q), 8, 5), b.lin(r, 7, 5))


@sums(**TOKENS)
def packed_queries_keys_values(b: Build) -> str:
    """One dense layer, [H, D + D + D] per head, split on the last axis."""
    p = b.Transpose(b.Reshape(b.lin("x", 16, 96), [0, 0, 4, 24]), perm=[0, 2, 1, 3])
    q, k, v = b.Split(p, [8, 8, 8], n=3, axis=3)
    return b.lin(b.attend(q, k, v, 4, 8), 32, 5)


@sums(stays={6: "", 18: ""}, x=("B", "S", 24))
def split_sizes_from_the_shape(b: Build) -> str:
    """Sizes that are known though computed."""
    h = b.lin("x", 24, 24)
    quarter = b.Div(b.Shape(h, start=2), [4])
    sizes = b.Concat(quarter, b.Sub([24], quarter), axis=0)
    p, q = b.Split(b.Sigmoid(h), sizes, n=2, axis=-1)
    return b.Add(b.lin(p, 6, 5), b.lin(q, 18, 5))


# ---------------------------------------------------------------- padding


@sums(opsets=(9,), cut=[8, 4], **IMAGES)
def pad_channels_by_attribute(b: Build) -> str:
    h = b.Pad(b.conv("x", 3, 8), pads=[0, 0, 0, 0, 0, 4, 0, 0], value=1.0)
    return b.conv(b.Relu(h), 12, 5, 1)


@sums(opsets=(11, 18), cut=[8, 2, 4], **IMAGES)
def pad_channels_with_ones(b: Build) -> str:
    """Padded channels are units too: what they feed may lose them."""
    h = b.Pad(b.conv("x", 3, 8), [0, 2, 0, 0, 0, 4, 0, 0], np.float32(1))
    return b.conv(b.Relu(h), 14, 5, 1)


@sums(cut=[8], **IMAGES)
def pad_space_only(b: Build) -> str:
    h = b.Pad(b.conv("x", 3, 8), [0, 0, 1, 1, 0, 0, 2, 2], mode="reflect")
    return b.conv(h, 8, 5, 1)


@sums(cut=[8, 2], **IMAGES)
def pad_listed_axes(b: Build) -> str:
    h = b.Pad(b.conv("x", 3, 8), [2, 0, 0, 1], np.float32(0.5), [1, -1])
    return b.conv(b.Sigmoid(h), 10, 5, 1)


@sums(cut=[], stays={8: "padded axis", 12: "padded axis"}, x=("B", 3, "S"))
def pad_channels_by_copies(b: Build) -> str:
    h = b.Pad(b.conv("x", 3, 8, nd=1), [0, 2, 0, 0, 2, 0], mode="edge")
    return b.conv(h, 12, 5, 1, nd=1)


@sums(opsets=(13, 18), cut=[4, 20, 2])
def pad_that_crops(b: Build) -> str:
    h = b.Pad(b.Relu(b.lin("x", 16, 24)), [0, -4, 0, 2], np.float32(1))
    return b.lin(b.Sigmoid(h), 22, 5)


@sums(opsets=(9,), cut=[3, 4, 5], x=("B", 3, "S"))
def pad_that_crops_by_attribute(b: Build) -> str:
    h = b.Pad(b.conv("x", 3, 12, nd=1), pads=[0, -3, 1, 0, -5, 0])
    return b.conv(h, 4, 5, 1, nd=1)


@sums(cut=[8, 4], x=("B", 3, "S"))
def pad_that_crops_in_any_mode(b: Build) -> str:
    """Space is padded by copies, channels are cropped."""
    h = b.Pad(b.conv("x", 3, 12, nd=1), [0, 0, 2, 0, -4, 1], mode="edge")
    return b.conv(b.Relu(h), 8, 5, 1, nd=1)


@sums(stays={3: "padded axis"}, **TOKENS)
def pad_that_crops_inside_blocks(b: Build) -> str:
    """3 x 8 cropped by 4: the 8 cannot be split in every block."""
    h = b.Mul(b.Reshape(b.lin("x", 16, 24), [0, 0, 3, 8]), b.w(8, scale=1.0))
    return b.lin(b.Pad(b.Reshape(b.Sigmoid(h), [0, 0, 24]), [0, 0, -4, 0, 0, 0]), 20, 5)


@sums(opsets=(19,), cut=[8], **IMAGES)
def pad_space_around(b: Build) -> str:
    h = b.Pad(b.conv("x", 3, 8), [1, 2, 2, 1], None, [2, 3], mode="wrap")
    return b.conv(h, 8, 5, 1)


@sums(cut=[8, 4, 4], x=("B", 3, 12, 12))
def option_a_shortcut(b: Build) -> str:
    """A residual by strided slice and channel padding: the stream of 16 is 4 + 8 + 4."""
    t = b.Relu(b.conv("x", 3, 8))
    u = b.Conv(t, b.w(16, 8, 3, 3), b.w(16), pads=[1] * 4, strides=[2, 2])
    s = b.Slice(t, [0, 0], [2**31, 2**31], [2, 3], [2, 2])
    s = b.Pad(s, [0, 4, 0, 0, 0, 4, 0, 0], np.float32(0))
    return b.conv(b.Relu(b.Add(u, s)), 16, 5, 1)


@sums(stays={24: "padding computed at run time"})
def pad_by_data(b: Build) -> str:
    zero = b.Cast(b.Mul(b.ReduceSum("x", keepdims=0), np.float32(0)), to=7)
    amounts = b.Concat([0], b.Unsqueeze(zero, [0]), [0], b.Unsqueeze(b.Add(zero, np.int64(2)), [0]),
                       axis=0)  # fmt: skip
    return b.lin(b.Pad(b.lin("x", 16, 24), amounts), 26, 5)


@sums(cut=[4, (2, 4), (8, 4), (3, 4)])
def pad_the_dims_of_heads(b: Build) -> str:
    """Only the listed axis is padded; heads pass, and each has padded dims of its own."""
    h = b.Pad(b.Reshape(b.lin("x", 16, 32), [0, 4, 8]), [2, 3], np.float32(0.5), [2])
    return b.lin(b.Reshape(b.Sigmoid(h), [0, 52]), 52, 5)


@sums(cut=[4], stays={6: "padded axis"})
def pad_that_shifts_beside_a_residual(b: Build) -> str:
    """[B, 4, 6] shifted along its dims and added: heads are not chosen per dim."""
    h = b.Add(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]), b.w(6, scale=1.0))
    h = b.Sigmoid(b.Add(h, b.Pad(h, [1, -1], None, [2], mode="edge")))
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)
