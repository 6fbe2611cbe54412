"""One node of a model on its own, at any widths of its axes: what a table of times is made of.

Constants are cut to the first units and stay constants (the runtime packs them beforehand), the
other operands become inputs of their dtype and shape. The runtime hands channels in padded blocks
from one convolution to the next; a node that is run so is fed by a convolution here too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.cost import width_of
from mipack.couple.solve import Coupling
from mipack.graph.load import to_proto
from mipack.layout import Term, find, leaves
from mipack.runtime.session import Feeds
from mipack.surgery.cut import respell, write_down
from mipack.surgery.keep import Keep

Array = np.ndarray[Any, Any]
Shapes = Mapping[str, tuple[int, ...]]
NODE = "alone"


@dataclass(frozen=True, slots=True)
class Solo:
    """A node named `NODE` in a model; `key` says everything that its time depends on."""

    key: str
    model: bytes
    feeds: Feeds


class Alone:
    """A node that can be had at any widths of `atoms`, the groups on its operands.

    `shapes` holds its operands' and results' shapes in the run whose time counts. ValueError where
    an operand lists sizes: such a node makes no sense without the rest of the graph.
    """

    def __init__(
        self, coupling: Coupling, node: ir.Node, shapes: Shapes, *, blocked: bool = False
    ) -> None:
        self._coupling, self._node, self._shapes = coupling, node, shapes
        self._blocked = blocked
        self._encodings = [e for e in coupling.said.encodings if e.node is node]
        if any(isinstance(e.slot, int) for e in self._encodings):
            raise ValueError(f"{node.name} reads sizes")
        values = [v.name or "" for v in (*node.inputs, *node.outputs) if v is not None]
        self._terms = [term for name in values for term in coupling.axes.get(name, ())]
        groups = {find(group.atom): group for group in coupling.groups if not group.frozen}
        found = dict.fromkeys(leaf for term in self._terms for leaf in leaves(term))
        self._groups = {atom: groups[atom] for atom in found if atom in groups}
        self.atoms = tuple(self._groups)

    def gone(self, widths: Mapping[Term, int]) -> bool:
        """Whether nothing is left to do at these widths: an axis is empty. One group of several on
        an axis may go alone."""
        return any(width_of(term, widths) == 0 for term in self._terms)

    def at(self, widths: Mapping[Term, int]) -> Solo:
        """The node where the groups have these widths."""
        keep = self._leading(widths)
        values = {v.name or "": v for v in self._node.inputs if v is not None}
        made = {name: self._operand(name, widths, keep) for name in values}
        node = ir.Node(
            self._node.domain,
            self._node.op_type,
            [None if v is None else made[v.name or ""] for v in self._node.inputs],
            list(self._node.attributes.values()),
            num_outputs=len(self._node.outputs),
            name=NODE,
        )
        self._follow(node, keep)
        for k, (own, old) in enumerate(zip(node.outputs, self._node.outputs, strict=True)):
            own.name = (f"{NODE}.{k}" if k else NODE) if old.name else ""
        fed = [value for value in made.values() if value.const_value is None]
        weights = [value for value in made.values() if value.const_value is not None]
        nodes = [node]
        if self._blocked and len(fed) == 1 and len(fed[0].shape or ()) > 2:
            before, source, weight = _stem(fed[0])
            nodes, fed, weights = [before, node], [source], [weight, *weights]
        feeds = {v.name or "": _filled(v) for v in fed}
        return Solo(self._key(node), self._model(nodes, fed, weights), feeds)

    def _leading(self, widths: Mapping[Term, int]) -> Keep:
        """The first units of every group, in all contexts the same."""
        return Keep.leading({g: widths[a] for a, g in self._groups.items() if a in widths})

    def _operand(self, name: str, widths: Mapping[Term, int], keep: Keep) -> ir.Value:
        axes = self._coupling.axes.get(name, ())
        constant = self._coupling.constants.get(name)
        if constant is not None:
            array = constant[keep.index(axes)] if any(map(keep.cuts, axes)) else constant
            return _constant(name, np.ascontiguousarray(array))
        sizes = [
            size * width_of(term, widths) // max(width_of(term, {}), 1)
            for size, term in zip(self._shapes[name], axes, strict=True)
        ]
        return ir.Value(
            name=name, shape=ir.Shape(sizes), type=_type(self._coupling.probe.dtypes[name])
        )

    def _follow(self, node: ir.Node, keep: Keep) -> None:
        """Attributes that spell sizes, and defaults that would follow them."""
        for slot in dict.fromkeys(str(e.slot) for e in self._encodings):
            here = [e for e in self._encodings if e.slot == slot]
            if any(keep.cuts(e.term) for e in here):
                respell(node, slot, here, keep)
        for pin in self._coupling.said.pins:
            if pin.node is self._node and keep.cuts(pin.term):
                write_down(node, pin)

    def _model(self, nodes: list[ir.Node], fed: list[ir.Value], weights: list[ir.Value]) -> bytes:
        results = [value for value in nodes[-1].outputs if value.name]
        imports = dict(self._coupling.model.graph.opset_imports)
        graph = ir.Graph(
            fed, results, nodes=nodes, initializers=weights, opset_imports=imports, name=NODE
        )
        made = ir.Model(graph, ir_version=self._coupling.model.ir_version)
        return to_proto(made).SerializeToString()

    def _key(self, node: ir.Node) -> str:
        opset = self._coupling.model.graph.opset_imports.get(node.domain)
        operands = [
            None if v is None else [str(v.dtype), list(v.shape or ()), v.const_value is not None]
            for v in node.inputs
        ]
        attributes = sorted(f"{name}={attr.value}" for name, attr in node.attributes.items())
        layout = ["blocked"] if self._blocked else []
        return json.dumps([node.domain, node.op_type, opset, attributes, operands, *layout])


def _stem(value: ir.Value) -> tuple[ir.Node, ir.Value, ir.Value]:
    """A convolution of one channel that makes a value, and what it reads: data and weight."""
    shape = _sizes(value)
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    ones = [1] * (len(shape) - 2)
    source = ir.Value(
        name="source", shape=ir.Shape([shape[0], 1, *shape[2:]]), type=_type(dtype.name)
    )
    weight = _constant("stem", np.ones([shape[1], 1, *ones], dtype))
    return ir.Node("", "Conv", [source, weight], outputs=[value], name="before"), source, weight


def _constant(name: str, array: Array) -> ir.Value:
    return ir.Value(
        name=name,
        const_value=ir.tensor(array, name=name),
        shape=ir.Shape(array.shape),
        type=_type(array.dtype.name),
    )


def _type(dtype: str) -> ir.TensorType:
    return ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))


def _filled(value: ir.Value) -> Array:
    """Ordinary numbers: time may depend on them (denormal ones are slow)."""
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    sizes = _sizes(value)
    if dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(sizes).astype(dtype)
    return np.ones(sizes, dtype)


def _sizes(value: ir.Value) -> list[int]:
    return list(map(int, (value.shape or ir.Shape(())).numpy()))
