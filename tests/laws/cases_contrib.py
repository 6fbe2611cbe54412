"""What the runtime's optimiser leaves in files."""

from __future__ import annotations

from typing import Any

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
