"""Attention in one node: heads are units, and dims are families within heads.

    softmax(scale q k^T + mask) v     q [B, S, K x G x D]   k [B, T, K x D]
                                      y [B, S, K x G x E]   v [B, T, K x E]

K heads of keys and values, each read by G heads of queries; D dims of queries and keys meet in
the scores, E dims of values go through. An operand is [B, steps, heads x dims] or [B, heads, steps,
dims]. The default of `scale` follows D: the original's is written down where D is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from mipack.graph.view import NodeView
from mipack.layout import UNIT, Term, size_of
from mipack.ops.qlinear import follow
from mipack.ops.registry import rule
from mipack.ops.rotary import follow_pairs, turning, whole


@dataclass(frozen=True, slots=True)
class Heads:
    """The axes of an attention: B, S, T, K, G, D, E."""

    batch: Term
    queries: Term
    keys: Term
    kv: Term
    group: Term
    qk: Term
    vo: Term


def head_size(axes: list[Term], heads: int) -> int:
    """Dims of one head of [B, steps, heads x dims] or [B, heads, steps, dims]."""
    return size_of(axes[-1])[0] // (heads if len(axes) == 3 else 1)


def placed(n: NodeView, axes: list[Term], batch: Term, heads: Term, dims: Term) -> Term:
    """The equations of an operand with heads; its steps."""
    n.eq(axes[0], batch)
    if len(axes) == 3:
        n.eq(axes[2], n.prod(heads, dims))
        return axes[1]
    n.eq(axes[1], heads)
    n.eq(axes[3], dims)
    return axes[2]


def attend(n: NodeView, h: Heads, ordered: bool) -> None:
    """What both products cost and walk in step."""
    for dims in (h.qk, h.vo):
        n.macs(h.batch, h.kv, h.group, h.queries, h.keys, dims)
    for walked in (h.group, h.queries, h.keys, h.qk, h.vo):
        n.together(h.batch, h.kv, walked)
    n.normalise(h.keys)
    if ordered:
        n.freeze([h.queries, h.keys], "order matters")
    if not n.attr("scale", 0.0):
        n.pin("scale", size_of(h.qk)[0] ** -0.5, h.qk)


def scores(n: NodeView, axes: list[Term], h: Heads) -> None:
    """What is added to the scores, or read from them: broadcast to [B, K x G, S, T]."""
    full = [h.batch, n.prod(h.kv, h.group), h.queries, h.keys]
    for own, other in zip(reversed(axes), reversed(full), strict=False):
        if size_of(own) != UNIT:
            n.same([own], [other])


def cached(n: NodeView, h: Heads, past: int, present: int) -> None:
    """Keys and values of earlier steps, [B, K, steps, dims], and what is left for later ones."""
    for k, dims in enumerate((h.qk, h.vo)):
        if n.has(past + k):
            n.freeze(placed(n, n.x(past + k), h.batch, h.kv, dims), "order matters")
        if n.y(present + k):
            n.same([placed(n, n.y(present + k), h.batch, h.kv, dims)], [h.keys])


def all_keys(n: NodeView, steps: Term, past: int) -> Term:
    """Those of earlier steps come first."""
    return n.sum(n.x(past)[2], steps) if n.has(past) else steps


@rule("Attention")
def attention(n: NodeView) -> None:
    """The standard's: masks with or without heads, a cache, scores to be read."""
    q, k, v = n.x(0), n.x(1), n.x(2)
    flat = len(q) == 3
    heads, kv_heads = (
        int(n.attr(f"{side}_num_heads")) if flat else size_of(axes[1])[0]
        for side, axes in (("q", q), ("kv", k))
    )
    kv, group = n.atom(kv_heads), n.atom(heads // kv_heads)
    qk, vo = n.atom(head_size(q, heads)), n.atom(head_size(v, kv_heads))
    queries = placed(n, q, q[0], n.prod(kv, group), qk)
    steps = placed(n, k, q[0], kv, qk)
    n.eq(placed(n, v, q[0], kv, vo), steps)
    n.eq(placed(n, n.y(), q[0], n.prod(kv, group), vo), queries)
    h = Heads(q[0], queries, all_keys(n, steps, 4), kv, group, qk, vo)
    windows = any(n.attr(f"{side}_window_size", -1) != -1 for side in ("left", "right"))
    attend(n, h, bool(n.attr("is_causal", 0)) or windows or n.has(4) or n.has(6))
    scores(n, n.x(3), h)
    scores(n, n.y(3), h)
    cached(n, h, 4, 1)
    n.same(n.x(6), [q[0]])
    for name, count in (("q_num_heads", n.prod(kv, group)), ("kv_num_heads", kv)):
        if n.attr(name):
            n.encode(name, None, count)


@dataclass(frozen=True, slots=True)
class Slots:
    """Where an op has its optional operands."""

    bias: int
    padding: int
    added: int
    past: int
    others: tuple[int, ...]


SLOTS = {
    "MultiHeadAttention": Slots(bias=3, padding=4, added=5, past=6, others=(8,)),
    "DecoderMaskedMultiHeadAttention": Slots(bias=10, padding=3, added=4, past=5, others=(7, 8)),
}


@rule(*(f"com.microsoft::{op}" for op in SLOTS))
def multi_head_attention(n: NodeView) -> None:
    """As many heads of keys as of queries; one bias for q, k and v; keys of another model's
    encoder may come as heads."""
    q, k, v, at = n.x(0), n.x(1), n.x(2), SLOTS[n.op]
    if not (k and v) or len(k) > 4:
        n.freeze_all("packed operands")
        return
    count = int(n.attr("num_heads"))
    kv, qk, vo = n.atom(count), n.atom(head_size(q, count)), n.atom(head_size(v, count))
    queries, steps = placed(n, q, q[0], kv, qk), placed(n, k, q[0], kv, qk)
    n.eq(placed(n, v, q[0], kv, vo), steps)
    n.eq(placed(n, n.y(), q[0], kv, vo), queries)
    if len(k) == 4 or n.has(at.past):  # the runtime reads one head size from the cache
        n.eq(qk, vo)
    if n.has(at.bias):
        n.eq(n.x(at.bias)[0], n.sum(*(n.prod(kv, dims) for dims in (qk, qk, vo))))
    h = Heads(q[0], queries, all_keys(n, steps, at.past), kv, n.atom(UNIT), qk, vo)
    attend(n, h, bool(n.attr("unidirectional", 0)) or n.has(at.past))
    padding(n, at.padding, h)
    scores(n, n.x(at.added), h)
    scores(n, n.y(3), h)
    cached(n, h, at.past, 1)
    n.ignore(*at.others)
    n.encode("num_heads", None, kv)


def padding(n: NodeView, index: int, h: Heads) -> None:
    """[B, T], [B, S, T], or how many steps of each sample count (and where they start)."""
    axes = n.x(index)
    if len(axes) == 1:
        n.freeze(h.keys, "order matters")
    full = {0: [], 1: [h.batch], 2: [h.batch, h.keys], 3: [h.batch, h.queries, h.keys]}
    n.same(axes, full[len(axes)])


@rule("com.microsoft::Attention")
def packed_attention(n: NodeView) -> None:
    """Projects its input by one weight first, by default to q, k and v of one size."""
    w, third = n.x(1), size_of(n.x(1)[1])[0] // 3
    sizes = n.attr("qkv_hidden_sizes", [third] * 3)
    h = projected(n, sizes, padded=3, past=4)
    scores(n, n.x(5), h)
    n.ignore(6)
    n.pin("qkv_hidden_sizes", sizes, w[1])
    for k, dims in enumerate((h.qk, h.qk, h.vo)):
        n.encode("qkv_hidden_sizes", k, n.prod(h.kv, dims))


@rule("com.microsoft::QAttention")
def quantized_attention(n: NodeView) -> None:
    """The same on integers, all parts of one size; scales per column may silence dims inside."""
    w, scale = n.x(1), n.x(4)
    h = projected(n, [size_of(w[1])[0] // 3] * 3, padded=5, past=8)
    n.eq(h.qk, h.vo)
    if not scale or size_of(scale[0]) == UNIT:
        n.freeze(h.qk, "integers inside a node")
    for i in (4, 7):
        follow(n, i, w[1])


def projected(n: NodeView, sizes: list[int], padded: int, past: int) -> Heads:
    """x [B, S, in] . w [in, q + k + v] + bias, and the attention of that; caches are [2, ..]."""
    x, w, bias = n.x(0), n.x(1), n.x(2)
    count = int(n.attr("num_heads"))
    kv, qk, vo = n.atom(count), n.atom(sizes[0] // count), n.atom(sizes[2] // count)
    n.eq(x[2], w[0])
    n.eq(w[1], n.sum(*(n.prod(kv, dims) for dims in (qk, qk, vo))))
    n.same(bias, [w[1]])
    n.macs(x[0], x[1], *w)
    n.eq(placed(n, n.y(), x[0], kv, vo), x[1])
    earlier = n.x(past)[1:]
    keys = n.sum(earlier[2], x[1]) if earlier else x[1]
    h = Heads(x[0], x[1], keys, kv, n.atom(UNIT), qk, vo)
    attend(n, h, bool(n.attr("unidirectional", 0)) or bool(earlier))
    for pair, *axes in filter(None, (n.x(past), n.y(1))):
        n.eq(qk, vo)
        n.freeze([pair, placed(n, axes, x[0], kv, qk)], "keys and values of all steps")
    padding(n, padded, h)
    n.encode("num_heads", None, kv)
    return h


@rule("com.microsoft::GroupQueryAttention")
def group_query_attention(n: NodeView) -> None:
    """Causal, with a cache and, on request, rotary positions; q, k and v may come in one operand.

    The runtime takes head sizes that are multiples of 8, and one size for keys and values.
    """
    q, packed = n.x(0), not n.has(1)
    heads, kv_heads = int(n.attr("num_heads")), int(n.attr("kv_num_heads"))
    kv, group = n.atom(kv_heads), n.atom(heads // kv_heads)
    dims = _blocks(n, size_of(q[2])[0] // (heads + 2 * kv_heads if packed else heads))
    queries, keys = n.prod(kv, group, dims), n.prod(kv, dims)
    h = Heads(q[0], q[1], n.y(1)[2] if n.y(1) else q[1], kv, group, dims, dims)
    if packed:
        n.eq(q[2], n.sum(queries, keys, keys))
    else:
        n.eq(q[2], queries)
        for i in (1, 2):
            n.freeze(placed(n, n.x(i), q[0], kv, dims), "order matters")
    n.eq(placed(n, n.y(), q[0], n.prod(kv, group), dims), q[1])
    attend(n, h, ordered=True)
    cached(n, h, 3, 1)
    n.same(n.x(5), [q[0]])
    if n.has(9):
        n.same(n.x(9), [q[0], q[1]])
    scores(n, n.x(10), h)
    scores(n, n.y(3), h)
    if n.has(11):
        n.eq(n.x(11)[0], n.prod(kv, group))
    n.encode("num_heads", None, n.prod(kv, group))
    n.encode("kv_num_heads", None, kv)


def _blocks(n: NodeView, size: int) -> Term:
    """The dims of a head: blocks of 8; with rotary positions pairs of blocks, then pairs of
    blocks that do not turn."""
    if not n.attr("do_rotary", 0):
        return n.prod(n.atom(size // 8), whole(n, 8))
    width = 2 * size_of(n.x(7)[1])[0]
    pairs, turned = turning(n, width, bool(n.attr("rotary_interleaved", 0)), 8)
    follow_pairs(n, (7, 8), pairs, [])
    rest = n.prod(n.atom((size - width) // 16), whole(n, 16)) if size > width else n.atom(0)
    return n.sum(turned, rest)


@rule("com.microsoft::LinearAttention")
def linear_attention(n: NodeView) -> None:
    """Per head of values a state [D, E], k v' added to it and q' read from it, step by step.

    Heads of queries share a head of values or, where there are fewer, are shared by several.
    """
    if n.attr("state_window", 0):
        n.freeze_all("states of several steps")
        return
    q, k, v, batch = n.x(0), n.x(1), n.x(2), n.x(0)[0]
    count, kv_count = int(n.attr("q_num_heads")), int(n.attr("kv_num_heads"))
    few, group = n.atom(min(count, kv_count)), n.atom(max(count, kv_count) // min(count, kv_count))
    every = n.prod(few, group)
    heads, kv = (few, every) if count < kv_count else (every, few)
    qk, vo = n.atom(head_size(q, count)), n.atom(head_size(v, kv_count))
    shared = size_of(k[2]) == size_of(q[2])  # keys go with the queries
    for axes, own, dims in ((q, heads, qk), (k, heads if shared else kv, qk), (v, kv, vo)):
        n.freeze(placed(n, axes, batch, own, dims), "steps")
    n.freeze(placed(n, n.y(), batch, every, vo), "steps")
    for state in filter(None, (n.x(3), n.y(1))):
        n.same(state, [batch, kv, qk, vo])
    _gates(n, n.x(4), [batch, q[1]], n.prod(kv, qk), kv)
    _gates(n, n.x(5), [batch, q[1]], kv, kv)
    for side in (kv, every):
        n.macs(batch, q[1], side, qk, vo)
    if not n.attr("scale", 0.0):
        n.pin("scale", size_of(qk)[0] ** -0.5, qk)
    n.encode("q_num_heads", None, heads)
    n.encode("kv_num_heads", None, kv)


def _gates(n: NodeView, axes: list[Term], rows: list[Term], each: Term, head: Term) -> None:
    """One number per state of a head, one per head, or one for all."""
    if axes and size_of(axes[2]) != UNIT:
        n.same(axes, [*rows, head if size_of(axes[2]) == size_of(head) else each])
