"""Images read at places that another operand gives, and blocks put back in their places."""

from __future__ import annotations

import numpy as np
from lawkit import IMAGES, Build, Cases

regions = Cases()
MS = "com.microsoft"
MAP = {"x": ("B", 3, 8, 8)}
BOXES = np.array([[0, 0, 5, 5], [1, 2, 7, 6]], np.float32)


@regions(opsets=(16, 20), cut=[8], g=("B", 5, 4, 2), **IMAGES)
def sampled_at_a_grid(b: Build) -> str:
    h = b.GridSample(b.Sigmoid(b.conv("x", 3, 8)), "g", align_corners=1)
    return b.conv(h, 8, 4, 1)


@regions(cut=[6, 8], x=("B", 3, 8, 8), q=("B", 16))
def sampled_at_places_that_are_cut(b: Build) -> str:
    """Deformable attention: every query reads a few points of its own."""
    grid = b.Tanh(b.Reshape(b.lin("q", 16, 12), [0, 6, 1, 2]))
    h = b.GridSample(b.Sigmoid(b.conv("x", 3, 8)), grid)  # [B, 8, 6, 1]
    h = b.MatMul(b.Transpose(b.Squeeze(h, [3]), perm=[0, 2, 1]), b.w(8, 3))  # [B, 6, 3]
    return b.MatMul(b.Transpose(h, perm=[0, 2, 1]), b.w(6, 5))


@regions(opsets=(10, 16), cut=[8], **MAP)
def regions_of_interest(b: Build) -> str:
    h = b.RoiAlign(
        b.Sigmoid(b.conv("x", 3, 8)), b.const(BOXES), b.const([1, 0]), output_height=3,
        output_width=2,
    )  # fmt: skip
    return b.conv(h, 8, 4, 1)


@regions(cut=[8], **MAP)
def pooled_regions(b: Build) -> str:
    boxes = np.concatenate([np.array([[1], [0]], np.float32), BOXES], axis=1)
    h = b.MaxRoiPool(b.Sigmoid(b.conv("x", 3, 8)), b.const(boxes), pooled_shape=[3, 2])
    return b.conv(h, 8, 4, 1)


@regions(cut=[8], **MAP)
def cropped_regions(b: Build) -> str:
    h = b.CropAndResize(
        b.Sigmoid(b.conv("x", 3, 8)), b.const(BOXES / 8), b.const([1, 0], "int32"),
        b.const([4, 3], "int32"), domain=MS,
    )  # fmt: skip
    return b.conv(h, 8, 4, 1)


@regions(cut=[5], x=(5, 8))
def regions_chosen_by_a_layer(b: Build) -> str:
    """Regions are units too: each is read with its own coordinates."""
    image = b.const(b.rng.standard_normal((1, 2, 8, 8)), np.float32)
    boxes = b.Abs(b.MatMul(b.w(5, 5), b.MatMul("x", b.w(8, 4))))
    h = b.RoiAlign(image, boxes, b.const([0] * 5), output_height=2, output_width=2)
    return b.MatMul(b.w(3, 5), b.Reshape(h, [5, 8]))


@regions(cut=[6, 8], x=("B", 3, 9))
def blocks_to_an_image(b: Build) -> str:
    h = b.Transpose(b.lin(b.Transpose("x", perm=[0, 2, 1]), 3, 8), perm=[0, 2, 1])
    h = b.Sigmoid(b.Conv(h, b.w(24, 8, 1), b.w(24)))
    h = b.Col2Im(h, b.const([4, 4]), b.const([2, 2]))  # [B, 6, 4, 4]
    return b.conv(h, 6, 4, 1)


@regions(cut=[8], g=("B", 5, 4, 2), **IMAGES)
def sampled_at_a_grid_by_the_runtime(b: Build) -> str:
    return b.conv(b.GridSample(b.Sigmoid(b.conv("x", 3, 8)), "g", domain=MS), 8, 4, 1)


@regions(opsets=(19, 22), cut=[9, (4, 2)], x=("B", 3, 6, 6))
def convolved_at_moved_places(b: Build) -> str:
    h = b.conv("x", 3, 8)
    moved, weight = b.conv("x", 3, 2 * 2 * 9), b.Sigmoid(b.conv("x", 3, 2 * 9))
    h = b.DeformConv(h, b.w(9, 8, 3, 3), moved, b.w(9), weight, offset_group=2, pads=[1] * 4)
    return b.conv(b.Relu(h), 9, 4, 1)


@regions(cut=[8, 9], x=("B", 3, 6, 6))
def transposed_with_pads_of_an_operand(b: Build) -> str:
    h = b.Relu(b.conv("x", 3, 8))
    h = b.ConvTransposeWithDynamicPads(h, b.w(8, 9, 3, 3), b.const([1] * 4), b.w(9), domain=MS)
    return b.conv(h, 9, 4, 1)


# ---------------------------------------------------------------- kept alike beside a residual


def _image(b: Build) -> str:
    """[1, 4, 1, 6] with a vector along its places: 4 might be chosen per place."""
    h = b.Reshape(b.MatMul("x", b.w(16, 24)), [1, 4, 1, 6])
    return str(b.Add(h, b.w(6, scale=1.0)))


def _out(b: Build, h: str) -> str:
    return b.MatMul(b.Reshape(b.Sigmoid(h), [24]), b.w(24, 5))


@regions(cut=[4], stays={6: ""}, x=(16,))
def sampled_beside_a_residual(b: Build) -> str:
    h = _image(b)
    grid = b.const(b.rng.uniform(-1, 1, (1, 1, 6, 2)), np.float32)
    return _out(b, b.Add(h, b.GridSample(h, grid)))


@regions(cut=[4], stays={6: ""}, x=(16,))
def a_region_beside_a_residual(b: Build) -> str:
    h = _image(b)
    box = b.const([[0, 0, 4, 1]], np.float32)
    return _out(b, b.Add(h, b.RoiAlign(h, box, b.const([0]), output_height=1, output_width=6)))


@regions(cut=[6], stays={2: ""}, x=("B", 2, 8, 8), q=("B", 16))
def coordinates_moved_by_what_is_read(b: Build) -> str:
    """A flow that is refined: the two channels are tied to the two coordinates."""
    grid = b.Tanh(b.Reshape(b.lin("q", 16, 12), [0, 6, 1, 2]))
    read = b.GridSample(b.Sigmoid(b.conv("x", 2, 2)), grid)  # [B, 2, 6, 1]
    moved = b.Add(grid, b.Transpose(read, perm=[0, 2, 3, 1]))
    return b.lin(b.Reshape(moved, [0, 12]), 12, 5)


@regions(cut=[2], stays={3: "indexed by data"}, x=(5, 8))
def images_chosen_by_data(b: Build) -> str:
    h = b.Reshape(b.MatMul(b.w(24, 5), "x"), [3, 2, 4, 8])
    box = b.const([[0, 0, 4, 4]], np.float32)
    h = b.RoiAlign(h, box, b.const([1]), output_height=2, output_width=2)
    return b.MatMul(b.Reshape(h, [1, 8]), b.w(8, 5))


@regions(cut=[3, (2, 3)], stays={4: "spatial axis"}, x=(16,))
def blocks_of_a_cut_batch(b: Build) -> str:
    h = b.Reshape(b.MatMul("x", b.w(16, 96)), [3, 8, 4])
    y = b.Col2Im(h, b.const([4, 4]), b.const([2, 2]), strides=[2, 2])  # [3, 2, 4, 4]
    return b.MatMul(b.Reshape(b.Tanh(y), [96]), b.w(96, 5))


@regions(cut=[3, (2, 3)], stays={4: ""}, x=(16,))
def blocks_beside_a_residual(b: Build) -> str:
    h = b.Add(b.Reshape(b.MatMul("x", b.w(16, 96)), [3, 8, 4]), b.w(4, scale=1.0))
    y = b.Col2Im(h, b.const([4, 4]), b.const([2, 2]), strides=[2, 2])
    return b.MatMul(b.Reshape(b.Tanh(b.Add(h, b.Reshape(y, [3, 8, 4]))), [96]), b.w(96, 5))


@regions(opsets=(19,), x=(16,))
def images_convolved_at_places_of_their_own(b: Build) -> str:
    h = b.Reshape(b.MatMul("x", b.w(16, 96)), [3, 2, 4, 4])
    moved = b.Reshape(b.MatMul("x", b.w(16, 96)), [3, 2, 4, 4])
    h = b.DeformConv(h, b.w(5, 2, 1, 1), moved)
    return b.MatMul(b.Reshape(b.Tanh(h), [240]), b.w(240, 5))
