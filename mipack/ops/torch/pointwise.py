"""Ops that act on every element alone, and broadcasting."""

from __future__ import annotations

from functools import reduce
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from mipack.ops.torch.call import Call, Function, op

TYPES = {
    ir.DataType.BOOL: torch.bool,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.int32,  # torch computes little with wider unsigned integers
    ir.DataType.UINT32: torch.int64,
    ir.DataType.UINT64: torch.int64,
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float32,
    ir.DataType.BFLOAT16: torch.float32,
    ir.DataType.DOUBLE: torch.float32,
}
"""Every floating type is computed in float32."""

UNARY: dict[str, Function] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "com.microsoft::Gelu": F.gelu,
}
BINARY: dict[str, Function] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
VARIADIC: dict[str, Function] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}


def _without_call(function: Function) -> Function:
    return lambda _, *operands: function(*operands)


for _name, _function in (UNARY | BINARY).items():
    op(_name)(_without_call(_function))
for _name, _function in VARIADIC.items():
    op(_name)(lambda _, *xs, function=_function: reduce(function, xs))


@op("Mean")
def mean(call: Call, *xs: Tensor) -> Tensor:
    """The mean of the operands."""
    return reduce(torch.add, xs) / len(xs)


@op("Div")
def div(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    if a.is_floating_point() or b.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


@op("Mod")
def mod(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """The sign of the divisor, or with fmod that of the dividend."""
    return torch.fmod(a, b) if call.attr("fmod", 0) else torch.remainder(a, b)


@op("Pow")
def power(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """The result has the type of the base."""
    exponent: Any = b.item() if b.numel() == 1 and b.device.type == "cpu" else b
    if isinstance(exponent, float) and exponent.is_integer():
        exponent = int(exponent)
    result = torch.pow(a, exponent)
    if b.dim() > result.dim():
        result = result.reshape([1] * (b.dim() - result.dim()) + list(result.shape))
    return result.to(a.dtype)


@op("BitShift")
def bit_shift(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Direction LEFT or RIGHT."""
    return a << b if call.attr("direction") == "LEFT" else a >> b


@op("IsInf")
def is_inf(call: Call, x: Tensor) -> Tensor:
    """Either sign, or one of them."""
    found = torch.zeros_like(x, dtype=torch.bool)
    if call.attr("detect_positive", 1):
        found = found | torch.isposinf(x)
    return found | torch.isneginf(x) if call.attr("detect_negative", 1) else found


@op("Where")
def where(call: Call, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Broadcast on all sides."""
    return torch.where(condition, a, b)


@op("Clip", "com.microsoft::Clip")
def clip(call: Call, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Bounds are attributes before opset 11; where low is above high, high holds."""
    bounds: list[Any] = [low, high]
    for k, name in enumerate(("min", "max")):
        if bounds[k] is None and call.attr(name) is not None:
            bounds[k] = torch.tensor(call.attr(name), dtype=x.dtype, device=x.device)
    if bounds[0] is not None:
        x = torch.maximum(x, bounds[0])
    return x if bounds[1] is None else torch.minimum(x, bounds[1])


@op("Cast")
def cast(call: Call, x: Tensor) -> Tensor:
    """To another type; floating ones are all float32 here."""
    kind = TYPES.get(ir.DataType(call.attr("to")))
    if kind is None:
        raise call.refuse(f"type {ir.DataType(call.attr('to')).name} has no torch equivalent")
    return x.to(kind)


@op("CastLike")
def cast_like(call: Call, x: Tensor, like: Tensor) -> Tensor:
    """To the type of the other operand."""
    return x.to(like.dtype)


@op("Dropout")
def dropout(
    call: Call, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None
) -> Any:
    """Inference only: x and a mask of ones."""
    if training is not None and bool(training):
        raise call.refuse("Dropout in training mode is random")
    return (x, torch.ones_like(x, dtype=torch.bool)) if call.results > 1 else x


# ---------------------------------------------------------------- activations with parameters


@op("Gelu", "com.microsoft::FastGelu", "com.microsoft::BiasGelu")
def gelu(call: Call, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Exact, or with a tanh; the fused ones add a bias first."""
    fast = call.node.op_type == "FastGelu" or call.attr("approximate", "none") == "tanh"
    return F.gelu(x if bias is None else x + bias, approximate="tanh" if fast else "none")


@op("Swish", "com.microsoft::QuickGelu")
def swish(call: Call, x: Tensor) -> Tensor:
    """x sigmoid(alpha x)."""
    default = 1.702 if call.node.op_type == "QuickGelu" else 1.0
    return x * torch.sigmoid(call.attr("alpha", default) * x)


@op("Celu")
def celu(call: Call, x: Tensor) -> Tensor:
    """As in torch."""
    return F.celu(x, alpha=call.attr("alpha", 1.0))


@op("Elu")
def elu(call: Call, x: Tensor) -> Tensor:
    """As in torch."""
    return F.elu(x, alpha=call.attr("alpha", 1.0))


@op("Selu")
def selu(call: Call, x: Tensor) -> Tensor:
    """gamma (x above 0, else alpha (e^x - 1))."""
    alpha = call.attr("alpha", 1.67326319217681884765625)
    return call.attr("gamma", 1.05070102214813232421875) * F.elu(x, alpha=alpha)


@op("LeakyRelu")
def leaky_relu(call: Call, x: Tensor) -> Tensor:
    """As in torch."""
    return F.leaky_relu(x, call.attr("alpha", 0.01))


@op("PRelu")
def prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    """The slope broadcasts as in arithmetic."""
    return torch.where(x < 0, slope * x, x)


@op("ThresholdedRelu")
def thresholded_relu(call: Call, x: Tensor) -> Tensor:
    """x where it is above alpha."""
    return torch.where(x > call.attr("alpha", 1.0), x, torch.zeros_like(x))


@op("HardSigmoid")
def hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    """alpha x + beta, cut to 0..1."""
    return torch.clamp(call.attr("alpha", 0.2) * x + call.attr("beta", 0.5), 0, 1)


@op("Shrink")
def shrink(call: Call, x: Tensor) -> Tensor:
    """Towards zero by bias; what lies within lambd is zero."""
    bias, bound = call.attr("bias", 0.0), call.attr("lambd", 0.5)
    zero = torch.zeros_like(x)
    return torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, zero))
