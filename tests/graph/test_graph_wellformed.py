"""What is a graph and what is none; the command line's view of the same is in tests/cli."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper, parser

from mipack.errors import InputError
from mipack.graph.wellformed import require_graph

CHOICE = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[n] x, bool c) => (float[n] y)
{
    y = If (c) <
        then_branch = first () => (float[n] t) { u = Relu(outer) t = Neg(u) },
        else_branch = second () => (float[n] t) { u = Tanh(outer) t = Neg(u) }
    >
    outer = Abs(x)
}
"""
FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
agraph (float[n] x) => (float[n] y) { y = local.twice(x) }
<domain: "local", opset_import: ["" : 17]>
twice (a) => (b) { u = Add(a, a) b = Relu(u) }
"""


def test_bodies_see_what_is_around_them_and_siblings_may_share_names() -> None:
    """The nodes need not be in order either."""
    require_graph(parser.parse_model(CHOICE))


def test_initializers_may_be_listed_as_inputs_and_operands_left_out() -> None:
    text = """
    <ir_version: 3, opset_import: ["" : 9]>
    agraph (float[n] x, float[n] w) => (float[n] y) <float[n] w> { y = Clip(x) z = Add(x, w) }
    """
    model = parser.parse_model(text)
    model.graph.initializer.append(helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0]))
    model.graph.node[0].input.append("")
    while len(model.graph.initializer) > 1:
        model.graph.initializer.pop()
    require_graph(model)


def test_functions_are_graphs_of_their_own() -> None:
    model = parser.parse_model(FUNCTION)
    require_graph(model)
    model.functions[0].node[0].input[1] = "x"  # a name of the model, not of the function
    with pytest.raises(InputError, match="reads 'x'"):
        require_graph(model)
    model.functions[0].node[0].input[1] = "a"
    model.functions[0].node[0].output[0] = "a"
    with pytest.raises(InputError, match="'a' is defined twice: input and output of Add"):
        require_graph(model)


def test_a_name_of_one_body_is_not_seen_by_its_sibling() -> None:
    model = parser.parse_model(CHOICE)
    branch = next(a for a in model.graph.node[0].attribute if a.name == "else_branch").g
    branch.node[0].output[0] = "v"
    with pytest.raises(InputError, match="Neg t reads 'u'"):
        require_graph(model)
