"""Ops that rearrange space: channels pass or split into blocks, spatial axes are frozen."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import size_of
from mipack.ops.registry import rule


@rule("Resize", "Upsample")
def resize(n: NodeView) -> None:
    """Axes whose scale is 1 pass; sizes, where listed, follow them."""
    data, y = n.x(0), n.y()
    listed = [int(a) % len(data) for a in n.attr("axes") or range(len(data))]
    kept = [k for k in range(len(data)) if _keeps(n, k, listed)]
    n.ignore(1, 2, 3)
    n.mixed(data, set(range(len(data))).difference(kept))
    for axis, (own, result) in enumerate(zip(data, y, strict=True)):
        if axis in kept:
            n.eq(own, result)
            if n.has(3) and axis in listed:
                n.encode(3, listed.index(axis), result)
        else:
            n.freeze([own, result], "spatial axis")


def _keeps(n: NodeView, axis: int, listed: list[int]) -> bool:
    """Whether every position of an axis stays itself. A scale near 1 may leave the size alone and
    move what is in between; scales of a run are taken for 1 where images have no places."""
    if size_of(n.x(0)[axis]) != size_of(n.y()[axis]):
        return False
    if axis not in listed:
        return True
    at = listed.index(axis)
    if n.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        window = n.const(1)
        if window is None or (window[at], window[at + len(listed)]) != (0, 1):
            return False
    if n.has(3):
        return bool(n.attr("keep_aspect_ratio_policy", "stretch") == "stretch")
    scales = n.const(1 if len(n.inputs) == 2 else 2)
    return axis < 2 if scales is None else bool(scales[at] == 1)


@rule("DepthToSpace", "SpaceToDepth")
def blocks(n: NodeView) -> None:
    """Channels of the deep side = block^2 x c, or c x block^2 in mode CRD."""
    deep, flat = (n.x(0), n.y()) if n.op == "DepthToSpace" else (n.y(), n.x(0))
    block = n.atom(int(n.attr("blocksize")) ** 2)
    n.freeze([block, *deep[2:], *flat[2:]], "spatial axis")
    n.eq(deep[0], flat[0])
    crd = n.op == "DepthToSpace" and n.attr("mode", "DCR") == "CRD"
    n.eq(deep[1], n.prod(flat[1], block) if crd else n.prod(block, flat[1]))
