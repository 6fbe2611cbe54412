"""Attention that was pruned: found in the graph, with the scale that its scores really have."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from mipack.finish.attention import attentions, rescale, scales
from mipack.finish.explicit import explicit
from mipack.graph.load import from_proto

LAYER = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[batch, length, 12] x) => (float[batch, length, 12] y)
{{
    q0 = MatMul(x, wq)
    k0 = MatMul(x, wk)
    v0 = MatMul(x, wv)
    shape = Shape(x)
    lead = Slice(shape, zero, two)
    qs = Concat <axis = 0> (lead, qheads)
    vs = Concat <axis = 0> (lead, vheads)
    os = Concat <axis = 0> (lead, rest)
    q1 = Reshape(q0, qs)
    k1 = Reshape(k0, qs)
    v1 = Reshape(v0, vs)
    q = Transpose <perm = [0, 2, 1, 3]> (q1)
    k = Transpose <perm = [0, 2, 3, 1]> (k1)
    v = Transpose <perm = [0, 2, 1, 3]> (v1)
    {scores}
    p = Softmax <axis = -1> (s)
    o = MatMul(p, v)
    o1 = Transpose <perm = [0, 2, 1, 3]> (o)
    o2 = Reshape(o1, os)
    y = MatMul(o2, wo)
}}
"""
AFTER = "s0 = MatMul(q, k) s = Div(s0, root)"
BEFORE = "q2 = Mul(q, quarter) s0 = MatMul(q2, k) s = Add(s0, mask)"
BOTH = "q2 = Mul(q, half) k2 = Mul(k, half) s = MatMul(q2, k2)"
HEADS, QK, VO = 3, 2, 5


def layer(scores: str) -> ir.Model:
    """Three heads, 2 dims of q and k, 5 of v; the scores are divided by 4, the root of once 16."""
    model = parser.parse_model(LAYER.format(scores=scores))
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "wq": rng.normal(size=(12, HEADS * QK)),
        "wk": rng.normal(size=(12, HEADS * QK)),
        "wv": rng.normal(size=(12, HEADS * VO)),
        "wo": rng.normal(size=(HEADS * VO, 12)),
        "root": np.array(4.0),
        "quarter": np.array(0.25),
        "half": np.array(0.5),
        "mask": np.zeros((1, 1, 1, 1)),
    }
    numbers = {"zero": [0], "two": [2], "qheads": [-1, QK], "vheads": [-1, VO], "rest": [-1]}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    for name, values in numbers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return from_proto(model)


def test_reshapes_get_their_numbers_from_two_runs() -> None:
    form = explicit(layer(AFTER), ()).model
    targets = {
        node.outputs[0].name: node.inputs[1].const_value.numpy().tolist()  # type: ignore[union-attr]
        for node in form.graph
        if node.op_type == "Reshape"
    }
    assert targets == {
        "q1": [0, 0, HEADS, QK],
        "k1": [0, 0, HEADS, QK],
        "v1": [0, 0, HEADS, VO],
        "o2": [0, 0, HEADS * VO],
    }


@pytest.mark.parametrize("scores", [AFTER, BEFORE, BOTH])
def test_the_scale_is_read_wherever_it_stands(scores: str) -> None:
    plain = explicit(layer(scores), ())
    assert list(attentions(plain.model).values()) == [("o", "o1", "o2")]
    assert scales(plain.model, plain.known)["o2"] == pytest.approx(0.25)


def fused(**attributes: object) -> ir.Model:
    """An Attention op that ends in `o2`."""
    x, weight = ir.Value(name="x"), ir.Value(name="w")
    weight.const_value = ir.tensor(np.zeros((12, 2 * HEADS * QK + HEADS * VO), np.float32))
    node = ir.node("Attention", [x, weight], attributes=attributes, domain="com.microsoft")
    node.outputs[0].name = "o2"
    return ir.Model(ir.Graph([x], node.outputs, nodes=[node]), ir_version=8)


def test_a_fused_op_is_told_the_scale_that_it_does_not_assume() -> None:
    sizes = [HEADS * QK, HEADS * QK, HEADS * VO]
    model = fused(num_heads=HEADS, qkv_hidden_sizes=sizes)
    assert rescale(model, {"o2": 0.25}) == 1
    assert next(iter(model.graph)).attributes["scale"].as_float() == 0.25
    assert rescale(fused(num_heads=HEADS, qkv_hidden_sizes=sizes), {"o2": QK**-0.5}) == 0
    assert rescale(fused(num_heads=HEADS, qkv_hidden_sizes=sizes), {}) == 0


def test_a_softmax_that_ends_a_model_is_no_attention() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[batch, 4] x) => (float[batch, 4] y) { y = Softmax <axis = -1> (x) }
    """
    assert attentions(from_proto(parser.parse_model(text))) == {}
