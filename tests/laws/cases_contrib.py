"""What the runtime's optimiser leaves in files."""

from __future__ import annotations

from typing import Any

import numpy as np
from lawkit import IMAGES, Build, Cases

contrib = Cases()
MS = "com.microsoft"
TOKENS: dict[str, Any] = {"x": ("B", "S", 6)}


@contrib(cut=[12], **TOKENS)
def bias_gelu(b: Build) -> str:
    return b.lin(b.BiasGelu(b.MatMul("x", b.w(6, 12)), b.w(12), domain=MS), 12, 4)


@contrib(cut=[12], **TOKENS)
def gelus(b: Build) -> str:
    h = b.FastGelu(b.MatMul("x", b.w(6, 12)), b.w(12), domain=MS)
    return b.lin(b.Gelu(b.QuickGelu(h, alpha=1.7, domain=MS), domain=MS), 12, 4)


@contrib(cut=[12], stays={6: "interface"}, **TOKENS)
def skip_norms(b: Build) -> str:
    h = b.lin(b.Relu(b.lin("x", 6, 12)), 12, 6)
    h = b.SkipLayerNormalization("x", h, b.w(6), b.w(6), b.w(6), domain=MS, epsilon=1e-5)
    return b.SkipSimplifiedLayerNormalization("x", h, b.w(6), domain=MS, epsilon=1e-5)


@contrib(cut=[4], stays={6: "normalised over"}, x=("B", 16))
def skip_norm_of_static_rows(b: Build) -> str:
    """[B, 4, 6]: rows may go, all dims of a row alike; the sum of the streams is read as well."""
    h, g = (b.Reshape(b.lin("x", 16, 24), [0, 4, 6]) for _ in range(2))
    y, _, _, s = b.SkipLayerNormalization(h, g, b.w(6), b.w(6), b.w(6), n=4, domain=MS)
    return b.lin(b.Reshape(b.Add(b.Sigmoid(y), s), [0, 24]), 24, 5)


@contrib(cut=[4], stays={6: "normalised over"}, x=("B", 16))
def skip_norm_whose_sum_alone_is_read_beside_it(b: Build) -> str:
    h, g = (b.Reshape(b.lin("x", 16, 24), [0, 4, 6]) for _ in range(2))
    y, _, _, s = b.SkipSimplifiedLayerNormalization(h, g, b.w(6), n=4, domain=MS)
    out = b.lin(b.Reshape(s, [0, 24]), 24, 5)
    return b.Add(out, b.lin(b.Reshape(y, [0, 24]), 24, 5))


@contrib(cut=[12, 9], x=("B", 6))
def fused_gemm(b: Build) -> str:
    h = b.FusedGemm("x", b.w(6, 12), b.w(12), domain=MS, activation="Relu")
    h = b.FusedGemm(h, b.w(9, 12), b.w(9), domain=MS, transB=1, activation="Sigmoid")
    return b.Gemm(h, b.w(9, 4))


@contrib(cut=[12, 9], **TOKENS)
def fused_matmul(b: Build) -> str:
    h = b.FusedMatMul("x", b.w(12, 6), domain=MS, transB=1, alpha=0.5)
    return b.FusedMatMul(b.Sigmoid(b.FusedMatMul(h, b.w(12, 9), domain=MS)), b.w(9, 4), domain=MS)


@contrib(cut=[5, (9, 5), (12, 5)], x=("B", "S", 6))
def fused_matmul_over_batches(b: Build) -> str:
    """The first axis is that of rows or, transposed too, of columns; the batch is in the middle."""
    q = b.Transpose(b.Reshape(b.MatMul("x", b.w(6, 60)), [0, 0, 5, 12]), perm=[1, 0, 2, 3])
    k = b.Transpose(b.Reshape(b.MatMul("x", b.w(6, 45)), [0, 0, 5, 9]), perm=[1, 0, 2, 3])
    pair = b.FusedMatMul(q, k, domain=MS, transBatchA=1, transA=1, transBatchB=1)  # [B, 5, 12, 9]
    back = b.FusedMatMul(q, pair, domain=MS, transBatchA=1)  # [B, 5, S, 9]
    back = b.FusedMatMul(back, k, domain=MS, transBatchB=1, transB=1)  # [B, 5, S, S]
    back = b.Transpose(b.MatMul(back, b.Transpose(k, perm=[1, 2, 0, 3])), perm=[0, 2, 1, 3])
    return b.lin(b.Reshape(back, [0, 0, 45]), 45, 4)


def ids(b: Build, x: str, count: int) -> str:
    """Numbers below count, from the data."""
    return str(b.Cast(b.Min(b.Abs(x), np.float32(count - 1)), to=6))


TABLES = {8: "normalised over", 9: "indexed by data", 20: "indexed by data"}


def embedded(b: Build, *rows: str, n: int) -> Any:
    """Words, positions and segments; the sum of the three comes last."""
    first, other, *optional = rows
    scale, shift = (b.ReduceMax(b.lin("x", 6, 8), [0], keepdims=0) for _ in range(2))
    tables = b.w(9, 8), b.w(20, 8), b.w(2, 8), scale, shift
    return b.EmbedLayerNormalization(
        ids(b, first, 9), ids(b, other, 2), *tables, *optional, n=n, domain=MS,
    )  # fmt: skip


@contrib(cut=[5], stays=TABLES, x=("S", 6))
def embedding_norm_of_samples(b: Build) -> str:
    """Samples go alone; positions are given; it is counted what the mask holds."""
    rows = [b.Transpose(b.lin("x", 6, 5), perm=[1, 0]) for _ in range(4)]
    y, count, s = embedded(b, *rows[:2], ids(b, rows[2], 2), ids(b, rows[3], 20), n=3)
    y, s = (b.Reshape(b.Transpose(t, perm=[1, 0, 2]), [0, 40]) for t in (y, s))
    read = b.Add(b.lin(y, 40, 4), b.lin(s, 40, 4))
    return b.Add(read, b.MatMul(b.Cast(count, to=1), b.w(5, 4)))


@contrib(cut=[], stays=TABLES | {7: "order matters"}, x=("B", 6))
def embedding_norm_of_steps(b: Build) -> str:
    y, _ = embedded(b, b.lin("x", 6, 7), b.lin("x", 6, 7), n=2)
    return b.lin(b.Reshape(y, [0, 56]), 56, 4)


@contrib(cut=[5], stays={8: "normalised over"}, x=("S", 6))
def embedding_norm_of_integers(b: Build) -> str:
    first, other = (b.Transpose(b.lin("x", 6, 5), perm=[1, 0]) for _ in range(2))
    shapes = (9, 8), (20, 8), (2, 8), (8,), (8,)
    tables = [b.const(b.rng.integers(0, 255, shape), np.uint8) for shape in shapes]
    spread, zero = [np.float32(0.01)] * 5, [b.const(128, np.uint8) for _ in range(5)]
    y, _ = b.QEmbedLayerNormalization(
        ids(b, first, 9), ids(b, other, 2), *tables, None, *spread, *zero, n=2, domain=MS,
    )  # fmt: skip
    return b.lin(b.Reshape(b.Transpose(y, perm=[1, 0, 2]), [0, 40]), 40, 4)


@contrib(cut=[12, (10, 3)], x=("B", "S", 6))
def experts(b: Build) -> str:
    h = b.lin("x", 6, 12)
    tokens = b.Reshape(h, [-1, 12])
    chosen = b.Reshape(b.lin("x", 6, 3), [-1, 3])
    weights = b.w(3, 10, 12), b.w(3, 10), b.w(3, 12, 10), b.w(3, 12)
    y = b.MoE(tokens, chosen, *weights, domain=MS, k=2, activation_type="gelu")
    return b.lin(y, 12, 4)


@contrib(cut=[12, (10, 3)], x=("B", "S", 6))
def gated_experts(b: Build) -> str:
    weights = b.w(3, 20, 12), None, b.w(3, 12, 10), None
    y = b.MoE(
        b.lin("x", 6, 12), b.Reshape(b.lin("x", 6, 3), [-1, 3]), *weights, domain=MS, k=2,
        activation_type="swiglu", swiglu_fusion=1,
    )  # fmt: skip
    return b.lin(y, 12, 4)


def integers(b: Build, *shape: int) -> str:
    return b.const(b.rng.integers(0, 255, shape), np.uint8)


@contrib(cut=[3, (5, 3)], x=("B", "S", 6))
def experts_of_bytes_in_pairs(b: Build) -> str:
    """4 bits: 6 and 10 numbers are 3 and 5 bytes; a bias on both sides."""
    weights = [integers(b, 3, 10, 3), b.positive(3, 10), b.w(3, 10), integers(b, 3, 6, 5)]
    y = b.QMoE(
        b.lin("x", 6, 6), b.Reshape(b.lin("x", 6, 3), [-1, 3]), *weights, b.positive(3, 6),
        b.w(3, 6), domain=MS, k=2, activation_type="relu",
    )  # fmt: skip
    return b.lin(b.Mul(y, np.float32(0.01)), 6, 4)


@contrib(cut=[3, (4, 5)], x=("B", "S", 6))
def gated_experts_of_blocks(b: Build) -> str:
    """8 bits and a scale per block: 48 and 64 numbers are 3 and 4 blocks."""
    weights = [integers(b, 5, 128, 48), b.positive(5, 128, 3), None, integers(b, 5, 48, 64)]
    y = b.QMoE(
        b.lin("x", 6, 48), b.Reshape(b.lin("x", 6, 5), [-1, 5]), *weights, b.positive(5, 48, 4),
        domain=MS, k=2, activation_type="swiglu", swiglu_fusion=1, expert_weight_bits=8,
        block_size=16,
    )  # fmt: skip
    return b.lin(b.Mul(y, np.float32(0.01)), 48, 4)


@contrib(cut=[8], **IMAGES)
def fused_conv(b: Build) -> str:
    one = b.FusedConv("x", b.w(8, 3, 3, 3), b.w(8), domain=MS, pads=[1] * 4, activation="Relu")
    two = b.FusedConv(
        "x", b.w(8, 3, 1, 1), b.w(8), one, domain=MS, activation="Relu",
    )  # fmt: skip
    return b.conv(two, 8, 4, 1)


@contrib(cut=[4, (6, 4), (9, 4)], x=("B", 16))
def transposed_batch(b: Build) -> str:
    """[m, batch, k]: heads stand between rows and dims."""
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    y = b.FusedMatMul(h, b.w(6, 4, 9), domain=MS, transBatchA=1, transBatchB=1)  # [4, B, 9]
    return b.lin(b.Reshape(b.Transpose(b.Relu(y), perm=[1, 0, 2]), [-1, 36]), 36, 5)


@contrib(cut=[12], x=("B", 6))
def old_name_of_fused_matmul(b: Build) -> str:
    return b.lin(b.TransposeMatMul("x", b.w(12, 6), domain=MS, transB=1), 12, 4)


@contrib(cut=[12, 7], x=("B", 6))
def distances_to_learned_points(b: Build) -> str:
    h = b.CDist(b.lin("x", 6, 12), b.w(7, 12), metric="euclidean", domain=MS)
    return b.lin(h, 7, 4)


@contrib(cut=[4, (6, 4)], x=("B", 16))
def moved_by_ops_of_the_runtime(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    h = b.Squeeze(b.ExpandDims(h, b.const(-1, "int32"), domain=MS), [3])
    return b.lin(b.Reshape(h, [0, 24]), 24, 4)


@contrib(cut=[12, 2], x=("B", 6))
def padded_and_picked_by_ops_of_the_runtime(b: Build) -> str:
    h = b.Pad(b.lin("x", 6, 12), b.const([0, 1, 0, 2]), domain=MS)
    h = b.GatherND(h, b.const([[1], [0]]), domain=MS)
    return b.lin(h, 15, 4)


@contrib(cut=[4], stays={3: "triangle"}, x=("B", 16))
def triangles_of_the_runtime(b: Build) -> str:
    h = b.Trilu(b.Reshape(b.lin("x", 16, 36), [0, 4, 3, 3]), domain=MS)
    return b.lin(b.Reshape(h, [0, 36]), 36, 5)


@contrib(cut=[9], stays={3: "spatial axis", 2: "spatial axis"}, x=("S", 6))
def causal_conv(b: Build) -> str:
    """Channels with a state; the number of samples is run-time, that of steps is not."""
    x, past = (b.Reshape(b.lin("x", 6, 9 * n), [0, 9, n]) for n in (5, 2))
    y, state = b.CausalConvWithState(
        x, b.w(9, 1, 3), b.w(9), past, n=2, domain=MS, activation="silu",
    )  # fmt: skip
    out = b.lin(b.Reshape(y, [0, 45]), 45, 4)
    return b.Add(out, b.lin(b.Reshape(state, [0, 18]), 18, 4))


@contrib(cut=[9, (4, 9)], stays={3: "spatial axis"}, x=("S", 6))
def causal_conv_of_samples(b: Build) -> str:
    """Units of the rows of x as samples, of which a filter may see others for each channel."""
    rows = [b.Reshape(b.lin("x", 6, 36 * n), [0, 4, 9, n]) for n in (5, 2)]
    x, past = (b.ReduceMax(row, [0], keepdims=0) for row in rows)
    y, state = b.CausalConvWithState(x, b.w(9, 1, 3), None, past, n=2, domain=MS)
    both = b.Concat(b.Reshape(y, [1, -1]), b.Reshape(state, [1, -1]), axis=1)
    return b.Add(b.lin(both, 252, 4), b.lin("x", 6, 4))
