"""Reductions: sums count silenced units as nothing, averages make widths, positions freeze."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from lawkit import TOKENS, Build, Case, Cases
from onnx import AttributeProto, helper

from mipack.ops.reduce_pool import AVERAGING, EXACT

reductions = Cases()
HEADS = {"x": ("B", 16)}


def _reduce(op: str, axis: int, keepdims: int, opset: int) -> Callable[[Build], str]:
    """Reduce one axis of [B, 4, 6] and use the result beside its source."""

    def make(b: Build) -> str:
        h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
        positive = b.Add(b.Abs(h), np.float32(0.2))
        operand = opset >= (13 if op == "ReduceSum" else 18)
        given = ([axis],) if operand else ()
        y = getattr(b, op)(positive, *given, keepdims=keepdims,
                           **({} if operand else {"axes": [axis]}))  # fmt: skip
        if not keepdims:
            y = b.Unsqueeze(y, [axis % 3]) if opset >= 13 else b.Unsqueeze(y, axes=[axis % 3])
        return b.lin(b.Reshape(b.Mul(h, y), [0, 24]), 24, 5)

    return make


for _op in (*EXACT, *AVERAGING):
    for _opset in (9, 13, 18):
        for _axis, _keep in ((1, 0), (2, 1), (-1, 0)):
            _exact = _op in EXACT
            _reduced, _kept = (4, 6) if _axis == 1 else (6, 4)
            _stays = {} if _exact else {_reduced: _op}
            _name = f"{_op}-{_axis}-{'keep' if _keep else 'drop'}-{_opset}"
            _make = _reduce(_op, _axis, _keep, _opset)
            reductions.listed.append(
                Case(_name, _make, HEADS, _opset, None if _exact else [_kept], _stays)
            )


@reductions(cut=[], stays={4: "ReduceMean", 6: "ReduceMean"})
def all_axes_without_an_operand(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    return b.lin(b.Reshape(b.Mul(h, b.ReduceMean(h, keepdims=1)), [0, 24]), 24, 5)


@reductions(cut=[], stays={4: "", 6: ""})
def empty_list_of_axes_is_all(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    mean = b.ReduceMean(h, b.const([], "int64"), keepdims=0)
    return b.lin(b.Reshape(b.Mul(h, mean), [0, 24]), 24, 5)


@reductions(opsets=(11, 13), cut=[], stays={4: "ReduceMean", 6: "ReduceMean"})
def empty_attribute_of_axes_is_all(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    mean = b.ReduceMean(h, keepdims=0)
    none = helper.make_attribute("axes", [], attr_type=AttributeProto.INTS)
    b.nodes[-1].attribute.append(none)
    return b.lin(b.Reshape(b.Mul(h, mean), [0, 24]), 24, 5)


@reductions(cut=[4, (6, 4)])
def no_axes_and_nothing_to_do(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    h = b.ReduceMean(h, noop_with_empty_axes=1)
    return b.lin(b.Reshape(h, [0, 24]), 24, 5)


@reductions(cut=[], stays={4: "ReduceMean", 6: "ReduceMean"}, **TOKENS)
def two_axes(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 0, 4, 6])
    mean = b.ReduceMean(h, [-1, 2], keepdims=0)  # [B, S]
    h = b.Mul(h, b.Unsqueeze(mean, [2, 3]))
    return b.lin(b.Reshape(h, [0, 0, 24]), 24, 5)


@reductions(cut=[24], **TOKENS)
def mean_over_the_sequence(b: Build) -> str:
    h = b.Relu(b.lin("x", 16, 24))
    return b.lin(b.ReduceMean(h, [1], keepdims=0), 24, 5)


@reductions(cut=[24], x=("B", "S", 16), m=("B", "S"))
def masked_mean_over_the_sequence(b: Build) -> str:
    h, weight = b.Relu(b.lin("x", 16, 24)), b.Unsqueeze(b.Abs("m"), [2])
    total = b.ReduceSum(b.Mul(h, weight), [1], keepdims=0)
    return b.lin(b.Div(total, b.ReduceSum(weight, [1], keepdims=0)), 24, 5)


@reductions(stays={4: "axes chosen at run time", 6: "axes chosen at run time"}, x=("B", 16))
def axes_from_data(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    axis = b.Cast(b.Add(b.Mul(b.ReduceSum("x", [0, 1], keepdims=0), np.float32(0)), np.float32(2)),
                  to=7)  # fmt: skip
    total = b.ReduceSum(h, b.Unsqueeze(axis, [0]), keepdims=1)
    return b.lin(b.Reshape(b.Mul(h, total), [0, 24]), 24, 5)


@reductions(cut=[], stays={24: "ReduceMean"}, **TOKENS)
def channel_statistics(b: Build) -> str:
    """Spatial attention: mean and maximum over the channels make them a width."""
    h = b.lin("x", 16, 24)
    gate = b.Concat(b.ReduceMean(h, [-1]), b.ReduceMax(h, [-1]), axis=-1)
    return b.lin(b.Mul(h, b.lin(gate, 2, 1)), 24, 5)


@reductions(cut=[24])
def integers_count_units(b: Build) -> str:
    """A count of zero units must not count those that were silenced."""
    h = b.Relu(b.lin("x", 16, 24))
    zeros = b.Cast(b.Equal(h, np.float32(0)), to=7)
    count = b.Cast(b.ReduceSum(zeros, [1]), to=1)
    return b.lin(b.Mul(h, count), 24, 5)


# ---------------------------------------------------------------- positions


@reductions(opsets=(9, 13, 18), cut=[4], stays={6: "positions of this axis"})
def arg_max(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    best = b.Add(b.Cast(b.ArgMax(h, axis=2), to=1), b.Cast(b.ArgMin(h, axis=-1), to=1))
    return b.lin(b.Reshape(b.Mul(h, best), [0, 24]), 24, 5)


@reductions(cut=[6], stays={4: "positions of this axis"})
def arg_max_of_a_middle_axis(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    best = b.Cast(b.ArgMax(h, axis=1, keepdims=0, select_last_index=1), to=1)  # [B, 6]
    return b.lin(b.Reshape(b.Mul(h, b.Unsqueeze(best, [1])), [0, 24]), 24, 5)


@reductions(cut=[24], **TOKENS)
def arg_max_over_the_sequence(b: Build) -> str:
    h = b.lin("x", 16, 24)
    return b.lin(b.Mul(h, b.Cast(b.ArgMax(h, axis=1), to=1)), 24, 5)
