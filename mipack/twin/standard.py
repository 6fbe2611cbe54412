"""Ops that the standard defines by other ops, as small models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from mipack.couple.function import body_model
from mipack.ops.registry import STANDARD

Array = np.ndarray[Any, Any]


def has_body(node: ir.Node, opset: int) -> bool:
    """Whether the standard gives a function body for the op."""
    if node.domain not in STANDARD:
        return False
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def body_of(node: ir.Node, opset: int, operands: Mapping[str, Array]) -> ir.Model | None:
    """The body as a model whose inputs and outputs have the names that the op's have outside.

    None where it has none for operands of these types.
    """
    return body_model(ir.to_proto(node), opset, operands) if has_body(node, opset) else None
