"""New nodes and constants in a graph that is being changed; their names are new to the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.graph.adjust import add_weight
from mipack.graph.bodies import graph_of
from mipack.graph.names import fresh_name, names_of

Emit = Callable[..., ir.Value]
"""(op, inputs, **integer attributes) -> the result of a new node."""


class Writer:
    """Puts nodes before or behind others, in the graph or body that these stand in."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph, self._taken = graph, names_of(graph)
        self._last: dict[ir.Node, ir.Node] = {}

    def fresh(self, base: str) -> str:
        """A name that is not in the file yet."""
        return fresh_name(base, self._taken)

    def constant(self, near: str, array: np.ndarray[Any, Any]) -> ir.Value:
        """A new initializer of the main graph."""
        return add_weight(self._graph, self.fresh(near), array)

    def before(self, node: ir.Node) -> Emit:
        """New nodes stand before `node`."""

        def emit(op: str, inputs: Sequence[ir.Value | None], **attributes: int) -> ir.Value:
            made = self._node(node, op, inputs, attributes)
            graph_of(node).insert_before(node, made)
            return made.outputs[0]

        return emit

    def behind(self, node: ir.Node) -> Emit:
        """New nodes stand behind `node`, and behind what was put there before."""

        def emit(op: str, inputs: Sequence[ir.Value | None], **attributes: int) -> ir.Value:
            made = self._node(node, op, inputs, attributes)
            graph_of(node).insert_after(self._last.get(node, node), made)
            self._last[node] = made
            return made.outputs[0]

        return emit

    def _node(
        self, near: ir.Node, op: str, inputs: Sequence[ir.Value | None], attributes: dict[str, int]
    ) -> ir.Node:
        name = self.fresh(f"{near.name}.{op.lower()}")
        made = ir.node(op, inputs, attributes=attributes, name=name)
        made.outputs[0].name = name
        return made
