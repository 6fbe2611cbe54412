"""Weights quantised in blocks along the contracted axis: whole blocks are cut, never a part."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import Term, size_of, times
from mipack.ops.registry import rule


@rule("com.microsoft::MatMulNBits")
def matmul_nbits(n: NodeView) -> None:
    """A [.., K] x B [N, blocks, bytes]: K = blocks x block, with scales for every N and block.

    The last block may be padded; then K stays. Zero points are packed like the weights (several
    in a byte, each row padded to whole bytes) or one number each.
    """
    a, b, y = n.x(0), n.x(1), n.y()
    rows, blocks, bits = b[0], b[1], int(n.attr("bits", 4))
    n.freeze(b[2], "packed numbers of a block")
    n.same(a[:-1], y[:-1])
    n.eq(y[-1], rows)
    block = n.atom(int(n.attr("block_size")))
    n.freeze(block, "block of a quantised weight")
    if size_of(a[-1]) == times([size_of(blocks), size_of(block)]):
        n.eq(a[-1], n.prod(blocks, block))
    else:
        n.freeze([a[-1], blocks], "padded block of a quantised weight")
    _per_block(n, 2, rows, blocks, 1)
    if n.has(3):
        packed = size_of(n.prod(*n.x(3))) != times([size_of(rows), size_of(blocks)])
        _per_block(n, 3, rows, blocks, 8 // bits if packed else 1)
    if n.has(4):
        n.freeze([a[-1], *n.x(4)], "an order of the contracted axis")
    if n.has(5):
        n.eq(n.x(5)[0], rows)
    n.encode("N", None, y[-1])
    n.encode("K", None, a[-1])
    for walked in (y[-1], a[-1]):
        n.together(*a[:-1], walked)
    n.macs(*y, a[-1])


def _per_block(n: NodeView, slot: int, rows: Term, blocks: Term, packed: int) -> None:
    """One number for every row and block, flat or [rows, blocks], `packed` of them in a byte."""
    listed = n.prod(*n.x(slot))
    if packed == 1:
        n.eq(listed, n.prod(rows, blocks))
        return
    count = size_of(blocks)[0]
    if count % packed:  # a row ends in a byte that is not full
        n.freeze(blocks, "packed zero points of an uneven number of blocks")
        n.eq(listed, n.prod(rows, n.atom(-(-count // packed))))
        return
    words, inner = n.atom(count // packed), n.atom(packed)
    n.freeze(inner, "packed zero points")
    n.eq(blocks, n.prod(words, inner))
    n.eq(listed, n.prod(rows, words))
