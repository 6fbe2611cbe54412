"""Convolutions, pools and norms."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mipack.ops.torch.call import Call, Function, op
from mipack.ops.torch.pointwise import BINARY, UNARY

CONV: dict[int, Function] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE: dict[int, Function] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
MAX_POOL: dict[int, Function] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOL: dict[int, Function] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _window(call: Call, x: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (begins, then ends) of a sliding window; SAME is resolved."""
    rank = len(kernel)
    strides = call.attr("strides", [1] * rank)
    dilations = call.attr("dilations", [1] * rank)
    auto = call.attr("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return strides, dilations, call.attr("pads", [0] * 2 * rank)
    begins, ends = [0] * rank, [0] * rank
    for k in range(rank if auto.startswith("SAME") else 0):
        span = dilations[k] * (kernel[k] - 1) + 1
        places = -(-x.shape[2 + k] // strides[k])
        whole = max(0, (places - 1) * strides[k] + span - x.shape[2 + k])
        begins[k] = whole // 2 if auto == "SAME_UPPER" else whole - whole // 2
        ends[k] = whole - begins[k]
    return strides, dilations, begins + ends


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    rank = len(pads) // 2
    flat = [p for k in reversed(range(rank)) for p in (pads[k], pads[rank + k])]
    return F.pad(x, flat, value=value) if any(pads) else x


def convolve(call: Call, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """Zero padding of any kind; equal sides go to the kernel."""
    strides, dilations, pads = _window(call, x, w.shape[2:])
    rank = len(strides)
    if rank not in CONV:
        raise call.refuse(f"no torch convolution over {rank} axes")
    equal = pads[:rank] == pads[rank:]
    x = x if equal else _padded(x, pads)
    group = call.attr("group", 1)
    return CONV[rank](x, w, b, strides, pads[:rank] if equal else 0, dilations, group)


@op("Conv")
def conv(call: Call, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Over one to three axes."""
    return convolve(call, x, w, b)


@op("ConvTranspose")
def conv_transpose(call: Call, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Computed without padding, then cropped: `output_shape` and SAME say how much."""
    kernel = w.shape[2:]
    rank = len(kernel)
    if rank not in CONV_TRANSPOSE:
        raise call.refuse(f"no torch convolution over {rank} axes")
    strides, dilations = call.attr("strides", [1] * rank), call.attr("dilations", [1] * rank)
    extra = call.attr("output_padding", [0] * rank)
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    whole = [
        strides[k] * (x.shape[2 + k] - 1) + extra[k] + spans[k] for k in range(rank)
    ]  # without any crop
    begins, sizes = _cropped(call, x, whole, strides)
    function, groups = CONV_TRANSPOSE[rank], call.attr("group", 1)
    y = function(x, w, None, strides, 0, 0, groups, dilations)
    ends = [sizes[k] + begins[k] - y.shape[2 + k] for k in range(rank)]
    y = _padded(y, [-b for b in begins] + ends)
    return y if b is None else y + b.reshape([-1] + [1] * rank)


def _cropped(
    call: Call, x: Tensor, whole: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """How much is cut at the begin of each axis, and the size that stays."""
    rank = len(whole)
    auto, shape = call.attr("auto_pad", "NOTSET"), call.attr("output_shape")
    if shape is None and not auto.startswith("SAME"):
        pads = call.attr("pads", [0] * 2 * rank)
        return pads[:rank], [whole[k] - pads[k] - pads[rank + k] for k in range(rank)]
    if shape is None:
        shape = [x.shape[2 + k] * strides[k] for k in range(rank)]
    shape = shape[-rank:]
    total = [max(0, whole[k] - shape[k]) for k in range(rank)]
    upper = auto == "SAME_UPPER"
    return [t // 2 if upper else t - t // 2 for t in total], list(shape)


def _ceiled(
    call: Call, x: Tensor, kernel: Sequence[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, dilations, pads, and how far the last window reaches beyond them (ceil_mode)."""
    strides, dilations, pads = _window(call, x, kernel)
    rank, over = len(kernel), [0] * len(kernel)
    for k in range(rank if call.attr("ceil_mode", 0) else 0):
        size = x.shape[2 + k] + pads[k] + pads[rank + k]
        span = dilations[k] * (kernel[k] - 1) + 1
        steps = -(-(size - span) // strides[k])
        if steps * strides[k] >= x.shape[2 + k] + pads[k]:
            steps -= 1  # a window must start in the data
        over[k] = max(0, steps * strides[k] + span - size)
    return strides, dilations, pads, over


@op("MaxPool")
def max_pool(call: Call, x: Tensor) -> Any:
    """The maximum; indices are not computed."""
    kernel = call.attr("kernel_shape")
    if call.results > 1 and call.node.outputs[1].name:
        raise call.refuse("the indices of MaxPool are not computed")
    strides, dilations, pads, over = _ceiled(call, x, kernel)
    rank = len(kernel)
    x = _padded(
        x, [*pads[:rank], *(p + o for p, o in zip(pads[rank:], over, strict=True))], -torch.inf
    )
    return MAX_POOL[rank](x, kernel, strides, 0, dilations)


@op("AveragePool")
def average_pool(call: Call, x: Tensor) -> Tensor:
    """The sum of a window over the elements in it; padding counts on request."""
    kernel = call.attr("kernel_shape")
    strides, dilations, pads, over = _ceiled(call, x, kernel)
    rank, counts_pads = len(kernel), bool(call.attr("count_include_pad", 0))
    beyond = [0] * rank + over
    if not any(pads) and not any(over) and max(dilations) == 1:
        return AVERAGE_POOL[rank](x, kernel, strides)
    ones = torch.ones([1, 1, *x.shape[2:]], device=x.device)
    ones = _padded(_padded(ones, pads, float(counts_pads)), beyond)
    channels = x.shape[1]
    window = torch.ones([1, 1, *kernel], device=x.device)
    x = _padded(_padded(x, pads), beyond)
    many = window.expand(channels, 1, *kernel)
    total = CONV[rank](x, many, None, strides, 0, dilations, channels)
    return total / CONV[rank](ones, window, None, strides, 0, dilations)


@op("LpPool")
def lp_pool(call: Call, x: Tensor) -> Tensor:
    """The p-norm of a window."""
    kernel, p = call.attr("kernel_shape"), call.attr("p", 2)
    strides, dilations, pads, over = _ceiled(call, x, kernel)
    channels, rank = x.shape[1], len(kernel)
    window = torch.ones([channels, 1, *kernel], device=x.device)
    x = _padded(_padded(x.abs() ** p, pads), [0] * rank + over)
    total = CONV[rank](x, window, None, strides, 0, dilations, channels)
    return torch.where(total > 0, total, 1e-30) ** (1 / p)


@op("GlobalAveragePool")
def global_average_pool(call: Call, x: Tensor) -> Tensor:
    """Over all spatial axes."""
    return x.mean(list(range(2, x.dim())), keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(call: Call, x: Tensor) -> Tensor:
    """Over all spatial axes."""
    return x.amax(list(range(2, x.dim())), keepdim=True)


@op("GlobalLpPool")
def global_lp_pool(call: Call, x: Tensor) -> Tensor:
    """Over all spatial axes."""
    axes = list(range(2, x.dim()))
    return torch.linalg.vector_norm(x, call.attr("p", 2), axes, keepdim=True)


# ---------------------------------------------------------------- norms


def along(vector: Tensor, x: Tensor, axis: int = 1) -> Tensor:
    """A vector shaped to broadcast along an axis of x."""
    shape = [1] * x.dim()
    shape[axis] = -1
    return vector.reshape(shape)


@op("BatchNormalization")
def batch_normalization(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """Inference only."""
    if call.attr("training_mode", 0):
        raise call.refuse("BatchNormalization in training mode mixes samples")
    factor = scale / torch.sqrt(variance + call.attr("epsilon", 1e-5))
    return (x - along(mean, x)) * along(factor, x) + along(bias, x)


@op("InstanceNormalization")
def instance_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Per sample and channel."""
    return F.group_norm(x, x.shape[1], scale, bias, call.attr("epsilon", 1e-5))


@op("GroupNormalization")
def group_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Scale and bias per channel; per group before opset 21."""
    groups, channels = call.attr("num_groups"), x.shape[1]
    if len(scale) != channels:
        scale, bias = (v.repeat_interleave(channels // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, call.attr("epsilon", 1e-5))


@op("LayerNormalization")
def layer_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    """Over the last axes; mean and 1 / deviation are results too."""
    axis = call.attr("axis", -1) % x.dim()
    y = layer_norm(x, scale, bias, axis, call.attr("epsilon", 1e-5))
    if call.results == 1:
        return y
    axes = list(range(axis, x.dim()))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return y, mean, torch.rsqrt(variance + call.attr("epsilon", 1e-5))


def layer_norm(x: Tensor, scale: Tensor, bias: Tensor | None, axis: int, epsilon: float) -> Tensor:
    """Scale and bias broadcast to the axes that are averaged over."""
    shape = x.shape[axis:]
    y = F.layer_norm(x, shape, None, None, epsilon)
    if scale.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(x, shape, scale, bias, epsilon)
    y = y * scale
    return y if bias is None else y + bias


@op("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(call: Call, x: Tensor, scale: Tensor) -> Any:
    """x over its root mean square."""
    axes = list(range(call.attr("axis", -1) % x.dim(), x.dim()))
    factor = torch.rsqrt(x.square().mean(axes, keepdim=True) + call.attr("epsilon", 1e-5))
    y = x * factor * scale
    return (y, factor) if call.results > 1 else y


@op("MeanVarianceNormalization")
def mean_variance_normalization(call: Call, x: Tensor) -> Tensor:
    """Over samples and space by default."""
    axes = call.attr("axes", [0, 2, 3])
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


@op("LRN")
def lrn(call: Call, x: Tensor) -> Tensor:
    """Over neighbouring channels."""
    size = call.attr("size")
    flat = x.square().reshape(x.shape[0], 1, x.shape[1], prod(x.shape[2:]))
    flat = F.pad(flat, (0, 0, (size - 1) // 2, size // 2))
    total = F.avg_pool2d(flat, (size, 1), stride=1).reshape(x.shape)  # the mean: alpha / size
    alpha, beta, bias = call.attr("alpha", 1e-4), call.attr("beta", 0.75), call.attr("bias", 1.0)
    return x / (bias + alpha * total) ** beta


# ---------------------------------------------------------------- with an activation


def activated(call: Call, x: Tensor) -> Tensor:
    """The activation that a fused op names."""
    name = call.attr("activation")
    if not name:
        return x
    parameters = call.attr("activation_params", [])
    if name == "LeakyRelu":
        alpha = parameters[0] if parameters else call.attr("activation_alpha", 0.01)
        return F.leaky_relu(x, alpha)
    if name == "HardSigmoid" and parameters:
        return torch.clamp(parameters[0] * x + parameters[1], 0, 1)
    if name == "Clip" and parameters:
        return torch.clamp(x, parameters[0], parameters[1])
    if name not in UNARY:
        raise call.refuse(f"activation {name} has no torch function here")
    return UNARY[name](x)


@op("com.microsoft::FusedConv")
def fused_conv(
    call: Call, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None
) -> Tensor:
    """A convolution, what is added to it, an activation."""
    y = convolve(call, x, w, b)
    return activated(call, y if z is None else BINARY["Add"](y, z))
