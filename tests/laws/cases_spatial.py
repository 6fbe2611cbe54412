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
