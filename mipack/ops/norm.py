"""Normalisations: the normalised axes are widths, scale and shift follow them."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import size_of
from mipack.ops.registry import rule


@rule("BatchNormalization")
def batch_norm(n: NodeView) -> None:
    """Statistics are constants per channel: nothing is averaged over channels."""
    channel_vectors(n)


@rule("InstanceNormalization")
def instance_norm(n: NodeView) -> None:
    """Averages over the spatial axes of each channel."""
    channel_vectors(n)
    for term in n.x(0)[2:]:
        n.normalise(term)


def channel_vectors(n: NodeView) -> None:
    """Every operand but the first is a vector of channels."""
    data = n.x(0)
    for i in range(1, len(n.inputs)):
        if n.has(i):
            n.eq(n.x(i)[0], data[1])
    n.same(data, n.y())
    if len(n.outputs) > 1:  # training form
        n.freeze(data[1], "training statistics")


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_norm(n: NodeView) -> None:
    """Averages over the axes from `axis` on."""
    data = n.x(0)
    n.same(data, n.y())
    start = n.axis(len(data), default=-1)
    for term in data[start:]:
        n.normalise(term)
    n.mixed(data, range(start, len(data)))
    for i in range(1, len(n.inputs)):
        n.align(i)
    for j in range(1, len(n.outputs)):  # mean and inverse deviation keep the outer axes
        for own, result in zip(data, n.y(j), strict=False):
            if size_of(own) == size_of(result):
                n.eq(own, result)


@rule("Softmax", "LogSoftmax", "Hardmax", "LpNormalization")
def softmax(n: NodeView) -> None:
    """Couples the positions of one axis (before opset 13: of all axes from it on)."""
    data = n.x(0)
    old = n.opset < 13 and n.op != "LpNormalization"
    axis = n.axis(len(data), default=1 if old else -1)
    n.same(data, n.y())
    axes = range(axis, len(data)) if old else [axis]
    for k in axes:
        n.normalise(data[k])
    n.mixed(data, axes)


@rule("MeanVarianceNormalization")
def mean_variance(n: NodeView) -> None:
    """Averages over the listed axes."""
    data = n.x(0)
    axes = [int(a) % len(data) for a in n.attr("axes", [0, 2, 3])]
    n.same(data, n.y())
    for k in axes:
        n.normalise(data[k])
    n.mixed(data, axes)


@rule("GroupNormalization")
def group_norm(n: NodeView) -> None:
    """C = groups x c; averages over c and the spatial axes."""
    data, groups = n.x(0), int(n.attr("num_groups"))
    group, inner = n.atom(groups), n.atom(size_of(data[1])[0] // groups)
    n.eq(data[1], n.prod(group, inner))
    n.encode("num_groups", None, group)
    for term in [inner, *data[2:]]:
        n.normalise(term)
    n.together(data[0], group)
    for i in (1, 2):
        vector = n.x(i)[0]
        n.eq(vector, data[1] if size_of(vector) == size_of(data[1]) else group)
    n.same(data, n.y())
