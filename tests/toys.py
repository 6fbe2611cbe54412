"""Small models built by hand, and what mipack makes of them: shared by the tests of the stages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mipack.calibrate.gradients import gradient_moments
from mipack.calibrate.moments import Calibration
from mipack.calibrate.rows import RowMap
from mipack.calibrate.sites import Site, sites_of
from mipack.calibrate.taps import Answers, answers, calibrate
from mipack.couple.solve import Coupling, Group
from mipack.data.dataset import Dataset, ReadOptions
from mipack.data.open import from_feeds
from mipack.graph.load import from_proto, runnable, signature
from mipack.prepare import Prepared, prepare
from mipack.runtime.session import Session
from mipack.select.evidence import Evidence

Array = np.ndarray[Any, Any]
Shape = Sequence[int | str]
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}


class Net:
    """A graph under construction; every method returns the name of what it made."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Shape, dtype: str = "float32") -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], list(shape)))
        return name

    def weight(self, name: str, value: Array | Sequence[int], dtype: str = "float32") -> str:
        """An array as it is; a tuple is the shape of a random one of unit gain."""
        if not isinstance(value, np.ndarray):
            fan_in = np.prod(value[1:]) if len(value) != 2 else value[0]
            value = self.rng.normal(size=value) / np.sqrt(fan_in)
        kept = value.dtype.kind == "i"
        self.weights[name] = value if kept else np.asarray(value, dtype)
        return name

    def node(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{op.lower()}{len(self.nodes)}"
        outputs = [name]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=name, **attributes))
        return name

    def dense(
        self, x: str, i: int, o: int, *, name: str, bias: bool = True, dtype: str = "float32"
    ) -> str:
        """MatMul and the Add of a vector."""
        weight = self.weight(f"{name}.w", (i, o), dtype)
        y = self.node("MatMul", x, weight, name=name)
        if not bias:
            return y
        vector = self.weight(f"{name}.b", 0.1 * self.rng.normal(size=o), dtype)
        return self.node("Add", y, vector, name=f"{name}.add")

    def conv(
        self, x: str, i: int, o: int, *, name: str, k: int = 3, bias: bool = True, **attributes: Any
    ) -> str:
        attributes.setdefault("pads", [k // 2] * 4)
        weight = self.weight(f"{name}.w", (o, i // attributes.get("group", 1), k, k))
        operands = [x, weight]
        if bias:
            operands.append(self.weight(f"{name}.b", 0.1 * self.rng.normal(size=o)))
        return self.node("Conv", *operands, name=name, **attributes)

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def proto(
        self, outputs: Mapping[str, Shape] | str, *, dtype: str = "float32", opset: int = 17
    ) -> onnx.ModelProto:
        """The finished model; a single name is an output [batch, ?]."""
        shapes = {outputs: ("batch", None)} if isinstance(outputs, str) else outputs
        declared = [
            helper.make_tensor_value_info(name, TYPES[dtype], list(shape))
            for name, shape in shapes.items()
        ]
        stored = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, "toy", self.inputs, declared, stored)
        imports = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=9)


@dataclass
class Toy:
    """A prepared model with data, and the material of each stage, made when first asked for."""

    proto: onnx.ModelProto
    feeds: Sequence[Mapping[str, Array]]
    mask: str | None = None
    size: int = 32
    signal: str = "identity"
    order: list[int] | None = None
    """The samples that calibrate, in this order; all by default."""
    sample: int | None = 0
    """The seed of the sample of rows."""

    @cached_property
    def data(self) -> Dataset:
        options = ReadOptions(samples=None, mask=self.mask or "none")
        return from_feeds(self.feeds, signature(from_proto(self.proto)), options)

    @cached_property
    def prepared(self) -> Prepared:
        return prepare(self.proto, self.data)

    @property
    def coupling(self) -> Coupling:
        return self.prepared.coupling

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return sites_of(self.coupling, self.coupling.free)

    @cached_property
    def rows(self) -> RowMap:
        names = [spec.name for spec in self.prepared.signature.inputs]
        return RowMap(self.coupling, names, self.mask)

    @cached_property
    def batches(self) -> list[Any]:
        data = self.data if self.order is None else self.data.subset(self.order)
        return list(data.batches(self.size))

    @cached_property
    def known(self) -> Answers:
        with runnable(self.coupling.model) as source:
            session = Session(source)
        outputs = [spec.name for spec in self.prepared.signature.outputs]
        return answers(session, outputs, lambda: self.batches)

    @cached_property
    def calibration(self) -> Calibration:
        return calibrate(
            self.coupling,
            self.sites,
            lambda: self.batches,
            self.known,
            self.rows,
            keys=("model", "data"),
            sample=self.sample,
        )

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(self.coupling, self.sites, self.calibration, self.signal)

    @cached_property
    def with_gradients(self) -> Evidence:
        """The evidence with gradients of the model's own answers."""
        found = gradient_moments(
            self.coupling, self.sites, lambda: self.batches, self.known, self.rows
        )
        return replace(self.evidence, calibration=replace(self.calibration, gradients=found))

    def group(self, name: str) -> Group:
        """The group of this name, or the only free one whose name starts so."""
        return next(g for g in self.coupling.groups if g.name.startswith(name))

    def site(self, name: str) -> Site:
        return next(s for s in self.sites if s.name == name)


def run(model: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of a message or an onnx-ir model, with the optimiser off."""
    model = from_proto(model) if isinstance(model, onnx.ModelProto) else model
    with runnable(model) as source:
        return Session(source, optimize=False).run(feeds)


def mlp(*widths: int, seed: int = 0, samples: int = 256) -> Toy:
    """Dense layers with ReLU between them: x [batch, n] -> y."""
    net = Net(seed)
    x = net.input("x", ("batch", widths[0]))
    for k, (i, o) in enumerate(itertools.pairwise(widths)):
        x = net.dense(net.relu(x) if k else x, i, o, name=f"fc{k}")
    feeds = [{"x": net.rng.normal(size=(samples, widths[0])).astype(np.float32)}]
    return Toy(net.proto({x: ("batch", widths[-1])}), feeds)


def cnn(seed: int = 0, samples: int = 64, classes: int = 5) -> Toy:
    """Two convolutions, a residual block, pooling and two dense layers: x [batch, 3, 8, 8]."""
    net = Net(seed)
    x = net.input("x", ("batch", 3, 8, 8))
    stem = net.relu(net.conv(x, 3, 12, name="stem"))
    wide = net.relu(net.conv(stem, 12, 16, name="wide", strides=[2, 2]))
    inner = net.relu(net.conv(wide, 16, 8, name="inner"))
    joined = net.relu(net.node("Add", wide, net.conv(inner, 8, 16, name="outer"), name="join"))
    pooled = net.node("Flatten", net.node("GlobalAveragePool", joined))
    hidden = net.relu(net.dense(pooled, 16, 24, name="hidden"))
    y = net.dense(hidden, 24, classes, name="head")
    feeds = [{"x": net.rng.normal(size=(samples, 3, 8, 8)).astype(np.float32)}]
    return Toy(net.proto({y: ("batch", classes)}), feeds)
