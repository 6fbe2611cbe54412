"""Quantised forms: scales and zero points per channel or for all."""

from __future__ import annotations

import numpy as np
from lawkit import IMAGES, Build, Cases

quantized = Cases()


def int8(b: Build, *shape: int) -> str:
    return b.const(b.rng.integers(-90, 90, shape), np.int8)


def scales(b: Build, n: int) -> str:
    return b.const(b.rng.uniform(0.005, 0.02, n), np.float32)


def weight(b: Build, *shape: int, axis: int) -> str:
    n = shape[axis]
    return str(
        b.DequantizeLinear(int8(b, *shape), scales(b, n), b.const(np.zeros(n), np.int8), axis=axis)
    )


def rounded(b: Build, x: str) -> str:
    scale, zero = b.const(0.03), b.const(7, np.int8)
    return str(b.DequantizeLinear(b.QuantizeLinear(x, scale, zero), scale, zero))


@quantized(opsets=(13, 19), cut=[8], **IMAGES)
def convolutions_between_quantisers(b: Build) -> str:
    h = b.Conv("x", weight(b, 8, 3, 3, 3, axis=0), b.w(8), pads=[1] * 4)
    return b.Conv(rounded(b, b.Relu(h)), weight(b, 4, 8, 1, 1, axis=0))


@quantized(cut=[12], x=("B", "S", 6))
def dense_layers_between_quantisers(b: Build) -> str:
    h = b.Relu(b.Add(b.MatMul("x", weight(b, 6, 12, axis=1)), b.w(12)))
    return b.MatMul(h, weight(b, 12, 4, axis=1))


@quantized(cut=[12], x=("B", "S", 6))
def dynamic(b: Build) -> str:
    """The range of a dynamic quantiser holds 0, so silent units do not move it."""
    h = b.Relu(b.lin("x", 6, 12))
    q, scale, zero = b.DynamicQuantizeLinear(h, n=3)
    product = b.MatMulInteger(q, int8(b, 12, 4), zero, b.const(np.zeros(4), np.int8))
    return b.Mul(b.Cast(product, to=1), b.Mul(scale, scales(b, 4)))


@quantized(cut=[12, 10], x=("B", "S", 6))
def columns_of_an_integer_product(b: Build) -> str:
    q, scale, zero = b.DynamicQuantizeLinear(b.Relu(b.lin("x", 6, 12)), n=3)
    product = b.MatMulInteger(q, int8(b, 12, 10), zero, b.const(np.zeros(10), np.int8))
    return b.lin(b.Relu(b.Mul(b.Cast(product, to=1), b.Mul(scale, scales(b, 10)))), 10, 4)


@quantized(cut=[12, 10], x=("B", "S", 6))
def a_product_of_wider_integers(b: Build) -> str:
    wide = b.Cast(b.Mul(b.Relu(b.lin("x", 6, 12)), np.float32(100)), to=5)
    weight = b.const(b.rng.integers(-99, 99, (12, 10)), np.int16)
    product = b.Cast(b.MatMulInteger16(wide, weight, domain="com.microsoft"), to=1)
    return b.lin(b.Relu(b.Mul(product, np.float32(1e-4))), 10, 4)


@quantized(cut=[8, 10], **IMAGES)
def an_integer_convolution(b: Build) -> str:
    q, scale, zero = b.DynamicQuantizeLinear(b.Relu(b.conv("x", 3, 8)), n=3)
    product = b.ConvInteger(q, int8(b, 10, 8, 1, 1), zero)
    return b.conv(b.Relu(b.Mul(b.Cast(product, to=1), scale)), 10, 4, 1)


def in_blocks(
    b: Build, rows: int, columns: int, *, axis: int = 0, points: bool = True, size: int = 4
) -> str:
    """A weight with a scale and a zero point for every block."""
    shape = [rows, columns]
    shape[axis] = -(-shape[axis] // size)
    scale = b.const(b.rng.uniform(0.01, 0.02, shape), np.float32)
    zero = b.const(b.rng.integers(-9, 9, shape), np.int8) if points else None
    return str(
        b.DequantizeLinear(int8(b, rows, columns), scale, zero, axis=axis - 2, block_size=size)
    )


@quantized(opsets=(21,), cut=[3, 16], x=("B", "S", 6))
def blocks(b: Build) -> str:
    h = b.MatMul(b.Relu(b.lin("x", 6, 12)), in_blocks(b, 12, 16))
    return b.MatMul(b.Relu(h), in_blocks(b, 16, 4, axis=1, points=False))


@quantized(opsets=(21,), cut=[], stays={10: "padded", 3: "padded"}, x=("B", "S", 6))
def blocks_that_do_not_fill_the_last_one(b: Build) -> str:
    return b.MatMul(b.Relu(b.lin("x", 6, 10)), in_blocks(b, 10, 4))


@quantized(opsets=(21,), cut=[10, 12], x=("B", "S", 6))
def one_block(b: Build) -> str:
    h = b.MatMul(b.Relu(b.lin("x", 6, 10)), in_blocks(b, 10, 12, size=16))
    return b.MatMul(b.Relu(h), in_blocks(b, 12, 4, size=12))


@quantized(opsets=(21,), cut=[3], x=("B", 6))
def activations_in_blocks(b: Build) -> str:
    h = b.Transpose(b.Relu(b.lin("x", 6, 12)), perm=[1, 0])
    scale = b.Expand(b.const(0.03), b.Concat([3], b.Shape("x", start=0, end=1), axis=0))
    point = b.Cast(b.Expand(b.const(7.0), b.Shape(scale)), to=3)
    q = b.QuantizeLinear(h, scale, point, axis=0, block_size=4)
    h = b.DequantizeLinear(q, scale, point, axis=0, block_size=4)
    return b.lin(b.Transpose(h, perm=[1, 0]), 12, 4)


@quantized(cut=[8], **IMAGES)
def the_quantisers_of_the_runtime(b: Build) -> str:
    w = b.DequantizeLinear(
        int8(b, 8, 3, 3, 3),
        scales(b, 8),
        b.const(np.zeros(8), np.int8),
        domain="com.microsoft",
        axis=0,
    )
    h = b.Relu(b.Conv("x", w, pads=[1] * 4))
    scale, point = b.const(0.03), b.const(33000, np.uint16)
    q = b.QuantizeLinear(h, scale, point, domain="com.microsoft")
    return b.conv(b.DequantizeLinear(q, scale, point, domain="com.microsoft"), 8, 4, 1)


def quantised_lstm(b: Build, columns: bool, ways: int = 1) -> str:
    """A recurrent layer of 9 to 10 units with int8 weights, between dense layers."""
    h = b.lin(b.Transpose("x", perm=[1, 0, 2]), 6, 9)
    parts = []
    for _ in range(2):
        shape = (ways, 40) if columns else (ways,)
        parts.append(b.const(b.rng.uniform(0.003, 0.006, shape), np.float32))
        parts.append(b.const(np.zeros(shape), np.int8))
    weights = int8(b, ways, 9, 40), int8(b, ways, 10, 40), b.w(ways, 80)
    operands = (h, *weights, None, None, None, None)
    direction = "forward" if ways == 1 else "bidirectional"
    y, _, _ = b.DynamicQuantizeLSTM(
        *operands, *parts, n=3, domain="com.microsoft", hidden_size=10, direction=direction
    )  # y [S, ways, B, 10]
    h = b.Reshape(b.Transpose(y, perm=[0, 2, 1, 3]), [0, 0, 10 * ways])
    return b.lin(h, 10 * ways, 4)


@quantized(cut=[9, 10], x=("B", "S", 6))
def a_quantised_recurrent_layer(b: Build) -> str:
    return quantised_lstm(b, columns=True)


@quantized(cut=[9], stays={10: "one scale"}, x=("B", "S", 6))
def a_recurrent_layer_with_one_scale(b: Build) -> str:
    return quantised_lstm(b, columns=False)


@quantized(cut=[9, 10], x=("B", "S", 6))
def a_quantised_recurrent_layer_in_both_directions(b: Build) -> str:
    return quantised_lstm(b, columns=True, ways=2)
