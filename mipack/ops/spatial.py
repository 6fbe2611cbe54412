"""Ops that rearrange space: channels pass or split into blocks, spatial axes are frozen."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import size_of
from mipack.ops.registry import rule


@rule("Resize", "Upsample")
def resize(n: NodeView) -> None:
    """Axes that keep their size pass (their scale is 1); sizes, where listed, follow them."""
    n.ignore(1, 2, 3)
    data = n.x(0)
    listed = [int(a) % len(data) for a in n.attr("axes") or range(len(data))]
    n.mixed(data, range(2, len(data)))
    for axis, (own, result) in enumerate(zip(data, n.y(), strict=True)):
        if axis < 2 and size_of(own) == size_of(result):
            n.eq(own, result)
            if n.has(3) and axis in listed:
                n.encode(3, listed.index(axis), result)
        else:
            n.freeze([own, result], "spatial axis")


@rule("DepthToSpace", "SpaceToDepth")
def blocks(n: NodeView) -> None:
    """Channels of the deep side = block^2 x c, or c x block^2 in mode CRD."""
    deep, flat = (n.x(0), n.y()) if n.op == "DepthToSpace" else (n.y(), n.x(0))
    block = n.atom(int(n.attr("blocksize")) ** 2)
    n.freeze([block, *deep[2:], *flat[2:]], "spatial axis")
    n.eq(deep[0], flat[0])
    crd = n.op == "DepthToSpace" and n.attr("mode", "DCR") == "CRD"
    n.eq(deep[1], n.prod(flat[1], block) if crd else n.prod(block, flat[1]))
