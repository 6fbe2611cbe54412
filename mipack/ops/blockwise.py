"""Weights quantised in blocks along the contracted axis: whole blocks are cut, never a part."""

from __future__ import annotations

from mipack.graph.view import NodeView, without
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
    n.mixed(a, [len(a) - 1])
    n.together(blocks)  # goes as a whole: the places inside of it are no contexts
    n.macs(*y, a[-1])


def _per_block(n: NodeView, slot: int, rows: Term, blocks: Term, packed: int) -> None:
    """One number for every row and block, flat or [rows, blocks], `packed` of them in a byte."""
    listed = n.prod(*n.x(slot))
    if packed == 1:
        n.eq(listed, n.prod(rows, blocks))
        return
    count = size_of(blocks)[0]
    if count % packed:  # a row ends in a byte that is not full
        words = n.atom(-(-count // packed))
        n.freeze([blocks, words], "packed zero points of an uneven number of blocks")
        n.eq(listed, n.prod(rows, words))
        return
    words, inner = n.atom(count // packed), n.atom(packed)
    n.freeze(inner, "packed zero points")
    n.eq(blocks, n.prod(words, inner))
    n.eq(listed, n.prod(rows, words))


@rule("com.microsoft::MatMulBnb4")
def matmul_bnb4(n: NodeView) -> None:
    """A [.., K] x B [N x K / 2 bytes], one scale for every block of the flat N x K."""
    a, b, y = n.x(0), n.x(1), n.y()
    rows, size = y[-1], int(n.attr("block_size"))
    if int(n.attr("K")) % size or not n.attr("transB", 1):
        n.freeze_all("padded block of a quantised weight")
        return
    blocks, half, pair = n.atom(int(n.attr("K")) // size), n.atom(size // 2), n.atom(2)
    n.freeze([half, pair], "block of a quantised weight")
    n.same(a[:-1], y[:-1])
    n.eq(a[-1], n.prod(blocks, half, pair))
    n.eq(n.prod(*b), n.prod(rows, blocks, half))
    n.eq(n.x(2)[0], n.prod(rows, blocks))
    n.encode("N", None, rows)
    n.encode("K", None, a[-1])
    n.mixed(a, [len(a) - 1])
    n.together(blocks)  # goes as a whole: the places inside of it are no contexts
    n.macs(*y, a[-1])


@rule("com.microsoft::GatherBlockQuantized")
def gather_block_quantized(n: NodeView) -> None:
    """Rows of a table in blocks along another axis; bytes hold `8 / bits` numbers of the last axis.

    The result is Gather's of the table of floats; zero points are packed like the table.
    """
    data, indices, scales, y = n.x(0), n.x(1), n.x(2), n.y()
    axis = n.axis(len(data), "gather_axis")
    inner = n.axis(len(data), "quantize_axis", 1)
    made = [*y[:axis], data[axis], *y[axis + len(indices) :]]
    if axis == inner or int(n.attr("block_size", 128)) * _count(scales[inner]) != _count(
        made[inner]
    ):
        n.freeze_all("padded block of a quantised weight")
        return
    n.freeze(data[axis], "indexed by data")
    n.mixed(data, [axis])
    n.same(indices, y[axis : axis + len(indices)])
    packed = _count(made[inner]) // _count(data[inner])
    words, part = n.atom(int(n.attr("block_size", 128)) // packed), n.atom(packed)
    n.freeze([words, part], "block of a quantised weight")
    n.eq(made[inner], n.prod(scales[inner], words, part))
    n.eq(data[inner], n.prod(scales[inner], words))
    for other in (data, scales):
        n.same(without(other, {inner}), without(made, {inner}))
    if n.has(3):
        points = n.x(3)
        n.same(without(points, {inner}), without(made, {inner}))
        _packed(n, points[inner], scales[inner])


def _packed(n: NodeView, points: Term, blocks: Term) -> None:
    """Zero points along the blocks, one or several in a number."""
    if _count(points) == _count(blocks):
        n.eq(points, blocks)
    elif _count(blocks) % _count(points):
        n.freeze([points, blocks], "packed zero points of an uneven number of blocks")
    else:
        part = n.atom(_count(blocks) // _count(points))
        n.freeze(part, "packed zero points")
        n.eq(blocks, n.prod(points, part))


def _count(axis: Term) -> int:
    return size_of(axis)[0]
