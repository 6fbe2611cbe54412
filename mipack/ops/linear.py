"""Which ops act linearly along an axis that they do not mix, so that a change of basis may pass.

Units of a group are numbers along an axis. Where every op between the weights that make them and
the weights (or the product) that read them is of one of these kinds, another basis of the units
gives the same model: A x on one side, A^-T on the other.
"""

from __future__ import annotations

from enum import Enum

import onnx_ir as ir

from mipack.ops.registry import key

Act = Enum("Act", "MOVES ADDS SCALES CONTRACTS")
"""MOVES positions; ADDS operands that all have the axis; SCALES by an operand that has not;
CONTRACTS two operands over what the result lacks and is linear in each."""

_OPS = {
    Act.MOVES: (
        "Cast Concat Dropout Expand Flatten Gather Identity Reshape Slice Split Squeeze "
        "Transpose Unsqueeze com.microsoft::ExpandDims"
    ),
    Act.ADDS: "Add Sub Sum Where",
    Act.SCALES: "Mul Div Neg ReduceSum ReduceMean GlobalAveragePool",
    Act.CONTRACTS: (
        "MatMul Gemm Einsum Conv com.microsoft::FusedMatMul com.microsoft::TransposeMatMul"
    ),
}
LINEAR = {op: act for act, ops in _OPS.items() for op in ops.split()}
_ZEROS = (
    "Abs Asin Asinh Atan Ceil Celu Elu Erf Floor Gelu HardSwish LeakyRelu Mish Relu Round Selu "
    "Sign Sin Sinh Softsign Sqrt Swish Tan Tanh"
)
ZERO_AT_ZERO = frozenset(_ZEROS.split())
"""Ops of one operand that leave zeros as they are."""


def act_of(node: ir.Node) -> Act | None:
    """How a node acts along an axis that it does not mix; None where it may not be linear."""
    act = LINEAR.get(key(node))
    grouped = node.attributes.get("group")
    if act is Act.CONTRACTS and grouped is not None and grouped.as_int() != 1:
        return None
    return act
