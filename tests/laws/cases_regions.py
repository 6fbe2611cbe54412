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
