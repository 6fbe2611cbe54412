"""Ops that read an image at places given by another operand: channels pass, places are frozen."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import quotient, size_of
from mipack.ops.registry import rule


@rule("GridSample", "com.microsoft::GridSample")
def grid_sample(n: NodeView) -> None:
    """X [N, C, in..] at grid [N, out.., coordinates] -> [N, C, out..]."""
    data, grid, y = n.x(0), n.x(1), n.y()
    n.freeze([*data[2:], grid[-1]], "spatial axis")
    n.same(data[:2], y[:2])
    n.same([grid[0], *grid[1:-1]], [y[0], *y[2:]])
    n.together(data[0], data[1])
    n.together(*grid[:-1])


@rule("RoiAlign", "MaxRoiPool", "com.microsoft::CropAndResize")
def regions(n: NodeView) -> None:
    """X [N, C, H, W], regions [R, coordinates] (and the image of each, [R]) -> [R, C, h, w]."""
    data, boxes, y = n.x(0), n.x(1), n.y()
    n.freeze(data[0], "indexed by data")
    n.freeze([*data[2:], *boxes[1:], *y[2:]], "spatial axis")
    n.eq(boxes[0], y[0])
    n.eq(data[1], y[1])
    for index in n.x(2):
        n.eq(index, y[0])
    n.ignore(3)
    for walked in y[:2]:
        n.together(walked)


@rule("Col2Im")
def col2im(n: NodeView) -> None:
    """[N, C x block, blocks] -> [N, C, image..]: what blocks share is added up."""
    data, y = n.x(0), n.y()
    n.ignore(1, 2)
    block = n.atom(quotient(size_of(data[1]), size_of(y[1])))
    n.freeze([block, *data[2:], *y[2:]], "spatial axis")
    n.eq(data[0], y[0])
    n.eq(data[1], n.prod(y[1], block))
    n.together(data[0], y[1])
