"""What runtimes fuse: attention, embeddings and norms in one op (domain com.microsoft)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mipack.ops.torch.call import Call, op
from mipack.ops.torch.layers import activated, layer_norm
from mipack.ops.torch.reducing import gemm, safe_softmax


@op("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul")
def fused_matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """alpha A B, either with its last axes swapped."""
    if call.attr("transBatchA", 0) or call.attr("transBatchB", 0):
        raise call.refuse("transposed batches have no torch function here")
    a = a.mT if call.attr("transA", 0) and a.dim() > 1 else a
    b = b.mT if call.attr("transB", 0) and b.dim() > 1 else b
    return call.attr("alpha", 1.0) * torch.matmul(a, b)


@op("com.microsoft::FusedGemm")
def fused_gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """A Gemm and an activation."""
    return activated(call, gemm(call, a, b, c))


@op("com.microsoft::SkipLayerNormalization")
def skip_layer_normalization(
    call: Call,
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
) -> Any:
    """LayerNorm of a sum, which is the fourth result."""
    total = x + skip if bias is None else x + skip + bias
    y = layer_norm(total, gamma, beta, x.dim() - 1, call.attr("epsilon", 1e-12))
    return (y, None, None, total)[: call.results] if call.results > 1 else y


@op("com.microsoft::SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    call: Call, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None
) -> Any:
    """The same over the root mean square."""
    total = x + skip if bias is None else x + skip + bias
    factor = torch.rsqrt(total.square().mean(-1, keepdim=True) + call.attr("epsilon", 1e-5))
    y = total * factor * gamma
    return (y, None, None, total)[: call.results] if call.results > 1 else y


@op("com.microsoft::EmbedLayerNormalization")
def embed_layer_normalization(
    call: Call,
    ids: Tensor,
    segments: Tensor | None,
    words: Tensor,
    places: Tensor,
    kinds: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    positions: Tensor | None = None,
) -> Any:
    """LayerNorm of the sum of three embeddings; how many tokens count; the sum."""
    at = torch.arange(ids.shape[1], device=ids.device) if positions is None else positions.long()
    total = words[ids.long()] + places[at]
    if segments is not None and kinds is not None:
        total = total + kinds[segments.long()]
    y = layer_norm(total, gamma, beta, 2, call.attr("epsilon", 1e-12))
    counted = torch.zeros(len(ids), dtype=torch.int32) if mask is None else mask.sum(1).int()
    return (y, counted, total)[: call.results]


# ---------------------------------------------------------------- attention


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
) -> Tensor:
    """softmax(scale q k' + bias) v over [batch, heads, length, dim]; keys may have fewer heads."""
    share = q.shape[1] // k.shape[1]
    if share > 1:
        k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
    scores = (q * (scale or q.shape[-1] ** -0.5)) @ k.mT
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    return safe_softmax(scores, -1) @ v


def heads(x: Tensor, count: int) -> Tensor:
    """[batch, length, heads x dim] -> [batch, heads, length, dim]."""
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """The inverse of `heads`."""
    return x.transpose(1, 2).flatten(2)


def _causal(queries: int, keys: int, low: float, device: torch.device) -> Tensor:
    """Positions count from the end: the last query sees every key."""
    ones = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return torch.where(ones.tril(keys - queries), 0.0, low)


def _padding(call: Call, mask: Tensor, keys: int, low: float) -> Tensor:
    """[batch] lengths, [batch, keys] or [batch, queries, keys] of 1 for data -> what is added."""
    batch_only = mask.dim() == 1
    if batch_only:
        mask = torch.arange(keys, device=mask.device) < mask.reshape(-1, 1)
    grid = mask[:, None, None, :] if mask.dim() == 2 else mask[:, None] if mask.dim() == 3 else mask
    return torch.where(grid != 0, 0.0, low)


def _bias(
    call: Call, q: Tensor, k: Tensor, mask: Tensor | None, bias: Tensor | None
) -> Tensor | None:
    low = call.attr("mask_filter_value", -10000.0)
    if mask is not None:
        padding = _padding(call, mask, k.shape[2], low)
        bias = padding if bias is None else bias + padding
    if call.attr("unidirectional", 0):
        causal = _causal(q.shape[2], k.shape[2], torch.finfo(torch.float32).min, q.device)
        bias = causal if bias is None else torch.clamp(bias + causal, min=causal.min())
    return bias


@op("com.microsoft::Attention")
def packed_attention(
    call: Call,
    x: Tensor,
    weight: Tensor,
    vector: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    bias: Tensor | None = None,
    past_length: Tensor | None = None,
) -> Any:
    """Queries, keys and values from one product."""
    if (mask is not None and mask.dim() == 1 and len(mask) != len(x)) or past_length is not None:
        raise call.refuse("this form of Attention has no torch function here")
    y = x @ weight if vector is None else x @ weight + vector
    sizes = call.attr("qkv_hidden_sizes") or [y.shape[-1] // 3] * 3
    q, k, v = (heads(part, call.attr("num_heads")) for part in y.split(sizes, -1))
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    found = attend(q, k, v, bias=_bias(call, q, k, mask, bias), scale=call.attr("scale"))
    return (joined(found), torch.stack([k, v])) if call.results > 1 else joined(found)


@op("com.microsoft::MultiHeadAttention")
def multi_head_attention(
    call: Call,
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    vector: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    past_k: Tensor | None = None,
    past_v: Tensor | None = None,
) -> Any:
    """Operands packed or apart, keys and values by position or by head."""
    count = call.attr("num_heads")
    if q.dim() == 5:  # [batch, length, heads, 3, dim]
        q, k, v = (part.flatten(2) for part in q.unbind(3))
    elif k is not None and k.dim() == 5:
        k, v = (part.flatten(2) for part in k.unbind(3))
    if k is None or v is None:
        raise call.refuse("keys or values are missing")
    if vector is not None:
        width, depth = q.shape[-1], v.shape[-1] if v.dim() == 3 else v.shape[1] * v.shape[3]
        first, second, third = vector.split([width, len(vector) - width - depth, depth])
        q = q + first
        k, v = (k + second, v + third) if k.dim() == 3 else (k, v)
    q, k, v = (heads(part, count) if part.dim() == 3 else part for part in (q, k, v))
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    found = attend(q, k, v, bias=_bias(call, q, k, mask, bias), scale=call.attr("scale"))
    return (joined(found), k, v)[: call.results] if call.results > 1 else joined(found)


@op("com.microsoft::GroupQueryAttention", host=(5, 6))
def group_query_attention(
    call: Call,
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    past_k: Tensor | None = None,
    past_v: Tensor | None = None,
    lengths: Tensor | None = None,
    total: Tensor | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    *rest: Any,
) -> Any:
    """Causal; `lengths` are those of all keys, less one. Caches grow: no shared buffers."""
    if any(operand is not None for operand in rest) or lengths is None:
        raise call.refuse("this form of GroupQueryAttention has no torch function here")
    count, shared = call.attr("num_heads"), call.attr("kv_num_heads")
    if k is None or v is None:
        each = q.shape[-1] // (count + 2 * shared)
        q, k, v = q.split([count * each, shared * each, shared * each], -1)
    q, k, v = heads(q, count), heads(k, shared), heads(v, shared)
    before = 0 if past_k is None else past_k.shape[2]
    if before and any(int(n) + 1 != before + q.shape[2] for n in lengths.reshape(-1).tolist()):
        raise call.refuse("caches of unequal length have no torch function here")
    if call.attr("do_rotary", 0) and cos is not None and sin is not None:
        at = torch.arange(before, before + q.shape[2], device=q.device)
        twisted = bool(call.attr("rotary_interleaved", 0))
        q, k = (rotated(x, cos[at], sin[at], twisted) for x in (q, k))
    if before and past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    bias = _causal(q.shape[2], k.shape[2], -torch.inf, q.device)
    window = call.attr("local_window_size", -1)
    if window > 0:
        places = torch.arange(k.shape[2], device=q.device)
        own = places[-q.shape[2] :].reshape(-1, 1)
        bias = torch.where(places > own - window, bias, -torch.inf)
    found = attend(q, k, v, bias=bias, scale=call.attr("scale"), softcap=call.attr("softcap", 0.0))
    return (joined(found), k, v)[: call.results] if call.results > 1 else joined(found)


def rotated(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Pairs of the first 2 x width dims turned: x [batch, heads, length, dim], cos [.., width]."""
    width = cos.shape[-1]
    head, tail = x[..., : 2 * width], x[..., 2 * width :]
    if interleaved:
        a, b = head[..., 0::2], head[..., 1::2]
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:
        a, b = head[..., :width], head[..., width:]
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return torch.cat([turned, tail], -1) if tail.shape[-1] else turned


@op("com.microsoft::RotaryEmbedding", "RotaryEmbedding")
def rotary_embedding(call: Call, x: Tensor, *operands: Tensor | None) -> Tensor:
    """The standard's op has its positions last, and may do without them."""
    if call.node.domain == "com.microsoft":
        positions, cos, sin = operands
    else:
        cos, sin, positions = (*operands, None)[:3]
    if cos is None or sin is None:
        raise call.refuse("RotaryEmbedding without its tables")
    flat = x.dim() == 3
    count = call.attr("num_heads", 0) or (x.shape[-1] // (2 * cos.shape[-1]))
    x = heads(x, count) if flat else x
    width = call.attr("rotary_embedding_dim", 0) // 2
    cos, sin = (t[..., :width] if width else t for t in (cos, sin))
    if positions is not None:
        at = positions.long()
        at = at + torch.arange(x.shape[2], device=at.device) if at.numel() == 1 else at
        cos, sin = cos[at.reshape(-1, x.shape[2])], sin[at.reshape(-1, x.shape[2])]
    y = rotated(x, cos.unsqueeze(1), sin.unsqueeze(1), bool(call.attr("interleaved", 0)))
    return joined(y) if flat else y
