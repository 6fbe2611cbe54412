"""Contractions: plain, batched, transposed, with vectors, with shared weights, merged axes."""

from __future__ import annotations

import numpy as np
from lawkit import TOKENS, Build, Cases

contractions = Cases()


@contractions(opsets=(9, 13, 18), cut=[24, 12])
def dense_chain(b: Build) -> str:
    return b.lin(b.Relu(b.lin(b.Relu(b.lin("x", 16, 24)), 24, 12)), 12, 5)


@contractions(cut=[24], **TOKENS)
def tokens(b: Build) -> str:
    return b.lin(b.Sigmoid(b.lin("x", 16, 24)), 24, 5)


@contractions(cut=[24], x=("B", "S", 3, 16))
def rank_four_against_a_matrix(b: Build) -> str:
    return b.lin(b.Sigmoid(b.lin("x", 16, 24)), 24, 5)


@contractions(cut=[7, 24], x=("B", 4, 16))
def weight_on_the_left(b: Build) -> str:
    """W x: rows of the weight make the last axis but one."""
    h = b.MatMul(b.w(7, 4), b.lin("x", 16, 24))  # [B, 7, 24]
    h = b.Add(b.Relu(h), b.w(7, 1, scale=1.0))
    return b.lin(b.MatMul(b.w(4, 7), h), 24, 5)


@contractions(cut=[24], **TOKENS)
def contraction_without_a_weight(b: Build) -> str:
    """f(0) is not 0, and no weight behind the contraction hides it."""
    q, k = b.Sigmoid(b.lin("x", 16, 24)), b.Cos(b.lin("x", 16, 24))
    return b.MatMul(b.MatMul(q, b.Transpose(k, perm=[0, 2, 1])), b.lin("x", 16, 5))


@contractions(cut=[24])
def vector_on_the_right(b: Build) -> str:
    h = b.Cos(b.lin("x", 16, 24))
    return b.Mul(b.lin(h, 24, 5), b.Unsqueeze(b.MatMul(h, b.w(24)), [1]))


@contractions(cut=[24, 16], x=(16,))
def vector_on_the_left(b: Build) -> str:
    h = b.Cos(b.MatMul("x", b.w(16, 24)))  # [24]
    g = b.MatMul(h, b.w(24, 16))
    return b.MatMul(g, b.w(16, 5))


@contractions(cut=[(6, 3)], x=("B", "S", 3, 4))
def batched_weights(b: Build) -> str:
    """One weight per unit of a static axis (experts, heads): that axis is walked in step."""
    h = b.Transpose("x", perm=[0, 2, 1, 3])  # [B, 3, S, 4]
    h = b.Relu(b.Add(b.MatMul(h, b.w(3, 4, 6)), b.w(3, 1, 6, scale=0.3)))
    return b.MatMul(h, b.w(3, 6, 5))


@contractions(cut=[3, (6, 3)], x=("B", "S", 4))
def batched_weights_summed(b: Build) -> str:
    """Experts that are summed may leave as a whole."""
    h = b.Relu(b.MatMul(b.Unsqueeze("x", [1]), b.w(3, 4, 6)))  # [B, 3, S, 6]
    return b.ReduceSum(b.MatMul(h, b.w(3, 6, 5)), [1], keepdims=0)


@contractions(cut=[8, 12])
def weight_made_from_the_input(b: Build) -> str:
    weight = b.Reshape(b.lin("x", 16, 96), [0, 8, 12])
    h = b.Unsqueeze(b.Relu(b.lin("x", 16, 8)), [1])
    return b.lin(b.Squeeze(b.MatMul(h, weight), [1]), 12, 5)


@contractions(cut=[32], stays={24: "interface"}, x=("B", 24))
def one_matrix_plain_and_transposed(b: Build) -> list[str]:
    weight = b.w(24, 32)
    h = b.Relu(b.MatMul("x", weight))
    return [b.MatMul(h, b.Transpose(weight, perm=[1, 0])), b.lin(h, 32, 5)]


@contractions(cut=[], stays={24: "interface", 32: "interface"}, x=("B", 24), z=("B", 32))
def one_matrix_transposed_for_another_input(b: Build) -> list[str]:
    """Both axes of the matrix are those of an input, though one use cannot see that."""
    weight = b.w(24, 32)
    h = b.Relu(b.MatMul("x", weight))
    return [b.MatMul("z", b.Transpose(weight, perm=[1, 0])), b.lin(h, 32, 5)]


@contractions(cut=[4, (8, 4)], stays={24: "interface"}, x=("B", 24))
def one_matrix_plain_and_reshaped(b: Build) -> str:
    weight = b.w(24, 32)
    h = b.Reshape(b.Relu(b.MatMul("x", weight)), [0, 4, 8])
    z = b.ReduceSum(b.Reshape(weight, [24, 4, 8]), [0], keepdims=0)
    return b.lin(b.Reshape(b.Mul(h, z), [0, 32]), 32, 5)


@contractions(cut=[24])
def one_matrix_used_twice(b: Build) -> str:
    """Two layers with one weight: their outputs are one group, shared vectors tie nothing."""
    weight = b.w(16, 24)
    h, g = b.Relu(b.MatMul("x", weight)), b.Tanh(b.MatMul(b.Neg("x"), weight))
    return b.Add(b.lin(h, 24, 5), b.lin(g, 24, 5))


@contractions(cut=[6, 10])
def outer_product(b: Build) -> str:
    p, q = b.lin("x", 16, 6), b.lin("x", 16, 10)
    o = b.Mul(b.Unsqueeze(p, [2]), b.Unsqueeze(q, [1]))
    return b.lin(b.Relu(b.Reshape(o, [0, 60])), 60, 5)


@contractions(cut=[24], stays={16: "interface"})
def skip_connection_to_the_input(b: Build) -> str:
    h = b.lin(b.Relu(b.lin("x", 16, 24)), 24, 16)
    return b.lin(b.Add("x", h), 16, 5)


@contractions(cut=[24, 12, 10])
def residual_stream(b: Build) -> str:
    h = b.lin("x", 16, 24)
    h = b.Add(h, b.lin(b.Relu(b.lin(h, 24, 12)), 12, 24))
    h = b.Add(h, b.lin(b.Relu(b.lin(h, 24, 10)), 10, 24))
    return b.lin(h, 24, 5)


# ---------------------------------------------------------------- Gemm


@contractions(opsets=(9, 11, 18), cut=[24, 12])
def gemm(b: Build) -> str:
    h = b.Relu(b.Gemm("x", b.w(16, 24), b.w(24, scale=0.3)))
    h = b.Relu(b.Gemm(h, b.w(24, 12), b.w(1, 12, scale=0.3), alpha=0.5, beta=2.0))
    return b.Gemm(h, b.w(12, 5), b.w(5))


@contractions(cut=[24, 12])
def gemm_transposed_weights(b: Build) -> str:
    h = b.Relu(b.Gemm("x", b.w(24, 16), b.w(24, scale=0.3), transB=1))
    h = b.Sigmoid(b.Gemm(h, b.w(12, 24), transB=1))
    return b.Gemm(h, b.w(5, 12), b.const(0.5), transB=1)


@contractions(cut=[24, 12], x=("B", 16))
def gemm_transposed_input(b: Build) -> str:
    h = b.Relu(b.lin("x", 16, 24))
    h = b.Gemm(b.Transpose(h, perm=[1, 0]), b.w(24, 12), b.w(12, scale=0.3), transA=1)
    return b.Gemm(b.Sigmoid(h), b.w(5, 12), transB=1)


@contractions(cut=[24, 7], stays={4: "interface"}, x=(4, 16))
def gemm_of_two_weights_sides(b: Build) -> str:
    """The weight on the left; a bias of both axes, one of rows only."""
    h = b.Relu(b.lin("x", 16, 24))  # [4, 24]
    h = b.Gemm(b.w(7, 4), h, b.w(7, 24, scale=0.3))  # [7, 24]
    h = b.Gemm(b.w(7, 4), b.Sigmoid(h), b.w(4, 1), transA=1)
    return b.lin(h, 24, 5)


@contractions(cut=[24, 32], x=("B", "S", 16))
def bilinear_form(b: Build) -> str:
    """x U' V x: contracted over static widths and over the sequence."""
    q, k = b.lin("x", 16, 24), b.lin("x", 16, 32)
    score = b.MatMul(b.MatMul(q, b.w(24, 32)), b.Transpose(k, perm=[0, 2, 1]))
    return b.MatMul(score, b.lin("x", 16, 5))


@contractions(cut=[24, 10], x=("B", "S", 16))
def contraction_over_the_sequence(b: Build) -> str:
    """Linear attention: [B, 24, S] x [B, S, 10]."""
    k, v = b.Add(b.Elu(b.lin("x", 16, 24)), np.float32(1)), b.lin("x", 16, 10)
    q = b.Add(b.Elu(b.lin("x", 16, 24)), np.float32(1))
    return b.lin(b.MatMul(q, b.MatMul(b.Transpose(k, perm=[0, 2, 1]), v)), 10, 5)


@contractions(cut=[4, 6], x=(16,))
def square_result_added_to_its_transpose(b: Build) -> str:
    """[4, 6] x [6, 4] with both 4 tied: the 6 are beside a 4 everywhere, yet not the same 4."""
    h = b.Reshape(b.MatMul("x", b.w(16, 24)), [4, 6])
    g = b.Reshape(b.Sigmoid(b.MatMul("x", b.w(16, 24))), [6, 4])
    y = b.Gemm(h, g)
    y = b.Sigmoid(b.Add(y, b.Transpose(y, perm=[1, 0])))
    return b.MatMul(b.Reshape(y, [16]), b.w(16, 5))


@contractions(cut=[12], x=("B", "S", 6))
def einsum_as_a_dense_layer(b: Build) -> str:
    h = b.Einsum("x", b.w(6, 12), equation="bsi,io->bso")
    return b.Einsum(b.Sigmoid(h), b.w(4, 12), equation="bso, ko -> bsk")


@contractions(x=("B", "S", 6))
def einsum_attention(b: Build) -> str:
    q, k, v = (b.Einsum("x", b.w(6, 3, 4), equation="bsi,ihd->bshd") for _ in range(3))
    scores = b.Softmax(b.Einsum(q, k, equation="bqhd,bkhd->bhqk"), axis=-1)
    mixed = b.Einsum(scores, v, equation="bhqk,bkhd->bqhd")
    return b.Einsum(mixed, b.w(3, 4, 5), equation="bqhd,hdo->bqo")


@contractions(cut=[12, 9], x=("B", "S", 6))
def einsum_with_an_ellipsis(b: Build) -> str:
    h = b.Einsum(b.lin("x", 6, 12), b.w(12, 9), equation="...i,io->...o")
    return b.Einsum(h, b.w(9, 4), equation="...i, ij")


@contractions(cut=[4, (5, 4), (6, 4)])
def einsum_with_an_ellipsis_that_broadcasts(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    h = b.Einsum(h, b.w(4, 6, 5), equation="b...i,...io->b...o")
    return b.lin(b.Reshape(b.Relu(h), [0, 20]), 20, 5)


@contractions(cut=[6])
def einsum_of_diagonals(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 36), [0, 6, 6])
    return b.lin(b.Einsum(h, equation="bii->bi"), 6, 5)


@contractions(cut=[12, 9])
def einsum_of_three_with_an_implicit_result(b: Build) -> str:
    return b.lin(b.Einsum(b.lin("x", 16, 12), b.w(12), b.w(12, 9), equation="bi,i,io"), 9, 5)


@contractions(cut=[4, 6])
def square_einsum_added_to_its_transpose(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    g = b.Reshape(b.Sigmoid(b.lin("x", 16, 24)), [0, 6, 4])
    y = b.Einsum(h, g, equation="bij,bjk->bik")
    y = b.Sigmoid(b.Add(y, b.Transpose(y, perm=[0, 2, 1])))
    return b.lin(b.Reshape(y, [0, 16]), 16, 5)
