"""Attention in one node, and rotary positions."""

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


@attentions(opsets=ATTENTION, cut=[4, (3, 4), (5, 4)], **TOKENS)
def flat_heads(b: Build) -> str:
    y = b.Attention(*qkv(b, 4, 1, 3, 5), q_num_heads=4, kv_num_heads=4)
    return b.lin(y, 20, 6)


@attentions(opsets=ATTENTION, cut=[4, (2, 4), (3, 4), (5, 4)], **TOKENS)
def grouped_flat_heads(b: Build) -> str:
    y = b.Attention(*qkv(b, 4, 2, 3, 5), q_num_heads=8, kv_num_heads=4, softcap=2.0)
    return b.lin(y, 40, 6)


@attentions(opsets=ATTENTION, cut=[4, (2, 4), (3, 4), (5, 4)], **TOKENS)
def grouped_heads(b: Build) -> str:
    """4-D operands, a mask per head, the scores are read."""
    q, k, v = qkv(b, 4, 2, 3, 5)
    q, k, v = b.heads(q, 8, 3), b.heads(k, 4, 3), b.heads(v, 4, 5)
    y, _, _, s = b.Attention(q, k, v, bias_per_head(b, 8), n=4, is_causal=1, qk_matmul_output_mode=1)
    y = b.Reshape(b.Transpose(y, perm=[0, 2, 1, 3]), [0, -1, 40])
    read = b.ReduceSum(s, [1, 2], keepdims=0)
    return b.Add(b.lin(y, 40, 6), b.ReduceMean(read, [1], keepdims=1))
