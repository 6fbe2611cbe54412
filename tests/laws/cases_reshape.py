"""Renaming positions: reshapes, transposes, broadcasts, and the sizes that they spell out."""

from __future__ import annotations

import numpy as np
from lawkit import IMAGES, TOKENS, Build, Cases
from onnx import numpy_helper

reshapes = Cases()


@reshapes(opsets=(9, 13, 18), cut=[4, (6, 4)])
def split_into_heads(b: Build) -> str:
    h = b.Add(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]), b.w(4, 1, scale=1.0))
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)


@reshapes(cut=[4, (6, 4)])
def minus_one_follows(b: Build) -> str:
    h = b.Sigmoid(b.Reshape(b.lin("x", 16, 24), [-1, 4, 6]))
    return b.lin(b.Reshape(h, [0, -1]), 24, 5)


@reshapes(cut=[2, (2, 2), (3, 2), (2, 2), (2, 2)])
def a_copied_size_may_belong_to_another_axis(b: Build) -> str:
    """[B, 4, 6, 2] -> [B, 2, 0, 4]: the 0 copies a 6 whose units are others."""
    h = b.Relu(b.Reshape(b.lin("x", 16, 48), [0, 4, 6, 2]))
    h = b.Reshape(b.Add(h, b.w(4, 1, 1, scale=1.0)), [-1, 2, 0, 4])
    return b.lin(b.Reshape(b.Relu(h), [0, 48]), 48, 5)


@reshapes(cut=[4, (6, 4)])
def zero_means_zero(b: Build) -> str:
    """allowzero: no element is copied, all are written."""
    h = b.Reshape(b.lin("x", 16, 24), [-1, 4, 6], allowzero=1)
    return b.lin(b.Reshape(b.Sigmoid(h), [-1, 24], allowzero=1), 24, 5)


@reshapes(cut=[(2, 32), (6, 32), 32])
def common_refinement(b: Build) -> str:
    """12 x 32 against 6 x 64: 6 x 2 x 32 serves both."""
    t = b.Mul(b.Reshape(b.lin("x", 16, 384), [0, 12, 32]), b.w(32, scale=1.0))
    t = b.Mul(b.Reshape(b.Reshape(t, [0, 384]), [0, 6, 64]), b.w(64, scale=1.0))
    return b.lin(b.Reshape(t, [0, 384]), 384, 5)


@reshapes(cut=[(4, 16), 16], stays={2: "no common refinement", 3: "no common refinement"})
def no_common_refinement(b: Build) -> str:
    """12 x 32 against 8 x 48: 4 x (3 x 2) x 16 against 4 x (2 x 3) x 16."""
    t = b.Mul(b.Reshape(b.lin("x", 16, 384), [0, 12, 32]), b.w(32, scale=1.0))
    t = b.Mul(b.Reshape(b.Reshape(t, [0, 384]), [0, 8, 48]), b.w(48, scale=1.0))
    return b.lin(b.Reshape(t, [0, 384]), 384, 5)


@reshapes(cut=[4, (6, 4), 24], x=("B", "S", 16))
def units_come_and_go(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 0, 1, 4, 1, 6])
    h = b.Reshape(b.Sigmoid(h), [1, 0, -1, 24])
    return b.lin(b.Reshape(h, b.Shape(b.lin("x", 16, 24))), 24, 5)


@reshapes(cut=[4, (8, 4), (8, 4)], **TOKENS)
def batch_times_heads_in_one_axis(b: Build) -> str:
    """[B * H, S, D], the product computed at run time."""
    sizes = b.Shape("x")
    batch, length = b.Slice(sizes, [0], [1]), b.Slice(sizes, [1], [2])
    merged = b.Concat(b.Mul(batch, [4]), length, [8], axis=0)
    q, k, v = [b.Reshape(b.heads(b.lin("x", 16, 32), 4, 8), merged) for _ in range(3)]
    o = b.MatMul(b.Softmax(b.MatMul(q, b.Transpose(k, perm=[0, 2, 1])), axis=-1), v)
    o = b.Reshape(o, b.Concat(batch, [4], length, [8], axis=0))
    o = b.Transpose(o, perm=[0, 2, 1, 3])
    return b.lin(b.Reshape(o, b.Concat(batch, length, [32], axis=0)), 32, 5)


@reshapes(cut=[4, (8, 4), (8, 4)], **TOKENS)
def units_that_are_not_zero_beside_the_batch(b: Build) -> str:
    """[B * H, S, D] through a sigmoid, contracted without a weight: what is cut has to be silenced
    in an axis whose size is known at run time only."""
    sizes = b.Shape("x")
    merged = b.Concat(b.Mul(b.Gather(sizes, [0]), [4]), b.Gather(sizes, [1]), [8], axis=0)
    apart = [b.heads(b.lin("x", 16, 32), 4, 8) for _ in range(3)]
    q, k, v = (b.Sigmoid(b.Reshape(t, merged)) for t in apart)
    o = b.MatMul(b.MatMul(q, b.Transpose(k, perm=[0, 2, 1])), v)
    o = b.Transpose(b.Reshape(o, b.Shape(apart[2])), perm=[0, 2, 1, 3])
    return b.lin(b.Reshape(o, [0, -1, 32]), 32, 5)


@reshapes(cut=[(8, 4), (8, 4)], stays={4: "interface"}, **TOKENS)
def dims_per_head_where_heads_stand_beside_the_batch(b: Build) -> list[str]:
    """In [B * H, S, D] it is open which head a position belongs to; H itself stays."""
    sizes = b.Shape("x")
    merged = b.Concat(b.Mul(b.Gather(sizes, [0]), [4]), b.Gather(sizes, [1]), [8], axis=0)
    apart = [b.heads(b.lin("x", 16, 32), 4, 8) for _ in range(3)]
    q, k, v = (b.Sigmoid(b.Reshape(t, merged)) for t in apart)
    o = b.MatMul(b.Softmax(b.MatMul(q, b.Transpose(k, perm=[0, 2, 1])), axis=-1), v)
    o = b.Transpose(b.Reshape(o, b.Shape(apart[2])), perm=[0, 2, 1, 3])
    per_head = b.ReduceSum(apart[0], [2, 3], keepdims=0)
    return [b.lin(b.Reshape(o, [0, -1, 32]), 32, 5), per_head]


@reshapes(**TOKENS)
def target_from_the_shape_of_a_cut_tensor(b: Build) -> str:
    """Shape of a cut tensor, products of it, and a scale: numbers stay those of the original."""
    h = b.heads(b.lin("x", 16, 32), 4, 8)
    sizes = b.Shape(h)
    rows = b.Mul(b.Slice(sizes, [0], [1]), b.Slice(sizes, [1], [2]))
    t = b.Reshape(h, b.Concat(rows, b.Slice(sizes, [2], [4]), axis=0))
    scale = b.Sqrt(b.Cast(b.Gather(sizes, np.int64(3)), to=1))
    s = b.Softmax(b.Div(b.MatMul(t, b.Transpose(t, perm=[0, 2, 1])), scale), axis=-1)
    o = b.Transpose(b.Reshape(b.MatMul(s, t), sizes), perm=[0, 2, 1, 3])
    return b.lin(b.Reshape(o, [0, -1, 32]), 32, 5)


@reshapes(cut=[32])
def number_of_elements_as_a_scale(b: Build) -> str:
    h = b.Relu(b.lin("x", 16, 32))
    return b.lin(b.Div(h, b.Cast(b.ReduceProd(b.Shape(h), keepdims=0), to=1)), 32, 5)


@reshapes(cut=[], stays={32: "Size"})
def size_of_a_layer_as_a_scale(b: Build) -> str:
    """Size tells the number of elements after the cut: nothing converts it back."""
    h = b.Relu(b.lin("x", 16, 32))
    return b.lin(b.Div(h, b.Cast(b.Size(h), to=1)), 32, 5)


@reshapes(cut=[32])
def shape_with_bounds(b: Build) -> str:
    h = b.Relu(b.lin("x", 16, 32))
    width = b.Cast(b.Shape(h, start=-1), to=1)
    rows = b.Cast(b.Shape(h, end=1), to=1)
    return b.lin(b.Mul(b.Div(h, width), rows), 32, 5)


@reshapes(cut=[], stays={32: "computed at run time"}, x=(3, 16))
def positions_of_a_cut_axis(b: Build) -> str:
    """0..31 as data, counted from the shape of the layer that they are added to."""
    h = b.lin("x", 16, 32)
    last = b.Gather(b.Shape(h), np.int64(1))
    return b.lin(b.Add(h, b.Cast(b.Range(np.int64(0), last, np.int64(1)), to=1)), 32, 5)


@reshapes(opsets=(9, 18), cut=[4, 6], **IMAGES)
def flatten(b: Build) -> str:
    h = b.GlobalAveragePool(b.Relu(b.conv("x", 3, 4)))
    g = b.Relu(b.lin(b.Flatten(h), 4, 6))
    return b.lin(b.Flatten(g, axis=1), 6, 5)


@reshapes(cut=[4, 6], x=("B", 3, 6, 4))
def flatten_an_image(b: Build) -> str:
    """Channels before places: each channel owns 24 rows of the dense weight."""
    h = b.Relu(b.lin(b.Flatten(b.Relu(b.conv("x", 3, 4))), 96, 6))
    return b.lin(h, 6, 5)


@reshapes(opsets=(9,), cut=[24], **TOKENS)
def squeeze_by_attributes(b: Build) -> str:
    h = b.Sigmoid(b.Unsqueeze(b.lin("x", 16, 24), axes=[0, 2]))
    return b.lin(b.Squeeze(h, axes=[2, 0]), 24, 5)


@reshapes(opsets=(13, 18), cut=[24], **TOKENS)
def squeeze_by_operands(b: Build) -> str:
    h = b.Sigmoid(b.Unsqueeze(b.lin("x", 16, 24), [-1, 1]))
    return b.lin(b.Squeeze(h, [1, 4]), 24, 5)


@reshapes(cut=[24], x=("B", 1, 16))
def squeeze_of_all_units(b: Build) -> str:
    return b.lin(b.Squeeze(b.Sigmoid(b.lin("x", 16, 24))), 24, 5)


@reshapes(cut=[4, (6, 4)], **TOKENS)
def transpose(b: Build) -> str:
    h = b.Transpose(b.Reshape(b.lin("x", 16, 24), [0, 0, 4, 6]), perm=[2, 0, 3, 1])  # [4, B, 6, S]
    h = b.Transpose(b.Sigmoid(h), perm=[1, 3, 0, 2])
    return b.lin(b.Reshape(h, [0, 0, 24]), 24, 5)


@reshapes(cut=[24], x=(7, 16))
def transpose_by_default_reverses(b: Build) -> str:
    h = b.Transpose(b.Relu(b.lin("x", 16, 24)))  # [24, 7]
    return b.MatMul(b.Transpose(h), b.w(24, 5))


@reshapes(cut=[(8, 3)], x=("B", 3, 10, 10))
def coprime_shuffle(b: Build) -> str:
    """3 x 8 channels transposed to 8 x 3 and convolved in 3 groups: only what comes out of each
    group may go."""
    h = b.Reshape(b.Relu(b.conv("x", 3, 24)), [0, 3, 8, 10, 10])
    h = b.Reshape(b.Transpose(h, perm=[0, 2, 1, 3, 4]), [0, 24, 10, 10])
    return b.conv(b.conv(h, 24, 24, group=3), 24, 5, 1)


@reshapes(x=("B", 3, 10, 10))
def shuffle_of_powers_of_two(b: Build) -> str:
    h = b.Reshape(b.Relu(b.conv("x", 3, 32)), [0, 4, 8, 10, 10])
    h = b.Reshape(b.Transpose(h, perm=[0, 2, 1, 3, 4]), [0, 32, 10, 10])
    return b.conv(b.conv(h, 32, 32, group=4), 32, 5, 1)


# ---------------------------------------------------------------- broadcasts to a shape


@reshapes(cut=[2, (3, 2), (8, 2), (8, 2)], **TOKENS)
def grouped_queries(b: Build) -> str:
    """Keys and values of 2 heads, each expanded to 3 queries."""
    sizes = b.Shape("x")
    batch, length = b.Slice(sizes, [0], [1]), b.Slice(sizes, [1], [2])

    def repeat(t: str) -> str:
        wide = b.Expand(b.Unsqueeze(t, [2]), b.Concat(batch, [2], [3], length, [8], axis=0))
        return str(b.Reshape(wide, b.Concat(batch, [6], length, [8], axis=0)))

    q = b.heads(b.lin("x", 16, 48), 6, 8)
    k, v = [repeat(b.heads(b.lin("x", 16, 16), 2, 8)) for _ in range(2)]
    return b.lin(b.attend(q, k, v, 6, 8), 48, 5)


@reshapes(cut=[24])
def expand_with_units_in_the_shape(b: Build) -> str:
    h = b.Expand(b.Sigmoid(b.lin("x", 16, 24)), b.const([1, 1]))
    return b.lin(b.Expand(h, b.const([24])), 24, 5)


@reshapes(cut=[4, 6])
def expand_makes_a_new_axis(b: Build) -> str:
    """[B, 6, 1] to [B, 6, 4]: the copies are units of their own, tied to what they meet."""
    wide = b.Expand(b.Unsqueeze(b.lin("x", 16, 6), [2]), b.const([1, 6, 4]))
    h = b.Mul(wide, b.Unsqueeze(b.Sigmoid(b.lin("x", 16, 4)), [1]))
    return b.lin(b.Relu(b.Reshape(h, [0, 24])), 24, 5)


@reshapes(cut=[24], x=("B", "S", 16))
def expand_by_a_dynamic_size(b: Build) -> str:
    pooled = b.ReduceMean(b.lin("x", 16, 24), [1])  # [B, 1, 24]
    target = b.Concat(b.Shape("x", end=2), [24], axis=0)
    return b.lin(b.Tanh(b.Expand(pooled, target)), 24, 5)


@reshapes(opsets=(9, 18), cut=[8])
def tile_repeats_units(b: Build) -> str:
    t = b.Relu(b.lin("x", 16, 8))
    both = b.Add(b.Concat(t, t, axis=1), b.Tile(b.Neg(t), [1, 2]))
    return b.lin(both, 16, 5)


@reshapes(cut=[3, 8])
def tile_makes_copies_of_their_own(b: Build) -> str:
    """Three copies, told apart by what multiplies them: any of them may go."""
    wide = b.Reshape(b.Tile(b.lin("x", 16, 8), [1, 3]), [0, 3, 8])
    h = b.Sigmoid(b.Mul(wide, b.w(3, 1, scale=1.0)))
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)


@reshapes(cut=[24, 24])
def tile_of_a_unit_axis(b: Build) -> str:
    h = b.Tile(b.lin(b.Relu(b.lin("x", 16, 24)), 24, 1), [1, 24])
    return b.lin(b.Sigmoid(b.Add(h, b.lin("x", 16, 24))), 24, 5)


@reshapes(cut=[24], **TOKENS)
def tile_by_a_dynamic_count(b: Build) -> str:
    pooled = b.ReduceMean(b.lin("x", 16, 24), [1])
    length = b.Shape("x", start=1, end=2)
    return b.lin(b.Tanh(b.Tile(pooled, b.Concat([1], length, [1], axis=0))), 24, 5)


@reshapes(cut=[24], **TOKENS)
def constant_of_shape(b: Build) -> str:
    """A filled tensor that meets a cut layer has its size written down."""
    target = b.Concat(b.Shape("x", end=2), [24], axis=0)
    fill = b.ConstantOfShape(target, value=numpy_helper.from_array(np.array([0.5], np.float32)))
    return b.lin(b.Sigmoid(b.Add(b.lin("x", 16, 24), fill)), 24, 5)


@reshapes(cut=[24], **TOKENS)
def constant_of_the_shape_of_a_cut_layer(b: Build) -> str:
    h = b.lin("x", 16, 24)
    fill = b.ConstantOfShape(b.Shape(h), value=numpy_helper.from_array(np.ones(1, np.float32)))
    return b.lin(b.Sigmoid(b.Add(h, fill)), 24, 5)
