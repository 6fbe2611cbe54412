"""Resizing and moving channels to space."""

from __future__ import annotations

import numpy as np
from lawkit import IMAGES, Build, Cases

spatial = Cases()


@spatial(opsets=(11, 13, 19), cut=[8], **IMAGES)
def resize_by_scales(b: Build) -> str:
    h = b.Relu(b.conv("x", 3, 8))
    h = b.Resize(h, np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32), mode="nearest")
    return b.conv(h, 8, 4, 1)


@spatial(cut=[8], x=("B", 3, 6, 6))
def resize_to_listed_sizes(b: Build) -> str:
    h = b.Relu(b.conv("x", 3, 8))
    batch = b.Slice(b.Shape(h), [0], [1])
    h = b.Resize(h, None, None, b.Concat(batch, [8, 12, 12], axis=0), mode="linear")
    return b.conv(h, 8, 4, 1)


@spatial(cut=[8], x=("B", 3, 6, 6))
def resize_of_listed_axes(b: Build) -> str:
    """Sizes of the listed axes only: none of them is that of channels."""
    h = b.Resize(b.Relu(b.conv("x", 3, 8)), None, None, b.const([12, 14]), axes=[2, 3])
    return b.conv(h, 8, 4, 1)


@spatial(cut=[8], x=("B", 3, 6, 6))
def resize_of_listed_axes_with_channels(b: Build) -> str:
    """Sizes in an order of their own, channels among them."""
    h = b.Resize(b.Relu(b.conv("x", 3, 8)), None, None, b.const([12, 8, 14]), axes=[2, 1, -1])
    return b.conv(h, 8, 4, 1)


@spatial(cut=[8], x=("B", 6, 6, 16))
def resize_with_channels_last(b: Build) -> str:
    scales = np.array([1, 2, 2, 1], np.float32)
    h = b.Resize(b.Relu(b.lin("x", 16, 8)), None, scales, mode="nearest")
    return b.lin(h, 8, 4)


@spatial(cut=[8], x=("B", 3, 6, 6))
def resize_by_scales_from_the_shape(b: Build) -> str:
    """[1, 1] before what only a run shows."""
    h = b.Relu(b.conv("x", 3, 8))
    zero = b.Mul(b.ReduceSum("x", keepdims=0), np.float32(0))
    twice = b.Reshape(b.Add(zero, np.float32(2)), [1])
    scales = b.Concat(np.ones(2, np.float32), twice, twice, axis=0)
    return b.conv(b.Resize(h, None, scales, mode="nearest"), 8, 4, 1)


@spatial(cut=[], stays={8: "spatial"}, x=("B", 3, 6, 6))
def resize_by_hardly_more(b: Build) -> str:
    """As many channels as before, read at other places."""
    scales = np.array([1, 1.1, 1, 1], np.float32)
    return b.conv(b.Resize(b.conv("x", 3, 8), None, scales, mode="nearest"), 8, 4, 1)


@spatial(cut=[], stays={8: "spatial"}, x=("B", 3, 6, 6))
def resize_of_a_window_of_channels(b: Build) -> str:
    window = np.array([0, 0.2, 0, 0, 1, 1, 1, 1], np.float32)
    h = b.Resize(
        b.conv("x", 3, 8),
        window,
        np.ones(4, np.float32),
        mode="nearest",
        coordinate_transformation_mode="tf_crop_and_resize",
    )
    return b.conv(h, 8, 4, 1)


@spatial(opsets=(19,), cut=[], stays={8: "spatial"}, x=("B", 3, 6, 6))
def resize_that_keeps_an_aspect_ratio(b: Build) -> str:
    """Sizes are bounds only: what scale channels have depends on the others."""
    sizes = b.const([8, 6, 6])
    h = b.Resize(b.conv("x", 3, 8), None, None, sizes, axes=[1, 2, 3], mode="nearest",
                 keep_aspect_ratio_policy="not_larger")  # fmt: skip
    return b.conv(h, 8, 4, 1)


@spatial(cut=[4], stays={6: "spatial"})
def a_window_resized_beside_a_residual(b: Build) -> str:
    """[B, 4, 1, 6] with its middle blown up to 6 places again, and added: channels are not chosen
    per place."""
    h = b.Add(b.Reshape(b.lin("x", 16, 24), [0, 4, 1, 6]), b.w(6, scale=1.0))
    window = np.array([0, 0, 0, 0.2, 1, 1, 1, 0.8], np.float32)
    y = b.Resize(
        h,
        window,
        np.ones(4, np.float32),
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    )
    return b.lin(b.Reshape(b.Sigmoid(b.Add(h, y)), [0, 24]), 24, 5)


@spatial(cut=[4, (3, 4)], x=(16,))
def depth_to_space_of_a_cut_batch(b: Build) -> str:
    h = b.Reshape(b.MatMul("x", b.w(16, 48)), [4, 12, 1, 1])
    h = b.GlobalMaxPool(b.DepthToSpace(h, blocksize=2))
    return b.MatMul(b.Sigmoid(b.Reshape(h, [12])), b.w(12, 5))


@spatial(opsets=(9,), cut=[8], **IMAGES)
def upsample(b: Build) -> str:
    h = b.Upsample(b.Relu(b.conv("x", 3, 8)), np.array([1, 1, 2, 2], np.float32), mode="nearest")
    return b.conv(h, 8, 4, 1)


@spatial(cut=[6], **IMAGES)
def depth_to_space(b: Build) -> str:
    h = b.DepthToSpace(b.Sigmoid(b.conv("x", 3, 24)), blocksize=2)
    return b.conv(b.Relu(h), 6, 4, 1)


@spatial(cut=[6], **IMAGES)
def depth_to_space_channels_first(b: Build) -> str:
    h = b.DepthToSpace(b.Sigmoid(b.conv("x", 3, 24)), blocksize=2, mode="CRD")
    return b.conv(b.Relu(h), 6, 4, 1)


@spatial(cut=[6], **IMAGES)
def space_to_depth(b: Build) -> str:
    return b.conv(b.Relu(b.SpaceToDepth(b.Sigmoid(b.conv("x", 3, 6)), blocksize=2)), 24, 4, 1)
