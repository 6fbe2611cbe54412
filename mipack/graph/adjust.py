"""Small edits that later stages share: a bias for a linear node, weights that feeds may replace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.graph.names import fresh_name
from mipack.graph.view import Linear

Array = np.ndarray[Any, Any]


def set_weight(graph: ir.Graph, name: str, array: Array) -> None:
    """Give an initializer another value."""
    value = graph.initializers[name]
    value.const_value = ir.tensor(array, name=name)
    value.shape = ir.Shape(array.shape)


def add_weight(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A new initializer; the name must be new to the file."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape))
    value.dtype = tensor.dtype
    graph.register_initializer(value)
    return value


def value_of(graph: ir.Graph, name: str) -> Array:
    """The array of an initializer."""
    tensor = graph.initializers[name].const_value
    assert tensor is not None, f"initializer {name} has no value"
    return tensor.numpy()


def shape_of(graph: ir.Graph, name: str) -> tuple[int, ...]:
    """The sizes of an initializer."""
    tensor = graph.initializers[name].const_value
    assert tensor is not None, f"initializer {name} has no value"
    return tuple(tensor.shape.numpy())


def find_bias(graph: ir.Graph, linear: Linear, node: ir.Node) -> str | None:
    """The initializer that is this node's bias: its own operand or the vector of the next Add."""
    if linear.bias is not None:
        return linear.bias if linear.bias in graph.initializers else None
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None
    add = uses[0][0]
    if add.op_type != "Add" or add.domain:
        return None
    other = add.inputs[1 - uses[0][1]]
    if other is None or other.name not in graph.initializers or other.const_value is None:
        return None
    outputs = shape_of(graph, linear.w)[linear.w_out]
    last = linear.window is None and linear.w_out > linear.w_in  # where a vector is added
    vector = shape_of(graph, other.name or "")
    column = linear.window is None and not last and vector == (outputs, 1)
    fits = (last and vector == (outputs,)) or column
    return other.name if fits else None


def ensure_bias(graph: ir.Graph, linear: Linear, node: ir.Node, taken: set[str | None]) -> str:
    """The node's bias, added as zeros where there is none; returns the initializer's name."""
    found = find_bias(graph, linear, node)
    if found is not None:
        return found
    outputs = shape_of(graph, linear.w)[linear.w_out]
    dtype = value_of(graph, linear.w).dtype
    name = fresh_name(f"{node.name}.bias", taken)
    if linear.bias_slot is not None and linear.bias is None:
        if len(node.inputs) <= linear.bias_slot:
            node.resize_inputs(linear.bias_slot + 1)
        value = add_weight(graph, name, np.zeros(outputs, dtype))
        node.replace_input_with(linear.bias_slot, value)
        return name
    y = node.outputs[0]
    window = linear.window  # W x: the outputs are the last axis but one; Conv: before the places
    ones = len(window.kernel) if window else int(linear.w_out < linear.w_in and not linear.bias)
    value = add_weight(graph, name, np.zeros((outputs, *[1] * ones), dtype))
    users, public = list(y.uses()), y.is_graph_output()
    add = ir.node("Add", [y, value], name=fresh_name(f"{node.name}.add_bias", taken))
    result = add.outputs[0]
    result.name, result.type = add.name, y.type
    graph.insert_after(node, add)
    for user, index in users:
        user.replace_input_with(index, result)
    if public:  # the sum takes the output's place and name
        result.shape, result.name, y.name = y.shape, y.name, fresh_name(f"{y.name}.raw", taken)
        graph.outputs[graph.outputs.index(y)] = result
    return name


def make_overridable(model: ir.Model, names: Iterable[str]) -> None:
    """List initializers among the inputs: a run may feed other values for them."""
    listed = {value.name for value in model.graph.inputs}
    for name in names:
        if name not in listed:
            model.graph.inputs.append(model.graph.initializers[name])
