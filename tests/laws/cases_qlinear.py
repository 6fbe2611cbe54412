"""Ops on quantised numbers, and weights quantised in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases_quantized import int8, scales
from lawkit import IMAGES, Build, Cases

qlinear = Cases()
MS = "com.microsoft"
POINT = 131
"""Zero points that are not zero show what is masked wrongly."""
ROWS: dict[str, Any] = {"x": ("B", 6)}


def of(b: Build, scale: float = 0.04, point: int = POINT) -> tuple[str, str]:
    """Scale and zero point of an activation."""
    return b.const(scale), b.const(point, np.uint8)


def quantised(b: Build, x: str) -> str:
    return str(b.QuantizeLinear(x, *of(b)))


def floats(b: Build, x: str) -> str:
    return str(b.DequantizeLinear(x, *of(b)))


def weight(b: Build, *shape: int, axis: int | None = None) -> tuple[str, str, str]:
    """An int8 weight with scale and zero point, of every unit of an axis or one."""
    if axis is None:
        return int8(b, *shape), b.const(0.01), b.const(0, np.int8)
    n = shape[axis]
    return int8(b, *shape), scales(b, n), b.const(np.zeros(n), np.int8)


def conv(
    b: Build, x: str, i: int, o: int, k: int = 3, *, group: int = 1, axis: int | None = 0
) -> str:
    operands = (x, *of(b), *weight(b, o, i // group, k, k, axis=axis), *of(b))
    bias = b.const(b.rng.integers(-500, 500, o), np.int32)
    return str(b.QLinearConv(*operands, bias, group=group, pads=[k // 2] * 4))


@qlinear(cut=[8, 8], **IMAGES)
def convolutions(b: Build) -> str:
    h = conv(b, quantised(b, "x"), 3, 8)
    h = conv(b, h, 8, 8, axis=None)
    return floats(b, conv(b, h, 8, 4, 1))


@qlinear(cut=[8], **IMAGES)
def depthwise_and_residual_convolutions(b: Build) -> str:
    h = conv(b, quantised(b, "x"), 3, 8)
    d = conv(b, h, 8, 8, group=8)
    h = b.QLinearAdd(h, *of(b), d, *of(b), *of(b), domain=MS)
    h = b.QLinearMul(h, *of(b), d, *of(b), *of(b), domain=MS)
    return floats(b, conv(b, h, 8, 4, 1))


@qlinear(cut=[5, 8], **IMAGES)
def activations_concatenation_and_pools(b: Build) -> str:
    x = quantised(b, "x")
    one = b.QLinearSigmoid(conv(b, x, 3, 8), *of(b), *of(b), domain=MS)
    two = b.QLinearLeakyRelu(conv(b, x, 3, 5), *of(b), *of(b), domain=MS, alpha=0.1)
    h = b.QLinearConcat(*of(b), one, *of(b), two, *of(b), domain=MS, axis=1)
    h = b.QLinearAveragePool(h, *of(b), *of(b), domain=MS, kernel_shape=[2, 2])
    h = b.QLinearGlobalAveragePool(h, *of(b), *of(b), domain=MS)
    return floats(b, conv(b, h, 13, 4, 1))


@qlinear(cut=[10, 12], **ROWS)
def dense_layers(b: Build) -> str:
    h = b.QLinearMatMul(quantised(b, "x"), *of(b), *weight(b, 6, 12, axis=1), *of(b))
    bias = b.const(b.rng.integers(-500, 500, 10), np.int32)
    operands = (h, *of(b), *weight(b, 10, 12, axis=0), bias, *of(b))
    h = b.QGemm(*operands, domain=MS, transB=1)
    return b.QGemm(h, *of(b), *weight(b, 10, 4), domain=MS)


@qlinear(cut=[8], **IMAGES)
def a_sum_ties_both_sides(b: Build) -> str:
    x = quantised(b, "x")
    h = b.QLinearAdd(conv(b, x, 3, 8), *of(b), conv(b, x, 3, 8), *of(b), *of(b), domain=MS)
    return floats(b, conv(b, h, 8, 4, 1))


def in_a_grid(b: Build, *shape: int) -> str:
    """Units of a dense layer as axes of their own, quantised."""
    return quantised(b, b.Reshape(b.lin("x", 6, int(np.prod(shape))), [0, *shape]))


def dense(b: Build, q: str, size: int) -> str:
    return b.lin(b.Reshape(floats(b, q), [-1, size]), size, 4)


@qlinear(cut=[6], stays={5: "normalised over"}, **ROWS)
def a_softmax_over_one_axis_of_units(b: Build) -> str:
    h = b.QLinearSoftmax(in_a_grid(b, 5, 6), *of(b), *of(b), domain=MS, axis=1, opset=13)
    return dense(b, h, 30)


@qlinear(cut=[(4, 6), (5, 6), 6], **ROWS)
def a_concatenation_beside_units(b: Build) -> str:
    one, two = in_a_grid(b, 4, 6), in_a_grid(b, 5, 6)
    h = b.QLinearConcat(*of(b), one, *of(b), two, *of(b), domain=MS, axis=1)
    return dense(b, h, 54)


@qlinear(cut=[6], stays={3: "spatial axis", 5: "spatial axis"}, **ROWS)
def a_pool_over_units(b: Build) -> str:
    h = in_a_grid(b, 6, 3, 5)
    h = b.QLinearAveragePool(h, *of(b), *of(b), domain=MS, kernel_shape=[1, 1])
    return dense(b, h, 90)


@qlinear(cut=[6], stays={3: "spatial axis", 5: "spatial axis"}, **ROWS)
def a_pool_over_units_and_themselves(b: Build) -> str:
    """The positions are those of before, but mixed: channels are kept alike in all."""
    h = in_a_grid(b, 3, 5, 6)
    window = {"kernel_shape": [3, 3], "pads": [1] * 4, "channels_last": 1}
    pooled = b.QLinearAveragePool(h, *of(b), *of(b), domain=MS, **window)
    return dense(b, b.QLinearAdd(h, *of(b), pooled, *of(b), *of(b), domain=MS), 90)


@qlinear(cut=[12], x=("B", "S", 6))
def a_choice_and_a_softmax_over_tokens(b: Build) -> str:
    h = b.QLinearMatMul(quantised(b, "x"), *of(b), *weight(b, 6, 12), *of(b))
    soft = b.QLinearSoftmax(h, *of(b), *of(b), domain=MS, axis=1, opset=13)
    test = b.Greater(floats(b, h), np.float32(0.1))
    h = b.QLinearWhere(test, h, *of(b), soft, *of(b), *of(b), domain=MS)
    return floats(b, b.QLinearMatMul(h, *of(b), *weight(b, 12, 4), *of(b)))


@qlinear(cut=[9, 12], **ROWS)
def products_of_what_is_quantised_at_run_time(b: Build) -> str:
    w, scale, point = weight(b, 6, 12, axis=1)
    h = b.DynamicQuantizeMatMul("x", w, scale, point, b.w(12), domain=MS)
    q, s, z = b.DynamicQuantizeLinear(h, n=3)
    w, scale, point = weight(b, 12, 9, axis=1)
    h = b.MatMulIntegerToFloat(q, w, s, scale, z, point, b.w(9), domain=MS)
    return b.lin(h, 9, 4)


def nbits(
    b: Build, x: str, k: int, n: int, *, bits: int = 4, flat: bool = True, points: str = ""
) -> str:
    """A layer of weights in blocks of 16."""
    blocks = -(-k // 16)
    packed = b.const(b.rng.integers(0, 256, (n, blocks, 2 * bits)), np.uint8)
    scale = b.const(b.rng.uniform(0.01, 0.05, (n * blocks,) if flat else (n, blocks)), np.float32)
    zero = None
    if points == "packed":
        width = -(-blocks * bits // 8)
        zero = b.const(b.rng.integers(0, 256, n * width if flat else (n, width)), np.uint8)
    return str(b.MatMulNBits(x, packed, scale, zero, domain=MS, K=k, N=n, bits=bits, block_size=16))


@qlinear(cut=[4, 6], x=("B", 16))
def blocks_of_weights(b: Build) -> str:
    h = b.Relu(nbits(b, b.Relu(nbits(b, "x", 16, 64)), 64, 96, flat=False))
    return nbits(b, h, 96, 8)


@qlinear(cut=[2], stays={16: "block of a quantised weight"}, x=("B", 16))
def packed_zero_points_of_blocks(b: Build) -> str:
    return nbits(b, nbits(b, "x", 16, 64, points="packed"), 64, 8, points="packed")


@qlinear(cut=[], stays={3: "uneven", 2: "uneven"}, x=("B", 16))
def an_uneven_number_of_packed_zero_points(b: Build) -> str:
    return nbits(b, nbits(b, "x", 16, 48), 48, 8, points="packed", flat=False)


@qlinear(cut=[4], x=("B", 16))
def bytes_of_weights(b: Build) -> str:
    return nbits(b, nbits(b, "x", 16, 64, bits=8), 64, 8, bits=8, points="packed", flat=False)


@qlinear(cut=[], stays={40: "padded", 3: "padded"}, x=("B", 16))
def blocks_that_do_not_fill_the_last_one(b: Build) -> str:
    return nbits(b, nbits(b, "x", 16, 40), 40, 8)


@qlinear(cut=[8], **IMAGES)
def convolutions_with_channels_last(b: Build) -> str:
    h = b.Transpose(quantised(b, "x"), perm=[0, 2, 3, 1])
    for i, o in ((3, 8), (8, 4)):
        operands = (h, *of(b), *weight(b, o, i, 3, 3, axis=0), *of(b))
        h = b.QLinearConv(*operands, domain=MS, channels_last=1, pads=[1] * 4)
    return floats(b, h)


def bnb4(b: Build, x: str, k: int, n: int, kind: int = 1) -> str:
    packed = b.const(b.rng.integers(0, 256, n * k // 2), np.uint8)
    scale = b.const(b.rng.uniform(0.05, 0.1, -(-n * k // 16)), np.float32)
    numbers = {"K": k, "N": n, "block_size": 16, "quant_type": kind}
    return str(b.MatMulBnb4(x, packed, scale, domain=MS, **numbers))


@qlinear(cut=[4, 6], x=("B", 16))
def tables_of_four_bits(b: Build) -> str:
    h = b.Relu(bnb4(b, b.Relu(bnb4(b, "x", 16, 64)), 64, 96, 0))
    return bnb4(b, h, 96, 8)


@qlinear(cut=[], stays={24: "padded"}, x=("B", 16))
def tables_whose_blocks_cross_rows(b: Build) -> str:
    return bnb4(b, bnb4(b, "x", 16, 24), 24, 8)


def turned(b: Build, x: str) -> str:
    return str(b.Transpose(x, perm=[0, 2, 1]))


@qlinear(cut=[10], x=("B", 16, 6))
def units_beside_blocks(b: Build) -> str:
    return b.lin(turned(b, nbits(b, turned(b, b.lin("x", 6, 10)), 16, 8)), 10, 4)


@qlinear(cut=[10], x=("B", 16, 6))
def units_beside_tables_of_four_bits(b: Build) -> str:
    return b.lin(turned(b, bnb4(b, turned(b, b.lin("x", 6, 10)), 16, 8)), 10, 4)


def looked_up(b: Build, width: int, x: str = "x", *, bits: int = 8, points: int = 0) -> str:
    """Rows of a table of bytes in blocks of 16."""
    blocks, ids = -(-width // 16), b.ArgMax(x, axis=-1, keepdims=0)
    table = b.const(b.rng.integers(0, 256, (6, width * bits // 8)), np.uint8)
    scale = b.const(b.rng.uniform(0.01, 0.02, (6, blocks)), np.float32)
    zero = b.const(b.rng.integers(0, 256, (6, points)), np.uint8) if points else None
    numbers = {"bits": bits, "block_size": 16, "gather_axis": 0, "quantize_axis": 1}
    return str(b.GatherBlockQuantized(table, ids, scale, zero, domain=MS, **numbers))


@qlinear(cut=[4], x=("B", "S", 6))
def a_table_of_bytes(b: Build) -> str:
    return b.lin(looked_up(b, 64, points=4), 64, 4)


@qlinear(cut=[2], x=("B", "S", 6))
def a_table_of_four_bits(b: Build) -> str:
    return b.lin(looked_up(b, 64, bits=4, points=2), 64, 4)


@qlinear(cut=[10], x=("B", 6, 6))
def units_that_look_up(b: Build) -> str:
    return b.lin(turned(b, looked_up(b, 64, turned(b, b.lin("x", 6, 10)))), 10, 4)


@qlinear(cut=[4, 10], x=("B", 16))
def units_beside_blocks_and_themselves(b: Build) -> str:
    """A product mixes the blocks: units beside them are kept alike in all."""
    h = b.Reshape(b.lin("x", 16, 640), [0, 10, 64])
    return b.lin(b.Reshape(b.Add(h, nbits(b, h, 64, 64)), [0, 640]), 640, 4)


@qlinear(cut=[4, 10], x=("B", 16))
def units_beside_tables_of_four_bits_and_themselves(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 640), [0, 10, 64])
    return b.lin(b.Reshape(b.Add(h, bnb4(b, h, 64, 64)), [0, 640]), 640, 4)


@qlinear(x=("B", 6, 6))
def a_table_of_bytes_that_is_met_again(b: Build) -> str:
    """Rows are looked up, so what is beside them is kept alike in all."""
    h = b.Reshape(looked_up(b, 64), [0, 6, 4, 16])
    scale = next(node.input[2] for node in b.nodes if node.op_type == "GatherBlockQuantized")
    h = b.Mul(h, b.Unsqueeze(scale, [2]))
    return b.lin(b.Reshape(h, [0, 384]), 384, 4)
