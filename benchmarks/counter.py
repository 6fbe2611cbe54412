"""Multiply-adds of one run, counted from the shapes that ONNX Runtime really saw.

Independent of mipack's rules and of its cost model: the model runs once with the optimiser off and
the profiler on, and every executed node (bodies of If, Loop and Scan once per run, local functions
inlined first) is counted from the shapes in the trace.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
from onnx import helper

Shape = Sequence[int]


class Run:
    """One executed node: its message, the shapes of its operands (None: absent) and results."""

    def __init__(self, node: onnx.NodeProto, event: Mapping[str, Any]) -> None:
        self.node = node
        seen = iter(_shapes(event["input_type_shape"]))
        self.inputs = [next(seen, None) if name else None for name in node.input]
        self.outputs = _shapes(event["output_type_shape"])

    def x(self, index: int) -> Shape:
        """The shape of an operand; no elements where it is absent."""
        given = self.inputs[index] if index < len(self.inputs) else None
        return (0,) if given is None else given

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        found = [a for a in self.node.attribute if a.name == name]
        return helper.get_attribute_value(found[0]) if found else default


def _shapes(listed: Sequence[Mapping[str, Shape]]) -> list[Shape]:
    return [next(iter(entry.values())) for entry in listed]


# ---------------------------------------------------------------- formulas

Formula = Callable[[Run], int]


def _product(x: int, w: int) -> Formula:
    """out = x . w, contracted over the last axis of x (the only one where it is a vector)."""

    def count(run: Run) -> int:
        a, b, out = run.x(x), run.x(w), run.outputs[0]
        contracted = a[-2] if run.attr("transA", 0) and len(a) > 1 else a[-1]
        return prod(out) * contracted if b else 0

    return count


def _conv(w: int) -> Formula:
    """Every output element sees one filter."""
    return lambda run: prod(run.outputs[0]) * prod(run.x(w)[1:])


def _deconv(run: Run) -> int:
    """Every input element meets one filter."""
    return prod(run.x(0)) * prod(run.x(1)[1:])


def _recurrent(run: Run) -> int:
    """Both weights at every step of every sample."""
    return prod(run.x(0)[:2]) * (prod(run.x(1)) + prod(run.x(2)))


def _nbits(run: Run) -> int:
    return prod(run.x(0)) * int(run.attr("N"))


def _einsum(run: Run) -> int:
    """A product of all operands per combination of labels."""
    equation = run.attr("equation").decode().replace(" ", "").split("->")[0]
    sizes: dict[str, int] = {}
    for labels, shape in zip(equation.split(","), (s for s in run.inputs if s), strict=False):
        spelled = re.findall(r"\.\.\.|\w", labels)
        extra = len(shape) - len(spelled) + 1
        names = [
            n for s in spelled for n in ([f".{k}" for k in range(-extra, 0)] if s == "..." else [s])
        ]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    return prod(sizes.values()) * equation.count(",")


def _packed(run: Run) -> int:
    """com.microsoft Attention: the projection to q, k, v, then both products."""
    x, w, out = run.x(0), run.x(1), run.outputs[0]
    sizes = run.attr("qkv_hidden_sizes") or [w[1] // 3] * 3
    length = _total(run, x[1])
    both = x[0] * x[1] * length * (sizes[0] + out[-1])
    return prod(x) * w[1] + both


def _total(run: Run, length: int) -> int:
    """Keys seen: with a cache its present size (axis -2 of the last result of rank > 3)."""
    present = [shape for shape in run.outputs[1:] if len(shape) > 3]
    return max([length, *(shape[-2] for shape in present)])


def _heads(run: Run) -> int:
    """Attention over separate q, k, v ([B, S, H * D] or [B, H, S, D]; packed ones in q alone)."""
    q, k, out = run.x(0), run.inputs[1] if len(run.inputs) > 1 else None, run.outputs[0]
    rows = prod(q[:-1]) if len(q) > 3 else q[0] * q[1]
    keys = q[-2] if k is None else k[-2]
    width = out[-1] if k is None else q[-1]
    return rows * _total(run, keys) * (width + out[-1])


FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(["MatMul", "MatMulInteger", "FusedMatMul"], _product(0, 1)),
    **dict.fromkeys(["Gemm", "FusedGemm", "GemmFastGelu", "DynamicQuantizeMatMul"], _product(0, 1)),
    **dict.fromkeys(["MatMulIntegerToFloat"], _product(0, 1)),
    **dict.fromkeys(["QLinearMatMul", "QGemm"], _product(0, 3)),
    **dict.fromkeys(["Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "DeformConv"], _conv(1)),
    "QLinearConv": _conv(3),
    "ConvTranspose": _deconv,
    **dict.fromkeys(["LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"], _recurrent),
    **dict.fromkeys(["MatMulNBits", "MatMulBnb4"], _nbits),
    "Einsum": _einsum,
}  # fmt: skip
ATTENTION: dict[tuple[str, str], Formula] = {
    ("", "Attention"): _heads,
    ("com.microsoft", "Attention"): _packed,
    ("com.microsoft", "QAttention"): _packed,
    ("com.microsoft", "MultiHeadAttention"): _heads,
    ("com.microsoft", "GroupQueryAttention"): _heads,
}


def macs_of(run: Run) -> int:
    """Multiply-adds of one executed node; 0 for ops that contract nothing."""
    domain = "" if run.node.domain == "ai.onnx" else run.node.domain
    formula = ATTENTION.get((domain, run.node.op_type)) or FORMULAS.get(run.node.op_type)
    return formula(run) if formula else 0


# ---------------------------------------------------------------- the run


def count(path: Path, feeds: Mapping[str, np.ndarray[Any, Any]]) -> int:
    """Multiply-adds of one run of the model in a file."""
    model = onnx.inliner.inline_local_functions(onnx.load(path))
    nodes = dict(_named(model.graph, "n"))
    events = _traced(model.SerializeToString(), feeds)
    suffix = "_kernel_time"
    return sum(
        macs_of(Run(nodes[event["name"].removesuffix(suffix)], event["args"]))
        for event in events
        if event["name"].endswith(suffix) and event["name"].removesuffix(suffix) in nodes
    )


def _traced(model: bytes, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[dict[str, Any]]:
    """The profiler's events; weights are not repacked, for a repacked one has no shape."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "trace")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        known = {value.name for value in session.get_inputs()}
        session.run(None, {name: feeds[name] for name in feeds if name in known})
        return json.loads(Path(session.end_profiling()).read_text())


def _named(graph: onnx.GraphProto, prefix: str) -> Iterator[tuple[str, onnx.NodeProto]]:
    """Every node, bodies included, under a name of its own."""
    for index, node in enumerate(graph.node):
        node.name = f"{prefix}.{index}"
        yield node.name, node
        for place, attribute in enumerate(node.attribute):
            for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _named(body, f"{node.name}.{place}")
