"""Take out branches of which no unit stays (`couple.branches` says what becomes of the graph).

A contraction over nothing becomes its bias, under its own name: `Identity(bias)`, or `Expand` where
its readers need the full size. Concatenations lose their empty parts, and shapes of what is gone
are read off tensors that stay. What only fed all that is left to be dropped as unread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.absence import Absence, Constant, Place, Sizes
from mipack.couple.solve import Coupling
from mipack.graph.adjust import ensure_bias
from mipack.graph.bodies import graph_of
from mipack.graph.view import Linear
from mipack.layout import Term, factors, is_static, size_of
from mipack.surgery.keep import Keep
from mipack.surgery.writer import Emit, Writer

Array = np.ndarray[Any, Any]
Twins = Mapping[ir.Node, ir.Node]
"""Nodes of the original -> those of the model that is being cut."""


def take_out(
    graph: ir.Graph, coupling: Coupling, absence: Absence, keep: Keep, twins: Twins
) -> None:
    """Rewrite a model that is being cut, in place; what nobody reads any more is left in it."""
    remover = _Remover(graph, coupling, keep)
    for node in absence.partial:
        remover.concat(twins[node], absence.empty)
    for node, sizes in absence.shapes.items():
        remover.shape(twins[node], sizes)
    for node, constant in absence.constants.items():
        remover.constant(twins[node], constant)


def constant_of(node: ir.Node) -> str:
    """The initializer that stands for the result of a contraction over nothing."""
    value = node.inputs[0]
    assert value is not None, f"{node.name} reads nothing"
    return value.name or ""


def shift_of(graph: ir.Graph, linear: Linear, node: ir.Node, taken: set[str | None]) -> str:
    """The initializer that shifts what a contraction makes: its bias, added as zeros where there is
    none, or what stands for the result where nothing is left to contract."""
    if linear.w in graph.initializers:
        return ensure_bias(graph, linear, node, taken)
    return constant_of(node)


class _Remover:
    def __init__(self, graph: ir.Graph, coupling: Coupling, keep: Keep) -> None:
        self._coupling, self._keep, self._write = coupling, keep, Writer(graph)
        made = (value for node in graph for value in node.outputs)
        self._values = {value.name or "": value for value in (*graph.inputs, *made)}

    def concat(self, node: ir.Node, empty: frozenset[str]) -> None:
        """Only the parts that are left."""
        left = [v for v in node.inputs if v is not None and v.name not in empty]
        for slot, value in enumerate(left):
            node.replace_input_with(slot, value)
        node.resize_inputs(len(left))

    def shape(self, node: ir.Node, sizes: Sizes) -> None:
        """The original sizes of a tensor that is gone."""
        source, result = node.inputs[0], node.outputs[0]
        axes = self._coupling.axes[source.name or ""] if source is not None else ()
        start, end = (node.attributes.get(name) for name in ("start", "end"))
        asked = slice(start.as_int() if start else 0, end.as_int() if end else None)
        whole = self._sizes(axes[asked], sizes[asked], node, lambda term: size_of(term)[0])
        result.replace_all_uses_with(whole)

    def constant(self, node: ir.Node, constant: Constant) -> None:
        """`node` gives its bias."""
        site, old = constant.site, node.outputs[0]
        axes = self._coupling.axes[site.y]
        bias = self._bias(site).reshape(-1, *[1] * (len(axes) - 1 - site.y_axis))
        inputs = [self._write.constant(f"{node.name}.constant", bias)]
        if constant.like:
            inputs.append(self._write.before(node)("Shape", [self._values[constant.like]]))
        elif constant.sizes:
            inputs.append(self._sizes(axes, constant.sizes, node, self._keep.size))
        made = ir.node("Expand" if len(inputs) > 1 else "Identity", inputs, name=node.name)
        made.outputs[0].name, made.outputs[0].type = old.name, old.type
        graph_of(node).insert_before(node, made)
        old.replace_all_uses_with(made.outputs[0])
        graph_of(node).remove(node, safe=True)

    def _bias(self, site: Linear) -> Array:
        kept = self._keep.flat(self._coupling.axes[site.y][site.y_axis])
        weight = self._coupling.constants[site.w]
        if site.bias is None:
            return np.zeros(len(kept), weight.dtype)
        return self._coupling.constants[site.bias].reshape(-1)[kept]

    # -- sizes

    def _sizes(
        self, axes: Sequence[Term], sizes: Sizes, node: ir.Node, size: Callable[[Term], int]
    ) -> ir.Value:
        """The sizes of a tensor as a vector; `size` tells those of static factors."""
        emit, near = self._write.before(node), f"{node.name}.size"
        pieces = []
        for axis, places in zip(axes, sizes, strict=True):
            known = int(np.prod([size(f) for f in factors(axis) if is_static(f)], dtype=np.int64))
            piece = self._number(near, known) if known != 1 or not places else None
            for place in places:
                read = self._read(place, near, emit)
                piece = read if piece is None else emit("Mul", [piece, read])
            pieces.append(piece)
        return emit("Concat", pieces, axis=0)

    def _read(self, place: Place, near: str, emit: Emit) -> ir.Value:
        """The part of a size that only a run knows: [1]."""
        name, axis = place
        row = factors(self._coupling.axes[name][axis])
        shape = emit("Shape", [self._values[name]])
        read = emit("Gather", [shape, self._number(near, axis)], axis=0)
        known = [self._keep.size(factor) for factor in row if is_static(factor)]
        inner = int(np.prod(known, dtype=np.int64))
        return emit("Div", [read, self._number(near, inner)]) if inner != 1 else read

    def _number(self, near: str, number: int) -> ir.Value:
        return self._write.constant(near, np.array([number], np.int64))
