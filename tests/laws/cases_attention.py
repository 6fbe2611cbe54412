"""Attention in one node, its companions, and rotary positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from lawkit import TOKENS, Build, Cases

attentions = Cases()
MS = "com.microsoft"
ATTENTION = [23, 24]


def qkv(b: Build, kv: int, group: int, qk: int, vo: int) -> list[str]:
    """Projections of the input to flat heads."""
    return [b.lin("x", 16, n) for n in (kv * group * qk, kv * qk, kv * vo)]


def bias_per_head(b: Build, heads: int) -> str:
    """[B, heads, S, S]: the tokens' own products, and a weight per head."""
    own = b.Unsqueeze(b.MatMul("x", b.Transpose("x", perm=[0, 2, 1])), [1])
    return str(b.Mul(own, b.w(heads, 1, 1)))


def read(b: Build, scores: str, heads: int) -> str:
    """[B, T, 1] of scores [B, heads, S, T]."""
    return str(b.Unsqueeze(b.ReduceSum(b.Mul(scores, b.w(heads, 1, 1)), [1, 2], keepdims=0), [2]))


def merged(b: Build, y: str, size: int) -> str:
    """[B, H, S, D] -> [B, S, H * D]."""
    return str(b.Reshape(b.Transpose(y, perm=[0, 2, 1, 3]), [0, -1, size]))


def ones(b: Build, *axes: int) -> str:
    """int32 ones of the sizes of these axes of x."""
    sizes = b.Gather(b.Shape("x"), list(axes))
    return str(b.Expand(np.ones((), np.int32), sizes))


def cast(b: Build, x: str, to: int = 6) -> str:
    return str(b.Cast(x, to=to))


# ---------------------------------------------------------------- the standard's Attention


@attentions(opsets=ATTENTION, cut=[4, (3, 4), (5, 4)], **TOKENS)
def flat_heads(b: Build) -> str:
    y = b.Attention(*qkv(b, 4, 1, 3, 5), q_num_heads=4, kv_num_heads=4)
    return b.lin(y, 20, 6)


@attentions(opsets=ATTENTION, cut=[4, (2, 4), (3, 4), (5, 4)], **TOKENS)
def grouped_flat_heads(b: Build) -> str:
    y = b.Attention(*qkv(b, 4, 2, 3, 5), q_num_heads=8, kv_num_heads=4, softcap=2.0, scale=0.7)
    return b.lin(y, 40, 6)


@attentions(opsets=ATTENTION, cut=[4, 3, 5], **TOKENS)
def one_head_for_all_queries(b: Build) -> str:
    y = b.Attention(*qkv(b, 1, 4, 3, 5), q_num_heads=4, kv_num_heads=1)
    return b.lin(y, 20, 6)


@attentions(opsets=ATTENTION, cut=[4, (2, 4), (3, 4), (5, 4)], **TOKENS)
def grouped_heads(b: Build) -> str:
    """4-D operands, a mask per head, the scores are read."""
    q, k, v = qkv(b, 4, 2, 3, 5)
    q, k, v = b.heads(q, 8, 3), b.heads(k, 4, 3), b.heads(v, 4, 5)
    mask = bias_per_head(b, 8)
    y, _, _, s = b.Attention(q, k, v, mask, n=4, is_causal=1, qk_matmul_output_mode=1)
    return b.Add(b.lin(merged(b, y, 40), 40, 6), read(b, s, 8))


@attentions(opsets=ATTENTION, cut=[3, (2, 3), (4, 3), (5, 3)], **TOKENS)
def a_cache_inside(b: Build) -> str:
    """Keys of another attention are its past; what is present is read."""
    past, values = (b.heads(b.lin("x", 16, 3 * d), 3, d) for d in (4, 5))
    y, keys, more = b.Attention(
        *qkv(b, 3, 2, 4, 5), None, past, values, n=3, q_num_heads=6, kv_num_heads=3,
    )  # fmt: skip
    kept = b.Concat(b.ReduceMax(keys, [2], keepdims=1), b.ReduceMax(more, [2], keepdims=1), axis=3)
    return b.Add(b.lin(y, 30, 6), b.lin(b.Reshape(kept, [0, 1, 27]), 27, 6))


@attentions(opsets=[24], cut=[4, (3, 4), (5, 4)], **TOKENS)
def a_cache_outside(b: Build) -> str:
    """How many keys of each sample count."""
    length = b.Add(b.Mul(ones(b, 0), np.int32(0)), np.int32(4))
    y = b.Attention(
        *qkv(b, 4, 1, 3, 5), None, None, None, cast(b, length, 7), q_num_heads=4, kv_num_heads=4,
    )  # fmt: skip
    return b.lin(y, 20, 6)


# ---------------------------------------------------------------- com.microsoft


@attentions(cut=[4, (3, 4), (5, 4)], **TOKENS)
def several_heads(b: Build) -> str:
    """One bias for q, k and v; a mask of steps; a bias per head; the scores are read."""
    q, k, v = (b.MatMul("x", b.w(16, n)) for n in (12, 12, 20))
    y = b.MultiHeadAttention(
        q, k, v, b.w(44, scale=0.3), ones(b, 0, 1), bias_per_head(b, 4), domain=MS, num_heads=4,
    )  # fmt: skip
    return b.lin(y, 20, 6)


@attentions(cut=[4, (3, 4), (5, 4)], **TOKENS)
def several_heads_in_order(b: Build) -> str:
    y = b.MultiHeadAttention(
        *qkv(b, 4, 1, 3, 5), None, b.Mul(ones(b, 0), np.int32(3)), domain=MS, num_heads=4,
        unidirectional=1, scale=0.4,
    )  # fmt: skip
    return b.lin(y, 20, 6)


@attentions(cut=[4, (3, 4)], **TOKENS)
def keys_as_heads(b: Build) -> str:
    """Cross attention to keys and values that are heads already: one size for both."""
    k, v = (b.heads(b.lin("x", 16, 12), 4, 3) for _ in range(2))
    y = b.MultiHeadAttention(b.lin("x", 16, 12), k, v, domain=MS, num_heads=4)
    return b.lin(y, 12, 6)


@attentions(cut=[4, (3, 4)], **TOKENS)
def several_heads_with_a_past(b: Build) -> str:
    past, values = (b.heads(b.lin("x", 16, 12), 4, 3) for _ in range(2))
    y, keys, more = b.MultiHeadAttention(
        *qkv(b, 4, 1, 3, 3), None, None, None, past, values, n=3, domain=MS, num_heads=4,
    )  # fmt: skip
    kept = b.Concat(b.ReduceMax(keys, [2], keepdims=1), b.ReduceMax(more, [2], keepdims=1), axis=3)
    return b.Add(b.lin(y, 12, 6), b.lin(b.Reshape(kept, [0, 1, 24]), 24, 6))


@attentions(cut=[4, (3, 4), (5, 4)], **TOKENS)
def several_heads_kept_for_later(b: Build) -> str:
    y, keys, more = b.MultiHeadAttention(*qkv(b, 4, 1, 3, 5), n=3, domain=MS, num_heads=4)
    kept = b.Concat(b.ReduceMax(keys, [2], keepdims=1), b.ReduceMax(more, [2], keepdims=1), axis=3)
    return b.Add(b.lin(y, 20, 6), b.lin(b.Reshape(kept, [0, 1, 32]), 32, 6))


@attentions(cut=[4, (6, 4), (6, 4)], **TOKENS)
def packed(b: Build) -> str:
    """Equal sizes by default: after a cut they are not."""
    y = b.Attention("x", b.w(16, 72), b.w(72, scale=0.3), domain=MS, num_heads=4)
    return b.lin(y, 24, 6)


@attentions(cut=[4, (3, 4), (5, 4), 9], **TOKENS)
def packed_of_two_sizes(b: Build) -> str:
    y = b.Attention(
        b.lin("x", 16, 9), b.w(9, 44), b.w(44, scale=0.3), ones(b, 0, 1), None, bias_per_head(b, 4),
        domain=MS, num_heads=4, qkv_hidden_sizes=[12, 12, 20],
    )  # fmt: skip
    return b.lin(y, 20, 6)


@attentions(cut=[4, (6, 4), (6, 4)], **TOKENS)
def packed_with_a_mask_of_pairs(b: Build) -> str:
    y = b.Attention(
        "x", b.w(16, 72), b.w(72), ones(b, 0, 1, 1), domain=MS, num_heads=4, unidirectional=1,
    )  # fmt: skip
    return b.lin(y, 24, 6)


@attentions(cut=[4, (3, 4)], **TOKENS)
def packed_with_a_past(b: Build) -> str:
    past = [b.Unsqueeze(b.heads(b.lin("x", 16, 12), 4, 3), [0]) for _ in range(2)]
    y, kept = b.Attention(
        "x", b.w(16, 36), b.w(36), None, b.Concat(*past, axis=0), n=2, domain=MS, num_heads=4,
    )  # fmt: skip
    kept = b.Transpose(b.ReduceMax(kept, [3], keepdims=0), perm=[1, 0, 2, 3])
    return b.Add(b.lin(y, 12, 6), b.lin(b.Reshape(kept, [0, 1, 24]), 24, 6))


def cached(b: Build, *operands: str | None, n: int = 3, **attributes: Any) -> Any:
    """GroupQueryAttention of a prompt: no past, whole samples."""
    steps = cast(b, b.Squeeze(b.Shape("x", start=1, end=2)))
    last = b.Add(b.Mul(ones(b, 0), np.int32(0)), b.Sub(steps, np.int32(1)))
    head, tail = (*operands, None, None)[:3], operands[3:]
    return b.GroupQueryAttention(
        *head, None, None, last, steps, *tail, n=n, domain=MS, **attributes,
    )  # fmt: skip


@attentions(cut=[4, (2, 4), (3, 4)], stays={8: "only a whole block may go"}, **TOKENS)
def grouped_queries(b: Build) -> str:
    """24 dims are 3 blocks of 8."""
    y, keys, more = cached(b, *qkv(b, 4, 2, 24, 24), num_heads=8, kv_num_heads=4)
    kept = b.Concat(b.ReduceMax(keys, [2], keepdims=1), b.ReduceMax(more, [2], keepdims=1), axis=3)
    return b.Add(b.lin(y, 192, 6), b.lin(b.Reshape(kept, [0, 1, 192]), 192, 6))


@attentions(cut=[4, (2, 4), 3], **TOKENS)
def grouped_queries_that_turn(b: Build) -> str:
    """48 dims are 3 blocks of 8 pairs; all in one operand."""
    caches = [b.positive(20, 24) for _ in range(2)]
    y = cached(
        b, b.lin("x", 16, 768), None, None, *caches, num_heads=8, kv_num_heads=4, do_rotary=1,
    )[0]  # fmt: skip
    return b.lin(y, 384, 6)


@attentions(cut=[2, (3, 2), 4, (2, 2)], **TOKENS)
def grouped_queries_that_turn_in_part(b: Build) -> str:
    """Neighbours turn; 96 dims are 4 blocks of 8 pairs and 2 of 16 that stay; a bias per head, a
    sink, and scores that are read."""
    caches = [b.positive(20, 32) for _ in range(2)]
    ids = b.Sub(b.CumSum(ones(b, 0, 1), np.int32(1)), np.int32(1))
    y, _, _, s = cached(
        b, *qkv(b, 2, 3, 96, 96), *caches, cast(b, ids, 7), bias_per_head(b, 6), b.w(6),
        num_heads=6, kv_num_heads=2, do_rotary=1, rotary_interleaved=1,
        qk_output=2, n=4,
    )  # fmt: skip
    return b.Add(b.lin(y, 576, 6), read(b, s, 6))


@attentions(cut=[4, (3, 4)], x=("B", 1, 16))
def one_step_of_a_decoder(b: Build) -> str:
    """A buffer for keys and values of all steps is written and read; scores get a bias."""
    past, values = (b.Reshape(b.lin("x", 16, 96), [0, 4, 8, 3]) for _ in range(2))
    q, k, v = (b.MatMul("x", b.w(16, 12)) for _ in range(3))
    y, keys, more = b.DecoderMaskedMultiHeadAttention(
        q, k, v, None, b.w(1, 4, 1, 4), past, values, np.array([3], np.int32), None, None, b.w(36),
        n=3, domain=MS, num_heads=4, past_present_share_buffer=1,
    )  # fmt: skip
    kept = b.Concat(b.ReduceMax(keys, [2], keepdims=1), b.ReduceMax(more, [2], keepdims=1), axis=3)
    return b.Add(b.lin(y, 12, 6), b.lin(b.Reshape(kept, [0, 1, 24]), 24, 6))


@attentions(cut=[4, (3, 4)], x=("B", 1, 16))
def one_step_of_cross_attention(b: Build) -> str:
    k, v = (b.Reshape(b.lin("x", 16, 84), [0, 4, 7, 3]) for _ in range(2))
    mask = b.Mul(ones(b, 0, 1), np.ones((1, 7), np.int32))
    y = b.DecoderMaskedMultiHeadAttention(
        b.lin("x", 16, 12), k, v, mask, domain=MS, num_heads=4,
    )  # fmt: skip
    return b.lin(y, 12, 6)


@attentions(cut=[4, (6, 4)], **TOKENS)
def quantized(b: Build) -> str:
    """Scales and zero points per column."""
    x, scale, zero = b.DynamicQuantizeLinear("x", n=3)
    w = b.const(b.rng.integers(-99, 99, (16, 72)), np.int8)
    y = b.QAttention(
        x, w, b.w(72), scale, b.positive(72), None, zero, np.zeros(72, np.int8), domain=MS,
        num_heads=4,
    )  # fmt: skip
    return b.lin(b.Mul(y, np.float32(0.01)), 24, 5)


@attentions(cut=[4, 9], stays={6: "integers inside a node"}, **TOKENS)
def quantized_with_one_scale(b: Build) -> str:
    x, scale, zero = b.DynamicQuantizeLinear(b.lin("x", 16, 9), n=3)
    w = b.const(b.rng.integers(-99, 99, (9, 72)), np.int8)
    past = [b.Unsqueeze(b.heads(b.lin("x", 16, 24), 4, 6), [0]) for _ in range(2)]
    y, kept = b.QAttention(
        x, w, b.w(72), scale, np.float32(0.01), None, zero, np.int8(0), b.Concat(*past, axis=0),
        n=2, domain=MS, num_heads=4,
    )  # fmt: skip
    kept = b.Transpose(b.ReduceMax(kept, [3], keepdims=0), perm=[1, 0, 2, 3])
    return b.Add(b.lin(y, 24, 5), b.lin(b.Reshape(kept, [0, 1, 48]), 48, 5))


# ---------------------------------------------------------------- linear attention


def gate(b: Build, size: int) -> str:
    """[B, S, size], between 0 and 1."""
    return str(b.Sigmoid(b.lin("x", 16, size)))


@attentions(cut=[4, (2, 4), (3, 4), (5, 4)], **TOKENS)
def states(b: Build) -> str:
    """Gates per dim and head; a state from before, and one for later."""
    past = b.Reshape(b.lin(b.ReduceMax("x", [1], keepdims=0), 16, 60), [0, 4, 3, 5])
    y, state = b.LinearAttention(
        *qkv(b, 4, 2, 3, 5), past, b.Neg(gate(b, 12)), gate(b, 4), n=2, domain=MS, q_num_heads=8,
        kv_num_heads=4,
    )  # fmt: skip
    return b.Add(b.lin(y, 40, 6), b.lin(b.Reshape(state, [0, 1, 60]), 60, 6))


@attentions(cut=[4, (3, 4), (5, 4)], **TOKENS)
def states_that_decay_by_head(b: Build) -> str:
    y, _ = b.LinearAttention(
        *qkv(b, 4, 1, 3, 5), None, b.Neg(gate(b, 4)), gate(b, 1), n=2, domain=MS, q_num_heads=4,
        kv_num_heads=4, scale=0.7,
    )  # fmt: skip
    return b.lin(y, 20, 6)


@attentions(cut=[3, (2, 3), (4, 3), (5, 3)], **TOKENS)
def states_that_share_queries(b: Build) -> str:
    """More heads of values than of queries; keys go with either."""
    q, k, v = (b.lin("x", 16, n) for n in (12, 24, 30))
    names = {"domain": MS, "q_num_heads": 3, "kv_num_heads": 6, "update_rule": "linear"}
    one, _ = b.LinearAttention(q, k, v, n=2, **names)
    return b.lin(one, 30, 6)


@attentions(cut=[3, (2, 3), (4, 3), (5, 3)], **TOKENS)
def states_that_share_queries_and_keys(b: Build) -> str:
    q, k, v = (b.lin("x", 16, n) for n in (12, 12, 30))
    names = {"domain": MS, "q_num_heads": 3, "kv_num_heads": 6, "update_rule": "linear"}
    return b.lin(b.LinearAttention(q, k, v, n=2, **names)[0], 30, 6)


# ---------------------------------------------------------------- rotary positions


def positions(b: Build) -> str:
    """[B, S]: 1, 2, .."""
    return str(cast(b, b.CumSum(ones(b, 0, 1), np.int32(1)), 7))


def table(b: Build, pairs: int) -> list[str]:
    return [b.positive(20, pairs) for _ in range(2)]


@attentions(opsets=[23], cut=[4, 3, (5, 4)], **TOKENS)
def turned_flat(b: Build) -> str:
    """Two streams that turn in step, and meet in scores."""
    cos, sin = table(b, 3)
    q, k = (
        b.RotaryEmbedding(b.lin("x", 16, 24), cos, sin, positions(b), num_heads=4) for _ in range(2)
    )
    return b.lin(b.Attention(q, k, b.lin("x", 16, 20), q_num_heads=4, kv_num_heads=4), 20, 6)


@attentions(opsets=[23], cut=[4, 3, (5, 4)], **TOKENS)
def turned_heads(b: Build) -> str:
    """Neighbours of 4-D heads, with a row of angles per position; 5 of 11 dims do not turn."""
    cos, sin = (b.MatMul("x", b.w(16, 3)) for _ in range(2))
    h = b.RotaryEmbedding(
        b.heads(b.lin("x", 16, 44), 4, 11), cos, sin, interleaved=1, rotary_embedding_dim=6,
    )  # fmt: skip
    return b.lin(merged(b, h, 44), 44, 6)


@attentions(cut=[4, 3], **TOKENS)
def turned(b: Build) -> str:
    """Heads that nobody counts: the cache tells the size of one."""
    h = b.RotaryEmbedding(b.lin("x", 16, 24), positions(b), *table(b, 3), domain=MS)
    return b.lin(h, 24, 6)


@attentions(cut=[4, 3, (5, 4)], **TOKENS)
def turned_in_part(b: Build) -> str:
    h = b.RotaryEmbedding(
        b.lin("x", 16, 44), positions(b), *table(b, 3), domain=MS, num_heads=4,
        rotary_embedding_dim=6, interleaved=1,
    )  # fmt: skip
    return b.lin(h, 44, 6)


@attentions(cut=[4, 3], **TOKENS)
def turned_heads_from_a_start(b: Build) -> str:
    h = b.RotaryEmbedding(
        b.heads(b.lin("x", 16, 24), 4, 6), np.array([2]), *table(b, 3), domain=MS, scale=2.0,
    )  # fmt: skip
    return b.lin(merged(b, h, 24), 24, 6)


@attentions(cut=[], stays={24: "a cache wider than the turned dims"}, **TOKENS)
def turned_by_a_wide_cache(b: Build) -> str:
    h = b.RotaryEmbedding(
        b.lin("x", 16, 24), positions(b), *table(b, 3), domain=MS, num_heads=4,
        rotary_embedding_dim=4,
    )  # fmt: skip
    return b.lin(h, 24, 6)


# ---------------------------------------------------------------- units along the other axes


def steps(b: Build, count: int, *sizes: int) -> list[str]:
    """[B, count, size] each: units of the rows of x as steps."""
    return [str(b.Reshape(b.lin("x", 16, count * n), [0, count, n])) for n in sizes]


def flat(b: Build, y: str, size: int) -> str:
    return str(b.lin(b.Reshape(y, [0, size]), size, 4))


ROWS: dict[str, Any] = {"x": ("B", 16)}


@attentions(opsets=[23], cut=[4, (6, 4), (3, 4), (5, 4)], stays={7: "normalised over"}, **ROWS)
def units_as_steps(b: Build) -> str:
    """Queries may go one by one; attention averages over keys, and hands them on."""
    (q,), (k, v) = steps(b, 6, 12), steps(b, 7, 12, 20)
    y, keys, _ = b.Attention(q, k, v, n=3, q_num_heads=4, kv_num_heads=4)
    return b.Add(flat(b, y, 120), flat(b, keys, 84))


@attentions(opsets=[23], cut=[4, (3, 4), (5, 4)], stays={6: "normalised over"}, **ROWS)
def units_as_steps_of_both_sides(b: Build) -> str:
    """A dim of a head goes in all steps."""
    q, v = steps(b, 6, 12, 20)
    return flat(b, b.Attention(q, q, v, q_num_heads=4, kv_num_heads=4), 120)


@attentions(opsets=[23], cut=[4, (3, 4), (5, 4)], stays={6: "order matters"}, **ROWS)
def units_as_steps_in_order(b: Build) -> str:
    q, k, v = steps(b, 6, 12, 12, 20)
    return flat(b, b.Attention(q, k, v, q_num_heads=4, kv_num_heads=4, is_causal=1), 120)


@attentions(cut=[4, (6, 4), (3, 4), (5, 4)], stays={7: "normalised over"}, **ROWS)
def units_as_steps_of_several_heads(b: Build) -> str:
    (q,), (k, v) = steps(b, 6, 12), steps(b, 7, 12, 20)
    mask = b.Mul(b.Unsqueeze(ones(b, 0), [1]), np.ones((1, 7), np.int32))
    y = b.MultiHeadAttention(q, k, v, None, mask, domain=MS, num_heads=4)
    return flat(b, y, 120)


@attentions(cut=[4, (6, 4), (3, 4), (5, 4)], stays={7: "order matters"}, **ROWS)
def units_as_steps_of_which_some_count(b: Build) -> str:
    (q,), (k, v) = steps(b, 6, 12), steps(b, 7, 12, 20)
    mask = b.Mul(ones(b, 0), np.int32(4))
    return flat(b, b.MultiHeadAttention(q, k, v, None, mask, domain=MS, num_heads=4), 120)


@attentions(cut=[4, 9, (5, 4), (5, 4)], stays={6: "normalised over"}, **ROWS)
def units_as_steps_packed(b: Build) -> str:
    """An input of the projection goes in all steps."""
    (x,) = steps(b, 6, 9)
    return flat(b, b.Attention(x, b.w(9, 60), b.w(60), domain=MS, num_heads=4), 120)


@attentions(cut=[4, (2, 4)], stays={6: "order matters"}, **ROWS)
def units_as_steps_of_grouped_queries(b: Build) -> str:
    q, k, v = steps(b, 6, 64, 32, 32)
    last = b.Add(b.Mul(ones(b, 0), np.int32(0)), np.int32(5))
    y, _, _ = b.GroupQueryAttention(
        q, k, v, None, None, last, np.int32(6), n=3, domain=MS, num_heads=8, kv_num_heads=4,
    )  # fmt: skip
    return flat(b, y, 384)


@attentions(cut=[4, (3, 4), (5, 4)], stays={6: "steps"}, **ROWS)
def units_as_steps_of_states(b: Build) -> str:
    q, v = steps(b, 6, 12, 20)
    y, _ = b.LinearAttention(
        q, q, v, n=2, domain=MS, q_num_heads=4, kv_num_heads=4, update_rule="linear",
    )  # fmt: skip
    return flat(b, y, 120)


@attentions(opsets=[23], cut=[6, (4, 6), 3], **ROWS)
def units_as_steps_that_turn(b: Build) -> str:
    """Each has a position of its own; then rows of angles of its own."""
    (x,) = steps(b, 6, 24)
    ids = b.Mul(b.Unsqueeze(ones(b, 0), [1]), np.arange(6, dtype=np.int32)[None])
    h = b.RotaryEmbedding(x, *table(b, 3), cast(b, ids, 7), num_heads=4)
    cos, sin = steps(b, 6, 3, 3)
    return flat(b, b.RotaryEmbedding(h, cos, sin, num_heads=4), 144)


@attentions(cut=[(4, 6), 3], stays={6: "order matters"}, **ROWS)
def units_as_steps_that_turn_in_order(b: Build) -> str:
    (x,) = steps(b, 6, 24)
    return flat(b, b.RotaryEmbedding(x, np.array([1]), *table(b, 3), domain=MS), 144)


SAMPLES: dict[str, Any] = {"x": ("S", 16)}


def samples(b: Build, *sizes: int) -> list[str]:
    """[5, S, size] each: units of the rows of x as samples."""
    tokens = (b.Reshape(b.lin("x", 16, 5 * n), [0, 5, n]) for n in sizes)
    return [str(b.Transpose(t, perm=[1, 0, 2])) for t in tokens]


def gathered(b: Build, y: str, size: int) -> str:
    """[5, S, size] -> [S, 4]."""
    return flat(b, b.Transpose(y, perm=[1, 0, 2]), 5 * size)


@attentions(opsets=[24], cut=[5, (3, 5), (4, 5), (5, 5)], **SAMPLES)
def units_as_samples(b: Build) -> str:
    """How many keys count is said for each."""
    y = b.Attention(
        *samples(b, 12, 12, 20), None, None, None, np.array([2, 3, 4, 5, 6]), q_num_heads=4,
        kv_num_heads=4,
    )  # fmt: skip
    return gathered(b, y, 20)


@attentions(cut=[5, (3, 5), (4, 5), (5, 5)], **SAMPLES)
def units_as_samples_of_several_heads(b: Build) -> str:
    q, k, v = samples(b, 12, 12, 20)
    counts = np.array([2, 3, 4, 5, 6], np.int32)
    return gathered(b, b.MultiHeadAttention(q, k, v, None, counts, domain=MS, num_heads=4), 20)


@attentions(cut=[5, (2, 5), (2, 5)], **SAMPLES)
def units_as_samples_of_grouped_queries(b: Build) -> str:
    last = b.Sub(b.Shape("x", start=0, end=1), 1)
    counts = np.array([2, 3, 4, 5, 5], np.int32)
    ids = b.Sub(b.CumSum(b.Expand(np.ones((5, 1), np.int64), b.Add(last, 1)), 1), 1)
    y, _, _ = b.GroupQueryAttention(
        *samples(b, 64, 32, 32), None, None, counts, cast(b, b.Squeeze(b.Add(last, 1))),
        *table(b, 8), ids, n=3, domain=MS, num_heads=4, kv_num_heads=2, do_rotary=1,
    )  # fmt: skip
    return gathered(b, y, 64)
