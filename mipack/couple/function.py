"""Function bodies: an op that the standard defines by other ops is understood through them.

The op stays in the model as it is; its body is a small model of its own, probed at the sizes that
the op has and read by the rules of the ops in it. What it says of axes holds; nothing in it can be
rewritten, so whatever a cut would have to respell inside of it stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from mipack.errors import MipackError
from mipack.graph.canonical import canonical
from mipack.graph.load import from_proto
from mipack.graph.probe import Probe, probe
from mipack.graph.view import Encoding
from mipack.layout import Term

Array = np.ndarray[Any, Any]
PRIVATE = "mipack.body"
"""The domain of a body, so that it is inlined and no kernel stands in for it."""
_UNUSABLE = (MipackError, onnx.defs.SchemaError, RuntimeError, LookupError, TypeError, ValueError)


def defined(
    node: ir.Node, opset: int, outer: Probe, constants: Mapping[str, Array]
) -> tuple[ir.Model, Probe] | None:
    """The body of an op, canonical and probed; None where it has none that can be used.

    Its inputs and outputs have the names that the op's have outside.
    """
    try:
        proto = ir.to_proto(node)
        names = [name for name in proto.input if name]
        known = {n: a for n in names if (a := _parameter(n, outer, constants)) is not None}
        first, second = (
            {n: _feed(n, k, outer) for n in dict.fromkeys(names) if n not in known} for k in (0, 1)
        )
        model = body_model(proto, opset, first, known)
        if model is None:
            return None
        inside = probe(model, (first, second))
    except _UNUSABLE:
        return None
    same = all(inside.shapes.get(n) == outer.shapes.get(n) for n in proto.output if n)
    return (model, inside) if same else None


def body_model(
    node: onnx.NodeProto,
    opset: int,
    feeds: Mapping[str, Array],
    known: Mapping[str, Array] | None = None,
) -> ir.Model | None:
    """The body of an op as a canonical model: `feeds` are inputs, of which only the types count,
    `known` become constants. None where the standard gives no body for these types."""
    known = known or {}
    function = _function(node, opset, {**feeds, **known})
    if function is None:
        return None
    return canonical(from_proto(_model(node, function, feeds, known)))


def fixed(
    model: ir.Model,
    encodings: Sequence[Encoding],
    constants: Mapping[str, Array],
    axes: Callable[[str], Sequence[Term]],
) -> list[Term]:
    """The axes that hold on to something inside of a body: its constants, sizes that are written
    in it, sizes that it reads from shapes."""
    found = [term for name in constants for term in axes(name)]
    found += [encoding.term for encoding in encodings]
    for node in model.graph.all_nodes():
        if node.op_type == "Shape" and node.inputs[0] is not None:
            start, end = (node.attributes.get(name) for name in ("start", "end"))
            around = axes(node.inputs[0].name or "")
            shown = around[start.as_int() if start else 0 : end.as_int() if end else None]
            read = _sizes_read(node, constants)
            found += [term for k, term in enumerate(shown) if read is None or k in read]
    return found


def _sizes_read(shape: ir.Node, constants: Mapping[str, Array]) -> set[int] | None:
    """The elements of a shape that something computes with; None: all of them."""
    read: set[int] = set()
    for user, slot in shape.outputs[0].uses():
        indices = user.inputs[1] if user.op_type == "Gather" and slot == 0 else None
        listed = constants.get(indices.name or "") if indices is not None else None
        if listed is None or (listed < 0).any():
            return None
        read.update(int(i) for i in listed.reshape(-1))
    return read


def _parameter(name: str, outer: Probe, constants: Mapping[str, Array]) -> Array | None:
    """Integers that are the same in every run: axes, sizes, bounds."""
    value = constants.get(name)
    value = outer.known.get(name) if value is None else value
    return value if value is not None and value.dtype.kind in "iub" else None


def _feed(name: str, run: int, outer: Probe) -> Array:
    """Any numbers of the shape that the operand has in one run."""
    if name in outer.vectors:
        return outer.vectors[name][run]
    shape = [size[run] for size in outer.shapes[name] or ()]
    kind = np.dtype(outer.dtypes[name])
    numbers = np.random.default_rng(0).uniform(0.5, 1.5, shape)
    return numbers.astype(kind) if kind.kind not in "iub" else np.zeros(shape, kind)


def _function(
    node: onnx.NodeProto, opset: int, operands: Mapping[str, Array]
) -> onnx.FunctionProto | None:
    """The newest body that is in force, for operands of these types."""
    schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    found = onnx.FunctionProto()
    fixed = [v for v in schema.function_opset_versions if v <= opset]
    typed = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    if fixed:
        found.ParseFromString(schema.get_function_with_opset_version(fixed[-1]))
    elif typed:
        kinds = [_type(operands[name]) if name else b"" for name in node.input]
        said = (typed[-1], node.SerializeToString(), kinds)
        found.ParseFromString(schema.get_context_dependent_function_with_opset_version(*said))
    else:
        return None
    for name, attribute in schema.attributes.items():
        given = any(a.name == name for a in node.attribute)
        if not given and attribute.default_value.type:
            node.attribute.append(attribute.default_value)
    found.domain = PRIVATE
    del found.output[len(node.output) :]  # optional ones that nobody reads may not be made
    return found


def _type(operand: Array) -> bytes:
    kind = helper.np_dtype_to_tensor_dtype(operand.dtype)
    return helper.make_tensor_type_proto(kind, operand.shape).SerializeToString()


def _model(
    node: onnx.NodeProto,
    function: onnx.FunctionProto,
    feeds: Mapping[str, Array],
    known: Mapping[str, Array],
) -> onnx.ModelProto:
    """A model that calls the body once."""
    call = onnx.NodeProto()
    call.CopyFrom(node)
    call.op_type, call.domain = function.name, PRIVATE
    kind = helper.np_dtype_to_tensor_dtype
    inputs = [
        helper.make_tensor_value_info(n, kind(a.dtype), [None] * a.ndim) for n, a in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    held = [onnx.numpy_helper.from_array(array, name) for name, array in known.items()]
    graph = helper.make_graph([call], "body", inputs, outputs, held)
    imports = [*function.opset_import, helper.make_opsetid(PRIVATE, 1)]
    return helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=10)
