"""Sites: the contractions that absorb groups, seen as y = x . W with one row per position.

Features of a site are the positions of the contracted axis; of a convolution the patch entries,
channel by channel (C x kernel), so that the weight [out, C, kernel..] flattens to the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mipack.couple.positions import unit_positions
from mipack.couple.solve import Coupling, Group
from mipack.graph.view import Linear
from mipack.layout import Term, leaves, size_of
from mipack.surgery.keep import Keep

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Site:
    """A linear consumer of free groups; `name` is its node's name, unique in the graph."""

    name: str
    linear: Linear
    channels: int
    outputs: int

    @cached_property
    def taps(self) -> int:
        """Features per channel: the kernel's size."""
        return prod(self.linear.window.kernel) if self.linear.window else 1

    @property
    def features(self) -> int:
        """Columns of x, rows of W."""
        return self.channels * self.taps

    def matrix(self, weight: Array) -> Array:
        """The weight as [features, outputs], float64."""
        order = [self.linear.w_out, self.linear.w_in]
        order += [k for k in range(weight.ndim) if k not in order]
        flat = weight.transpose(order).reshape(weight.shape[self.linear.w_out], -1)
        return flat.T.astype(np.float64) * self.linear.scale

    def weight(self, matrix: Array, like: Array) -> Array:
        """The inverse of `matrix`, in the dtype of `like` and with matrix's own sizes."""
        kernel = self.linear.window.kernel if self.linear.window else ()
        outputs = matrix.shape[1]
        grid = (matrix.T / self.linear.scale).reshape(outputs, -1, *kernel)
        axes = [self.linear.w_out, self.linear.w_in]
        axes += [k for k in range(grid.ndim) if k not in axes]
        return np.ascontiguousarray(grid.transpose(np.argsort(axes)).astype(like.dtype))

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """x as [positions.., features] (positions keep their axes; spatial ones are flattened)."""
        if self.linear.window is None:
            return x.movedim(self.linear.x_axis, -1)
        return patches(x, self.linear.window)


def patches(x: torch.Tensor, window: Any) -> torch.Tensor:
    """[N, C, spatial..] -> [N, places, C * kernel], zero padding as the convolution sees it."""
    import torch.nn.functional as functional

    rank = len(window.kernel)
    begins, ends = window.pads[:rank], window.pads[rank:]
    pads = [p for b, e in zip(reversed(begins), reversed(ends), strict=True) for p in (b, e)]
    x = functional.pad(x, pads)
    for axis in range(rank):
        kernel, dilation, stride = (
            window.kernel[axis],
            window.dilations[axis],
            window.strides[axis],
        )
        span = dilation * (kernel - 1) + 1
        x = x.unfold(2 + axis, span, stride)[..., ::dilation]
    # [N, C, places.., kernel..] -> [N, places.., C, kernel..]
    order = [0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank)]
    x = x.permute(order)
    return x.reshape(x.shape[0], prod(x.shape[1 : 1 + rank]), -1)


def sites_of(coupling: Coupling, groups: Sequence[Group]) -> tuple[Site, ...]:
    """Every site that reads one of these groups, in topological order."""
    atoms = {group.atom for group in groups}
    found = []
    for linear in coupling.said.linears:
        axis = coupling.axes[linear.x][linear.x_axis]
        if atoms.intersection(leaves(axis)):
            outputs = coupling.constants[linear.w].shape[linear.w_out]
            found.append(Site(linear.node.name or "", linear, size_of(axis)[0], outputs))
    return tuple(found)


def feature_blocks(site: Site, axis: Term, atom: Term, within: Sequence[Term] = ()) -> Array:
    """Features that belong to each unit (of every context in turn): [units, features per unit]."""
    channels = unit_positions(axis, atom, within)
    spread = channels[:, :, None] * site.taps + np.arange(site.taps)
    return spread.reshape(len(channels), -1)


def blocks_at(coupling: Coupling, site: Site, group: Group) -> Array:
    """`feature_blocks` of a group at one of its sites."""
    axis = coupling.axes[site.linear.x][site.linear.x_axis]
    return feature_blocks(site, axis, group.atom, group.within)


def kept_features(coupling: Coupling, site: Site, keep: Keep) -> Array:
    """The features of a site that stay, ascending."""
    channels = keep.flat(coupling.axes[site.linear.x][site.linear.x_axis])
    return (channels[:, None] * site.taps + np.arange(site.taps)).reshape(-1)
