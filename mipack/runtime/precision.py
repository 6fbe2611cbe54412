"""The converters of ONNX Runtime to half precision and to 8-bit integers.

Weights are signed: kernels for them are the fastest. Where products of unsigned by signed numbers
saturate (x86 without VNNI adds pairs of them in 16 bits), a weight of 7 bits cannot: that is tried
with a product of the largest numbers, so that no processor need be known by name. It runs only in
a child process (`workshop`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from mipack.runtime.fusion import LARGE, basic, store
from mipack.runtime.session import Feeds

DYNAMIC = ("MatMul", "Gemm", "Attention", "LSTM", "Gather")
"""Not convolutions: their dynamic kernel unfolds the picture and took 17 times as long as the float
one (56 convolutions, 3x3, 8 x 32 x 32)."""
CONVOLUTIONS = ("Conv", "ConvTranspose")
WEIGHTED = (*CONVOLUTIONS, "Gemm", "MatMul", "Gather")
UNTYPED = {"DefaultTensorType": TensorProto.FLOAT}
"""Of what a fused op makes no type is inferred."""
CARRIERS = (
    *("Add", "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Concat", "Pad", "Slice", "Resize", "Reshape", "Flatten", "Squeeze", "Transpose"),
)
"""What hands numbers on from convolution to convolution without needing more bits."""


def half(
    source: Path, target: Path, batches: Iterable[Feeds], libraries: list[Path]
) -> dict[str, Any]:
    """Weights and arithmetic in half precision; inputs and outputs keep their types."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    logging.disable()
    model = onnx.load(source)
    del model.graph.value_info[:]
    with tempfile.TemporaryDirectory(prefix="mipack-") as folder:
        path = Path(folder) / "whole.onnx"
        store(model, path)
        large = path.with_name(f"{path.name}.data").exists()
        made = convert_float_to_float16(str(path) if large else model, keep_io_types=True)
    store(made, target)
    halved = [t for t in made.graph.initializer if t.data_type == TensorProto.FLOAT16]
    return {"count": len(halved)}


def dynamic(
    source: Path, target: Path, batches: Iterable[Feeds], libraries: list[Path]
) -> dict[str, Any]:
    """Weights in 8 bits; activations are scaled in every run by what they turn out to be."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable()
    model = named(basic(source, libraries))
    weights = _matrices(model)
    chosen = [n for n in model.graph.node if n.op_type in DYNAMIC and _reads(n, weights)]
    narrow = saturates()
    if chosen:
        with _stored(model) as path:
            quantize_dynamic(
                path,
                target,
                per_channel=True,
                reduce_range=narrow,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=[node.name for node in chosen],
                use_external_data_format=_large(model),
                extra_options=UNTYPED,
            )
    left = [node for node in model.graph.node if node.op_type in CONVOLUTIONS]
    return {"count": len(chosen), "narrow": narrow, "left": len(left)}


def static(
    source: Path, target: Path, batches: Iterable[Feeds], libraries: list[Path]
) -> dict[str, Any]:
    """Weights and activations in 8 bits, the ranges of activations as the batches showed them."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The batches, one by one."""

        def __init__(self) -> None:
            self._rest = iter(batches)

        def get_next(self) -> Feeds | None:
            """The next, until there is none."""
            return next(self._rest, None)

    logging.disable()
    model = named(basic(source, libraries))
    chosen = _static_nodes(model)
    narrow = saturates()
    if chosen:
        with _stored(model) as path:
            quantize_static(
                path,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=sorted({node.op_type for node in chosen}),
                per_channel=True,
                reduce_range=narrow,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=[node.name for node in chosen],
                use_external_data_format=_large(model),
                extra_options={"MatMulConstBOnly": True, **UNTYPED},
            )
    weighted = sum(node.op_type in WEIGHTED for node in chosen)
    return {"count": weighted, "narrow": narrow, "left": 0}


def _static_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Products with weights, and what stands between convolutions.

    Elsewhere sums (the stream that transformers add to) stay in float: they need more than 8 bits.
    """
    weights = _matrices(model)
    constant = {tensor.name for tensor in model.graph.initializer}
    chosen: list[onnx.NodeProto] = []
    carried: set[str] = set()
    for node in model.graph.node:
        data = [name for name in node.input if name and name not in constant]
        carrier = node.op_type in CARRIERS and bool(data) and carried.issuperset(data)
        weighted = node.op_type in WEIGHTED and _reads(node, weights)
        if carrier or weighted:
            chosen.append(node)
        if carrier or (weighted and node.op_type in CONVOLUTIONS):
            carried.update(node.output)
    return chosen


def _matrices(model: onnx.ModelProto) -> set[str]:
    """Constants that a quantiser takes for weights."""
    tensors = model.graph.initializer
    return {t.name for t in tensors if t.data_type == TensorProto.FLOAT and len(t.dims) > 1}


def _reads(node: onnx.NodeProto, weights: set[str]) -> bool:
    """Whether the operand that is quantised as a weight is one."""
    place = 0 if node.op_type == "Gather" else 1
    return len(node.input) > place and node.input[place] in weights


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes are chosen by name: each gets one of its own."""
    met: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in met:
            node.name = f"{node.op_type}//{number}"
        met.add(node.name)
    return model


def saturates() -> bool:
    """Whether a product of the largest numbers, uint8 by int8, comes out wrong here."""
    rows, depth, columns = 32, 64, 32
    weight = numpy_helper.from_array(np.full((depth, columns), 127, np.int8), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "largest",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [None, depth])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [None, columns])],
        [weight],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, rows):  # a single row has a kernel of its own
        (found,) = session.run(None, {"a": np.full((count, depth), 255, np.uint8)})
        if not np.all(found == 255 * 127 * depth):
            return True
    return False


@contextmanager
def _stored(model: onnx.ModelProto) -> Iterator[Path]:
    """The model in a file, as the quantisers read it."""
    with tempfile.TemporaryDirectory(prefix="mipack-") as folder:
        path = Path(folder) / "model.onnx"
        store(model, path)
        yield path


def _large(model: onnx.ModelProto) -> bool:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) >= LARGE
