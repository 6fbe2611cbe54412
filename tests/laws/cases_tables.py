"""Tables that several layers read: each layer keeps units of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from lawkit import TOKENS, Build, Cases

tables = Cases()
MATRIX = np.random.default_rng(5).standard_normal((32, 8)).astype(np.float32)


def waves(b: Build, size: int) -> str:
    """[S, size]: sines of positions times frequencies."""
    count = b.Gather(b.Shape("x"), [1])
    places = b.Range(np.int64(0), b.Squeeze(count, [0]), np.int64(1))
    rows = b.Unsqueeze(b.Cast(places, to=1), [1])
    return str(b.Sin(b.MatMul(rows, b.positive(1, size))))


def residual(b: Build, x: str, table: Any, width: int, op: str = "Mul") -> str:
    """x + layer(x), with a table spread over the layer's units."""
    return str(b.Add(x, b.lin(b.Sigmoid(getattr(b, op)(b.lin(x, 16, width), table)), width, 16)))


@tables(cut=[16, 8, 8], **TOKENS)
def waves_of_two_layers(b: Build) -> str:
    table = waves(b, 8)
    h = residual(b, residual(b, b.lin("x", 16, 16), table, 8), table, 8, "Add")
    return b.lin(h, 16, 5)


@tables(cut=[16, 8], **TOKENS)
def waves_of_one_layer(b: Build) -> str:
    """Read twice, by what is tied anyway: the frequencies are cut."""
    table, x = waves(b, 8), b.lin("x", 16, 16)
    h = b.Mul(b.lin(x, 16, 8), b.Unsqueeze(table, [0]))
    k = b.Mul(b.lin(x, 16, 8), b.Unsqueeze(b.Cos(table), [0]))
    return b.lin(b.Add(x, b.lin(b.Add(h, k), 8, 16)), 16, 5)


@tables(cut=[16, 8, 8], **TOKENS)
def waves_of_one_layer_and_positions_of_another(b: Build) -> str:
    """[S, 1] ties nothing: the waves are one layer's, their frequencies are cut."""
    column = waves(b, 1)
    table = b.Sin(b.Mul(column, b.positive(1, 8)))
    x = b.lin("x", 16, 16)
    h = b.Add(b.Mul(b.lin(x, 16, 8), table), b.Mul(b.lin(x, 16, 8), table))
    return b.lin(residual(b, b.Add(x, b.lin(h, 8, 16)), column, 8), 16, 5)


@tables(cut=[16], stays={8: "interface"}, x=("B", "S", 16), y=("B", "S", 8))
def a_float_input_is_no_table(b: Build) -> str:
    h = residual(b, residual(b, b.lin("x", 16, 16), "y", 8), "y", 8)
    return b.lin(h, 16, 5)


@tables(cut=[16], stays={8: "interface"}, **TOKENS)
def a_table_of_layers_that_stay_anyway(b: Build) -> tuple[str, str, str]:
    table, h = waves(b, 8), b.lin("x", 16, 16)
    first, second = (b.Mul(b.lin(h, 16, 8), table) for _ in range(2))
    return b.lin(h, 16, 5), first, second


@tables(cut=[16, 8, 8, 8], **TOKENS)
def tables_of_one_scale(b: Build) -> str:
    """A number ties no tables: a weight product with one of them leaves the other free."""
    scale = b.Sqrt(b.Cast(b.Size("x"), to=1))
    table, other = (b.Div(waves(b, 8), scale) for _ in range(2))
    h = residual(b, residual(b, b.lin("x", 16, 16), table, 8), table, 8)
    return b.Add(b.lin(h, 16, 5), b.lin(other, 8, 5))


@tables(cut=[16, 8, 8], x=("B", 32, 16))
def a_constant_of_two_layers(b: Build) -> str:
    table = b.const(MATRIX)
    h = residual(b, residual(b, b.lin("x", 16, 16), table, 8), table, 8)
    return b.lin(h, 16, 5)


def apart(b: Build) -> str:
    """[S, S]: distances of positions."""
    count = b.Squeeze(b.Gather(b.Shape("x"), [1]), [0])
    places = b.Range(np.int64(0), count, np.int64(1))
    return str(b.Abs(b.Sub(b.Unsqueeze(places, [0]), b.Unsqueeze(places, [1]))))


def distances(b: Build, places: str, first: int = 0) -> str:
    """[H, S, S]: a bias per head, of a table of distances."""
    return str(b.Transpose(b.Gather(MATRIX[:, first : first + 4], places), perm=[2, 0, 1]))


def attention(b: Build, x: str, bias: str) -> str:
    q, k, v = (b.heads(b.lin(x, 16, 24), 4, 6) for _ in range(3))
    score = b.Add(b.MatMul(q, b.Transpose(k, perm=[0, 1, 3, 2])), bias)
    mixed = b.Transpose(b.MatMul(b.Softmax(score, axis=-1), v), perm=[0, 2, 1, 3])
    return str(b.Add(x, b.lin(b.Reshape(mixed, [0, -1, 24]), 24, 16)))


@tables(cut=[16, 4, (6, 4), (6, 4), 4, (6, 4), (6, 4)], **TOKENS)
def biases_of_distances(b: Build) -> str:
    bias = distances(b, apart(b))
    h = attention(b, attention(b, b.lin("x", 16, 16), bias), bias)
    return b.lin(h, 16, 5)


@tables(cut=[16, 4, (6, 4), (6, 4), 4, (6, 4), (6, 4), 4], **TOKENS)
def biases_of_the_same_distances(b: Build) -> str:
    """Places tie no tables: a weight product with one of them leaves the other free."""
    places = apart(b)
    bias, other = distances(b, places), distances(b, places, 4)
    h = attention(b, attention(b, b.lin("x", 16, 16), bias), bias)
    means = b.ReduceMax(b.Transpose(other, perm=[1, 2, 0]), [1], keepdims=0)
    return b.Add(b.lin(h, 16, 5), b.lin(means, 4, 5))


@tables(cut=[16, 4, (6, 4), (6, 4), 4, (6, 4), (6, 4)], **TOKENS)
def biases_with_batch_and_heads_in_one_axis(b: Build) -> str:
    """[B x H, 1, S]: the heads are a factor of an axis of unknown size."""
    size = b.Gather(b.Shape("x"), [0])
    slopes = b.Expand(b.const(MATRIX[:4, 0].reshape(1, 4, 1, 1)), b.Concat(size, [4, 1, 1], axis=0))
    rows = b.Mul(slopes, b.Squeeze(waves(b, 1), [1]))
    bias = b.Reshape(rows, b.Concat([-1, 1], b.Gather(b.Shape("x"), [1]), axis=0))

    def layer(x: str) -> str:
        q, k, v = (b.heads(b.lin(x, 16, 24), 4, 6) for _ in range(3))
        q, k, v = (b.Reshape(t, b.Concat([-1], b.Gather(b.Shape("x"), [1]), [6], axis=0))
                   for t in (q, k, v))  # fmt: skip
        score = b.Softmax(b.Add(b.MatMul(q, b.Transpose(k, perm=[0, 2, 1])), bias), axis=-1)
        parted = b.Reshape(b.MatMul(score, v), b.Concat([-1, 4], b.Gather(b.Shape("x"), [1]), [6],
                                                        axis=0))  # fmt: skip
        return str(b.Add(x, b.lin(b.Reshape(b.Transpose(parted, perm=[0, 2, 1, 3]), [0, -1, 24]),
                                  24, 16)))  # fmt: skip

    return b.lin(layer(layer(b.lin("x", 16, 16))), 16, 5)


@tables(cut=[16, 8], **TOKENS)
def a_table_that_something_else_reads(b: Build) -> str:
    """A weight product with the table ties all of its uses."""
    table = waves(b, 8)
    h = residual(b, residual(b, b.lin("x", 16, 16), table, 8), table, 8)
    return b.Add(b.lin(h, 16, 5), b.lin(table, 8, 5))


@tables(cut=[16, 8, 16], **TOKENS)
def uses_of_other_widths(b: Build) -> str:
    """The second layer reads the table and its negative, side by side."""
    table = waves(b, 8)
    h = residual(b, b.lin("x", 16, 16), table, 8)
    h = residual(b, h, b.Concat(table, b.Neg(table), axis=1), 16)
    return b.lin(h, 16, 5)


@tables(cut=[16, 8, 8], **TOKENS)
def truth_values_of_two_layers(b: Build) -> str:
    flags, h = b.Greater(waves(b, 8), np.float32(0.5)), b.lin("x", 16, 16)
    for low in (0.25, -0.5):
        h = b.Add(h, b.lin(b.Where(flags, b.lin(h, 16, 8), np.float32(low)), 8, 16))
    return b.lin(h, 16, 5)


@tables(cut=[16, 8, 8], x=("B", 32, 16))
def a_table_of_one_layer_and_another_table(b: Build) -> str:
    """A constant and its sines: to read both is to read one family of tables."""
    table = b.const(MATRIX)
    wave = b.Mul(table, b.Unsqueeze(b.Squeeze(waves(b, 1), [1]), [1]))
    h = residual(b, residual(b, b.lin("x", 16, 16), table, 8), wave, 8)
    return b.lin(h, 16, 5)


@tables(cut=[16, 4, 6, (6, 4), 4, 6, (6, 4)], **TOKENS)
def a_table_of_heads_and_dims(b: Build) -> str:
    """One list of positions per axis: its dims are not chosen per head."""
    table = b.const(MATRIX[:4, None, :6])

    def layer(x: str) -> str:
        q, k, v = (b.heads(b.lin(x, 16, 24), 4, 6) for _ in range(3))
        return str(b.Add(x, b.lin(b.attend(b.Mul(q, table), k, v, 4, 6), 24, 16)))

    return b.lin(layer(layer(b.lin("x", 16, 16))), 16, 5)


@tables(cut=[16, 8], **TOKENS)
def a_table_that_a_body_reads(b: Build) -> str:
    table = waves(b, 8)
    h = residual(b, residual(b, b.lin("x", 16, 16), table, 8), table, 8)
    inner, narrow = b.lin(h, 16, 8), b.Greater(b.ReduceSum("x", keepdims=0), np.float32(0))
    then, other = (b.body(lambda op=op: getattr(b, op)(inner, table)) for op in ("Add", "Mul"))
    return b.lin(b.If(narrow, then_branch=then, else_branch=other), 8, 5)


@tables(cut=[16, 8, 8], **TOKENS)
def a_table_from_an_embedding_that_is_projected(b: Build) -> str:
    """What a weight product makes is no table: it is cut itself, with all who read it."""
    table = b.MatMul(waves(b, 8), b.w(8, 8))
    h = residual(b, residual(b, b.lin("x", 16, 16), table, 8), table, 8)
    return b.lin(h, 16, 5)


def flat(b: Build, x: str) -> str:
    """[B, 4, S, ..] -> [B x 4 x S, ..]"""
    return str(b.Reshape(x, b.Concat([-1], b.Gather(b.Shape(x), [3]), axis=0)))


@tables(cut=[16, 4, (6, 4), (6, 4)], **TOKENS)
def heads_between_two_unknown_sizes(b: Build) -> str:
    """[B x H x S, 1] cannot be taken apart: all layers keep the same heads."""
    size, length = b.Gather(b.Shape("x"), [0]), b.Unsqueeze(b.Squeeze(waves(b, 1), [1]), [1])
    shape = b.Concat(size, [4], b.Gather(b.Shape("x"), [1]), [1], axis=0)
    table = flat(b, b.Add(b.Expand(b.const(MATRIX[:4, :1, None]), shape), length))

    def layer(x: str) -> str:
        h = b.heads(b.lin(x, 16, 24), 4, 6)
        h = b.Reshape(b.Mul(flat(b, h), table), b.Shape(h))
        return str(b.Add(x, b.lin(b.Reshape(b.Transpose(h, perm=[0, 2, 1, 3]), [0, -1, 24]),
                                  24, 16)))  # fmt: skip

    return b.lin(layer(layer(b.lin("x", 16, 16))), 16, 5)
