"""Ops that act on each position alone, generated: every unary op, every broadcasting op against a
tensor, a vector, a matrix with units, and a scalar."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from lawkit import IMAGES, ROWS, TOKENS, Build, Case, Cases

from mipack.ops.elementwise import BROADCASTING, UNARY

FLOAT, INT32, UINT32, BOOL = 1, 6, 12, 9

elementwise = Cases()

OPSETS = {
    "Gelu": 20, "Swish": 24, "BitwiseAnd": 18, "BitwiseOr": 18, "BitwiseXor": 18,
    "BitwiseNot": 18,
}  # fmt: skip
LOGICAL = {"And", "Or", "Xor"}
INTEGER = {"BitwiseAnd", "BitwiseOr", "BitwiseXor"}
COMPARING = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}


def _positive(b: Build, x: str) -> str:
    return str(b.Add(b.Abs(x), np.float32(1.1)))


def _small(b: Build, x: str) -> str:
    return str(b.Mul(b.Tanh(x), np.float32(0.9)))


DOMAIN: dict[str, Callable[[Build, str], str]] = {
    **dict.fromkeys(["Acosh", "Log", "Sqrt", "Reciprocal"], _positive),
    **dict.fromkeys(["Acos", "Asin", "Atanh"], _small),
    "Not": lambda b, x: str(b.Greater(x, np.float32(0))),
    "BitwiseNot": lambda b, x: str(b.Cast(b.Mul(x, np.float32(9)), to=INT32)),
    "Tan": _small,
}


def _unary(op: str) -> Callable[[Build], str]:
    def make(b: Build) -> str:
        h = b.lin("x", 16, 24)
        h = DOMAIN.get(op, lambda _, x: x)(b, h)
        attributes = {"to": FLOAT} if op == "Cast" else {}
        y = getattr(b, op)(h, **attributes)
        if op in ("Not", "BitwiseNot", "IsInf", "IsNaN"):
            y = b.Cast(y, to=FLOAT)
        return b.lin(y, 24, 5)

    return make


def _pair(op: str, shape: tuple[int, ...] | None) -> Callable[[Build], str]:
    """The second operand is another layer's result (None) or a weight of this shape."""

    def make(b: Build) -> str:
        h = b.lin("x", 16, 24)
        other = b.lin("x", 16, 24) if shape is None else b.w(*shape, scale=1.0)
        h, other = (_typed(b, op, v) for v in (h, other))
        y = getattr(b, op)(h, other, **_attributes(op))
        return b.lin(b.Cast(y, to=FLOAT), 24, 5)

    return make


def _typed(b: Build, op: str, value: str) -> str:
    if op in LOGICAL:
        return str(b.Greater(value, np.float32(0.1)))
    if op in INTEGER:
        return str(b.Cast(b.Mul(value, np.float32(9)), to=INT32))
    if op == "BitShift":
        return str(b.Cast(b.Abs(b.Mul(value, np.float32(3))), to=UINT32))
    if op in COMPARING:
        return str(b.Round(value))
    return str(b.Add(b.Abs(value), np.float32(0.5))) if op in ("Div", "Pow", "Mod") else value


def _attributes(op: str) -> dict[str, object]:
    return {"BitShift": {"direction": "LEFT"}, "Mod": {"fmod": 1}}.get(op, {})


def _add(name: str, make: Callable[[Build], str], op: str, inputs: dict[str, object]) -> None:
    opset = OPSETS.get(op, 18)
    elementwise.listed.append(Case(name, make, inputs, opset, [24], {}))  # type: ignore[arg-type]


for _op in UNARY:
    if _op != "Identity":  # canonical form takes it out: see below
        _add(_op, _unary(_op), _op, ROWS)  # type: ignore[arg-type]
for _op in BROADCASTING:
    if _op == "Where":
        continue
    for _shape in (None, (24,), (1, 24), (1, 1, 24), (1,), ()):
        if _op == "PRelu" and _shape is None:
            continue  # a slope that is no constant is legal, and no kernel wants it
        _name = f"{_op}-{'layer' if _shape is None else 'x'.join(map(str, _shape)) or 'scalar'}"
        _add(_name, _pair(_op, _shape), _op, TOKENS)  # type: ignore[arg-type]


@elementwise(cut=[24])
def three_operands(b: Build) -> str:
    h = [b.lin("x", 16, 24), b.w(24, scale=1.0), b.w(1, 24, scale=1.0)]
    return b.lin(b.Sum(b.Max(*h), b.Min(*h), b.Mean(*h)), 24, 5)


@elementwise(cut=[24], **TOKENS)
def where_selects(b: Build) -> str:
    h, g = b.lin("x", 16, 24), b.lin("x", 16, 24)
    chosen = b.Where(b.Greater(h, b.w(24, scale=1.0)), g, b.w(1, 24, scale=1.0))
    return b.lin(b.Where(b.const([True] * 11 + [False] * 13), chosen, h), 24, 5)


@elementwise(cut=[24], **TOKENS)
def where_with_scalar_branch_and_minus_infinity(b: Build) -> str:
    h = b.lin("x", 16, 24)
    gone = b.Where(b.Less(h, np.float32(0)), np.float32(-np.inf), h)
    return b.lin(b.Exp(gone), 24, 5)


@elementwise(cut=[24, 6], x=("B", 4, 16))
def broadcast_of_a_middle_axis_couples_nothing(b: Build) -> str:
    h = b.lin("x", 16, 24)  # [B, 4, 24]
    gate = b.Sigmoid(b.lin(b.Relu(b.lin("x", 16, 6)), 6, 1))  # [B, 4, 1]
    return b.lin(b.Mul(h, gate), 24, 5)


@elementwise(cut=[8], **IMAGES)
def prelu_slope_per_channel(b: Build) -> str:
    return b.conv(b.PRelu(b.conv("x", 3, 8), b.w(8, 1, 1, scale=1.0)), 8, 4, 1)


@elementwise(cut=[10], x=("B", 3, 10, 10))
def all_axes_of_one_size(b: Build) -> str:
    """Matching is by position: [10] lies along the width of images, [10, 1, 1] along channels."""
    h = b.Mul(b.conv("x", 3, 10), b.w(10, scale=1.0))
    return b.conv(b.Mul(h, b.w(10, 1, 1)), 10, 4, 1)


@elementwise(opsets=(9,), cut=[24])
def clip_by_attributes(b: Build) -> str:
    return b.lin(b.Clip(b.lin("x", 16, 24), min=0.0, max=6.0), 24, 5)


@elementwise(opsets=(11, 18), cut=[24])
def clip_by_operands(b: Build) -> str:
    return b.lin(b.Clip(b.lin("x", 16, 24), None, np.float32(0.4)), 24, 5)


@elementwise(cut=[24, 16])
def cast_like_follows_its_first_operand(b: Build) -> str:
    h, kind = b.lin("x", 16, 24), b.Relu(b.lin("x", 16, 16))
    return b.Concat(b.lin(b.CastLike(h, kind), 24, 5), b.lin(kind, 16, 5), axis=1)


@elementwise(opsets=(10, 13, 18), cut=[24])
def dropout_whose_mask_is_read(b: Build) -> str:
    y, mask = b.Dropout(b.lin("x", 16, 24), n=2)
    return b.lin(b.Where(mask, y, np.float32(3)), 24, 5)


@elementwise(opsets=(10, 18), cut=[24])
def dropout_of_which_only_the_mask_is_read(b: Build) -> str:
    _, mask = b.Dropout(b.lin("x", 16, 24), n=2)
    return b.lin(b.Cast(mask, to=FLOAT), 24, 5)


@elementwise(cut=[24])
def identity_of_an_output(b: Build) -> list[str]:
    h = b.Relu(b.lin("x", 16, 24))
    y = b.lin(h, 24, 5)
    return [b.Identity(y), y]


@elementwise(cut=[], stays={24: "interface"})
def identity_of_a_hidden_layer_as_output(b: Build) -> list[str]:
    h = b.Relu(b.lin("x", 16, 24))
    return [b.Identity(h), b.lin(h, 24, 5)]


@elementwise(cut=[24])
def integers_count_units(b: Build) -> str:
    """Integers made from a cut axis take part in sums: silenced units must not be counted."""
    zero = b.Cast(b.Equal(b.Relu(b.lin("x", 16, 24)), np.float32(0)), to=7)
    h = b.Mul(b.Relu(b.lin("x", 16, 24)), b.Cast(zero, to=FLOAT))
    return b.lin(h, 24, 5)
