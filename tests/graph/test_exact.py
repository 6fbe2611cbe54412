"""Integer products mean what the op says, whatever this processor does with them."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from mipack.graph.exact import exact
from mipack.graph.load import runnable
from mipack.runtime.session import Session


def product(weight: np.ndarray, zero: np.ndarray | None = None) -> ir.Model:
    """[n, 12] uint8 x [12, m]."""
    weights = [numpy_helper.from_array(weight, "w")]
    names = ["x", "w"]
    if zero is not None:
        weights.append(numpy_helper.from_array(zero, "z"))
        names += ["", "z"]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", names, ["y"], name="p")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 12])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["n", weight.shape[1]])],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


@pytest.mark.parametrize("zero", [None, np.int8(-7), np.array([3, -128, 127], np.int8)])
def test_no_sum_saturates(zero: np.ndarray | None) -> None:
    weight = np.full((12, 3), 127, np.int8)
    weight[::5] = -128
    x = np.full((2, 12), 255, np.uint8)
    model = product(weight, None if zero is None else np.asarray(zero))
    with runnable(exact(model)) as source:
        got = Session(source, optimize=False).run({"x": x})["y"]
    shifted = weight.astype(np.int32) - np.int32(0 if zero is None else zero)
    np.testing.assert_array_equal(got, x.astype(np.int32) @ shifted)
    assert model.graph.initializers["w"].const_value.dtype == ir.DataType.INT8  # not in place


def test_what_has_no_such_product_is_left_alone() -> None:
    model = product(np.ones((12, 3), np.uint8))
    assert exact(model) is model
