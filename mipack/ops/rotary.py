"""Rotary position embedding: dims turn in pairs, and a pair lives or dies whole."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import Term, size_of
from mipack.ops.registry import rule


@rule("RotaryEmbedding", "com.microsoft::RotaryEmbedding")
def rotary_embedding(n: NodeView) -> None:
    """Heads of dims, [B, H, S, D] or [B, S, H x D]; caches of one column per pair of dims.

    The standard's caches are [B, S, P], or [rows, P] where `position_ids` chooses rows.
    """
    standard = n.node.domain != "com.microsoft"
    cos, sin, ids = (1, 2, 3) if standard else (2, 3, 1)
    data, cache = n.x(0), n.x(cos)
    turned = int(n.attr("rotary_embedding_dim", 0))
    width = 2 * size_of(cache[-1])[0]
    if turned not in (0, width):
        n.freeze_all("a cache wider than the turned dims")
        return
    heads, dims, steps = _heads(n, data, width, standard or bool(turned))
    pairs, rotated = turning(n, width, bool(n.attr("interleaved", 0)))
    rest = n.atom(size_of(dims)[0] - width)
    n.eq(dims, n.sum(rotated, rest))
    n.same(data, n.y())
    follow_pairs(n, (cos, sin), pairs, [data[0], steps])
    if len(n.x(ids)) > 1:
        n.same(n.x(ids), [data[0], steps])
    elif n.has(ids):  # one number: where the steps start
        n.freeze(steps, "order matters")
    if n.attr("num_heads", 0):
        n.encode("num_heads", None, heads)
    if turned:
        n.encode("rotary_embedding_dim", None, rotated)


def _heads(n: NodeView, data: list[Term], width: int, counted: bool) -> tuple[Term, Term, Term]:
    """(heads, dims, steps); where heads are not counted, the cache tells the size of one."""
    if len(data) == 4:
        return data[1], data[3], data[2]
    size = size_of(data[2])[0]
    count = int(n.attr("num_heads")) if counted else size // width
    heads, dims = n.atom(count), n.atom(size // count)
    n.eq(data[2], n.prod(heads, dims))
    return heads, dims, data[1]


def turning(n: NodeView, width: int, interleaved: bool, block: int = 1) -> tuple[Term, Term]:
    """(pairs, dims that turn): halves P + P, or neighbours P x 2; pairs in blocks of so many."""
    pairs = n.prod(n.atom(width // 2 // block), whole(n, block))
    return pairs, n.prod(pairs, whole(n, 2)) if interleaved else n.sum(pairs, pairs)


def whole(n: NodeView, size: int) -> Term:
    """Positions that only go together."""
    block = n.atom(size)
    n.freeze(block, "only a whole block may go")
    return block


def follow_pairs(n: NodeView, caches: tuple[int, int], pairs: Term, rows: list[Term]) -> None:
    """cos and sin are tables of rows chosen by position, or have a row per position."""
    for i in caches:
        *own, columns = n.x(i)
        n.eq(columns, pairs)
        if len(own) == 1:
            n.freeze(own, "indexed by data")
        else:
            n.same(own, rows)
