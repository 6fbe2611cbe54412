"""Integer products computed as they are defined, on every processor.

Without VNNI instructions a kernel of ONNX Runtime multiplies uint8 by int8 in pairs and adds each
pair in 16 bits, where it saturates (its documentation of quantisation, "when and why do I need to
try U8U8"): a sum then depends on which units stand side by side, and two models that are equal by
definition differ. With weights as uint8, every number and its zero point 128 higher, nothing can
saturate and the product is the same.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mipack.graph.names import fresh_name, names_of

MS = "com.microsoft"
WEIGHTS: dict[tuple[str, str], dict[int, int]] = {
    ("", "ConvInteger"): {1: 3},
    ("", "MatMulInteger"): {1: 3},
    ("", "QLinearConv"): {3: 5},
    ("", "QLinearMatMul"): {3: 5},
    (MS, "DynamicQuantizeLSTM"): {1: 9, 2: 11},
    (MS, "DynamicQuantizeMatMul"): {1: 3},
    (MS, "MatMulIntegerToFloat"): {1: 5},
    (MS, "QAttention"): {1: 7},
    (MS, "QGemm"): {3: 5},
    (MS, "QLinearConv"): {3: 5},
}
"""Ops with int8 weights: operand of the weight -> operand of its zero point."""
SHIFT = 128


def exact(model: ir.Model) -> ir.Model:
    """The same function without products that may saturate; the model itself where it has none."""
    if not any(True for node in model.graph.all_nodes() for _ in _signed(node)):
        return model
    other = model.clone()
    taken = names_of(other.graph)
    for node in other.graph.all_nodes():
        for weight, zero in [*_signed(node)]:
            if len(node.inputs) <= zero:
                node.resize_inputs(zero + 1)
            for index in (weight, zero):
                shifted = _shifted(node.inputs[index]).astype(np.uint8)
                name = fresh_name(f"{node.name}//unsigned_{index}", taken)
                value = ir.Value(name=name, const_value=ir.tensor(shifted, name=name))
                value.shape, value.dtype = ir.Shape(shifted.shape), ir.DataType.UINT8
                other.graph.register_initializer(value)
                node.replace_input_with(index, value)
    return other


def _signed(node: ir.Node) -> list[tuple[int, int]]:
    """Weights in the file of type int8, with the operand of their zero point."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    found = []
    for weight, zero in WEIGHTS.get((domain, node.op_type), {}).items():
        value = node.inputs[weight]
        point = node.inputs[zero] if zero < len(node.inputs) else None
        stored = value.const_value if value is not None else None
        known = point is None or point.const_value is not None
        if known and stored is not None and stored.dtype == ir.DataType.INT8:
            found.append((weight, zero))
    return found


def _shifted(value: ir.Value | None) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """Numbers 128 higher; an absent zero point is 0."""
    if value is None or value.const_value is None:
        return np.array(SHIFT, np.int16)
    return value.const_value.numpy().astype(np.int16) + np.int16(SHIFT)
