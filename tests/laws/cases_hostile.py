"""Whole small graphs that broke pruners: accidents of size, packed heads, mixed heads, ties."""

from __future__ import annotations

import numpy as np
from lawkit import IMAGES, TOKENS, Build, Cases

hostile = Cases()


@hostile(x=(8, 8, 8))
def every_size_is_eight(b: Build) -> str:
    """Heads = head size = sequence = batch: matching is by position, never by size."""
    h = b.lin("x", 8, 64)
    q, k, v = (b.heads(b.lin(h, 64, 64), 8, 8) for _ in range(3))
    return b.lin(b.attend(q, k, v, 8, 8), 64, 8)


@hostile(cut=[24, 4, (6, 4), (6, 4)], x=(1, 12, 8))
def a_batch_of_one(b: Build) -> str:
    h = b.Reshape(b.lin("x", 8, 24), [12, 24])
    q = b.Transpose(b.Reshape(b.lin(h, 24, 24), [1, 12, 4, 6]), perm=[0, 2, 1, 3])
    k, v = (b.heads(b.lin("x", 8, 24), 4, 6) for _ in range(2))
    return b.lin(b.attend(q, k, v, 4, 6), 24, 5)


@hostile(cut=[4, (8, 4), (8, 4)], **TOKENS)
def attention(b: Build) -> str:
    q, k, v = (b.heads(b.lin("x", 16, 32), 4, 8) for _ in range(3))
    return b.lin(b.attend(q, k, v, 4, 8), 32, 5)


@hostile(cut=[4, 8], **TOKENS)
def talking_heads(b: Build) -> str:
    """Heads mixed by a square matrix, tied by a residual: dims must not be chosen per head."""
    q = b.Reshape(b.lin("x", 16, 32), [0, 0, 4, 8])
    mixed = b.MatMul(b.Transpose(q, perm=[0, 1, 3, 2]), b.w(4, 4))
    mixed = b.Transpose(mixed, perm=[0, 1, 3, 2])
    return b.lin(b.Reshape(b.Add(q, mixed), [0, 0, 32]), 32, 5)


@hostile(**TOKENS)
def heads_mixed_into_others(b: Build) -> str:
    """6 heads from 4: the dims are tied over all of them, both sides are groups."""
    q = b.Reshape(b.lin("x", 16, 32), [0, 0, 4, 8])
    mixed = b.MatMul(b.Transpose(q, perm=[0, 1, 3, 2]), b.w(4, 6))  # [B, S, 8, 6]
    return b.lin(b.Reshape(b.Sigmoid(mixed), [0, 0, 48]), 48, 5)


@hostile(x=("B", "S", 16))
def rotary_on_a_part_of_each_head(b: Build) -> str:
    """4 of 8 dims rotated as halves, 4 passed."""
    angle = b.Concat(*[b.w(1, 1, 1, 2, scale=1.0)] * 2, axis=3)

    def turn(t: str) -> str:
        r, p = b.Slice(t, [0], [4], [3]), b.Slice(t, [4], [2**31], [3])
        half = b.Concat(b.Neg(b.Slice(r, [2], [4], [3])), b.Slice(r, [0], [2], [3]), axis=3)
        return str(b.Concat(b.Add(b.Mul(r, angle), b.Mul(half, angle)), p, axis=3))

    q, k, v = (b.heads(b.lin("x", 16, 32), 4, 8) for _ in range(3))
    return b.lin(b.attend(turn(q), turn(k), v, 4, 8), 32, 5)


@hostile(x=("B", "S", 16))
def rotary_angles_from_positions(b: Build) -> str:
    """The table is a function of the length: 0..S-1 times constant frequencies."""
    count = b.Gather(b.Shape("x"), np.int64(1))
    places = b.Cast(b.Range(np.int64(0), count, np.int64(1)), to=1)
    angle = b.MatMul(b.Unsqueeze(places, [1]), b.w(1, 4))  # [S, 4]
    table = b.Concat(angle, angle, axis=1)

    def turn(t: str) -> str:
        low, high = b.Slice(t, [0], [4], [3]), b.Slice(t, [4], [2**31], [3])
        turned = b.Concat(b.Neg(high), low, axis=3)
        return str(b.Add(b.Mul(t, b.Cos(table)), b.Mul(turned, b.Sin(table))))

    q, k, v = (b.heads(b.lin("x", 16, 32), 4, 8) for _ in range(3))
    return b.lin(b.attend(turn(q), turn(k), v, 4, 8), 32, 5)


@hostile(cut=[20, 14], x=("B", 8, 12))
def mixer(b: Build) -> str:
    """Tokens mixed by a dense layer on the transposed tensor."""
    t = b.lin("x", 12, 20)
    u = b.Transpose(t, perm=[0, 2, 1])
    u = b.lin(b.Relu(b.lin(u, 8, 14)), 14, 8)
    t = b.Add(t, b.Transpose(u, perm=[0, 2, 1]))
    return b.lin(b.ReduceMean(t, [1], keepdims=0), 20, 5)


@hostile(cut=[24, 24], x=("B", 24))
def one_vector_of_ones_for_two_layers(b: Build) -> list[str]:
    """A constant that the exporter shared ties nothing."""
    ones = b.const(np.ones(24))
    return [
        b.lin(b.Mul(b.Relu(b.lin("x", 24, 24)), ones), 24, 5),
        b.lin(b.Mul(b.Tanh(b.lin("x", 24, 24)), ones), 24, 5),
    ]


@hostile(cut=[24], x=("B", 16))
def one_matrix_for_two_layers(b: Build) -> list[str]:
    """A matrix that is shared is one weight: here it ties two layers' outputs."""
    weight = b.w(16, 24)
    return [
        b.lin(b.Relu(b.MatMul("x", weight)), 24, 5),
        b.lin(b.Sigmoid(b.MatMul(b.Neg("x"), weight)), 24, 5),
    ]


@hostile(cut=[8, 16, 6], **IMAGES)
def squeeze_and_excite_over_a_concat(b: Build) -> str:
    t = b.Relu(b.conv("x", 3, 8))
    c = b.Concat(t, b.conv(t, 8, 16), axis=1)
    c = b.BatchNormalization(c, b.w(24, scale=1.0), b.w(24), b.w(24), b.positive(24))
    gate = b.conv(b.Relu(b.conv(b.GlobalAveragePool(c), 24, 6, 1)), 6, 24, 1)
    return b.conv(b.Mul(c, b.Sigmoid(gate)), 24, 5, 1)


@hostile(**IMAGES)
def shuffle_of_halves(b: Build) -> str:
    """ShuffleNet v2: split, work on a half, concatenate, interleave, twice."""
    t = b.conv("x", 3, 16)
    for _ in range(2):
        p, q = b.Split(t, [8, 8], n=2, axis=1)
        c = b.Concat(p, b.Relu(b.conv(q, 8, 8)), axis=1)
        sizes = b.Shape(c)
        rows, space = b.Slice(sizes, [0], [1]), b.Slice(sizes, [2], [4])
        pairs = b.Reshape(c, b.Concat(rows, [2, 8], space, axis=0))
        pairs = b.Transpose(pairs, perm=[0, 2, 1, 3, 4])
        t = b.Reshape(pairs, b.Concat(rows, [16], space, axis=0))
    return b.conv(t, 16, 5, 1)


@hostile(cut=[24, 24], **TOKENS)
def gated_unit(b: Build) -> str:
    """SwiGLU, and a second one whose gate comes from the first."""
    h = b.Mul(b.Sigmoid(b.lin("x", 16, 24)), b.lin("x", 16, 24))
    g = b.lin(h, 24, 24)
    return b.lin(b.Mul(g, b.Sigmoid(g)), 24, 5)


@hostile(x=("B", "S", 16))
def deep_concatenation(b: Build) -> str:
    """Every layer reads the concatenation of all before it."""
    h = b.lin("x", 16, 6)
    for k in range(12):
        h = b.Concat(h, b.Sigmoid(b.lin(h, 6 * (k + 1), 6)), axis=2)
    return b.lin(h, 78, 5)


@hostile(cut=[12], stays={24: "no rule for"}, **TOKENS)
def an_unknown_op_freezes_what_it_touches(b: Build) -> str:
    """And no further: the layer behind it may be cut."""
    h = b.UnfoldTensor(b.lin("x", 16, 24), dim=-1, size=1, step=1, domain="com.microsoft")
    h = b.Squeeze(h, [3])
    return b.lin(b.Relu(b.lin(h, 24, 12)), 12, 5)


@hostile(x=("B", 3, 10, 10))
def parts_shuffled_across_their_seam(b: Build) -> str:
    """8 + 16 channels read as 2 x 12 and turned to 12 x 2: the seam lies inside a row."""
    c = b.Concat(b.conv("x", 3, 8), b.Sigmoid(b.conv("x", 3, 16)), axis=1)
    h = b.Reshape(c, [0, 2, 12, 100])
    h = b.Reshape(b.Transpose(h, perm=[0, 2, 1, 3]), [0, 24, 10, 10])
    return b.conv(b.Relu(b.conv(h, 24, 24, group=24)), 24, 4, 1)


@hostile(**IMAGES)
def two_seams_inside_groups(b: Build) -> str:
    """Two grouped convolutions read one concatenation as groups of 6 and of 8, one transposed."""
    c = b.Concat(b.conv("x", 3, 10), b.conv("x", 3, 14), axis=1)
    one = b.conv(b.Sigmoid(b.conv(c, 24, 12, group=4)), 12, 6, 1)
    two = b.ConvTranspose(b.Sigmoid(c), b.w(24, 2, 1, 1), b.w(6), group=3)
    return b.conv(b.Add(one, two), 6, 4, 1)


@hostile(**IMAGES)
def a_seam_inside_normed_groups(b: Build) -> str:
    """A grouped convolution between: what its groups lose alike is a width of the norm's groups."""
    c = b.Concat(b.conv("x", 3, 10), b.conv("x", 3, 14), axis=1)
    h = b.Reshape(
        b.InstanceNormalization(
            b.Reshape(c, [0, 4, -1]), np.ones(4, np.float32), np.zeros(4, np.float32)
        ),
        b.Shape(c),
    )
    return b.conv(b.Relu(h), 24, 4, 1)


@hostile()
def heads_split_two_ways(b: Build) -> str:
    """12 heads of 32 for one half, 8 of 48 for the other, added: only what both share is cut."""
    t = b.Reshape(b.Sigmoid(b.lin("x", 16, 384)), [0, 12, 32])
    u = b.Reshape(b.Sigmoid(b.lin("x", 16, 384)), [0, 8, 48])
    t, u = b.Mul(t, b.w(12, 1)), b.Mul(u, b.w(8, 1))
    return b.lin(b.Add(b.Reshape(t, [0, 384]), b.Reshape(u, [0, 384])), 384, 5)
