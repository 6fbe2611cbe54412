"""Write down what `demand` found: nodes compute what is read, selections stand where it begins.

All shape arithmetic goes on with the sizes of the original: the Shape of a tensor that has shrunk
is told from the tensors that its positions come from, and where a shape is given to a node whose
result has shrunk, that number is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.graph.adjust import add_weight
from mipack.graph.demand import Demand, Demands
from mipack.graph.names import fresh_name, names_of
from mipack.graph.selection import Narrowing, Part, Picks, Selection, Told, places

Array = np.ndarray[Any, Any]


class Sinker:
    """Rewrites a main graph in place."""

    def __init__(self, graph: ir.Graph, found: Demands, opset: int) -> None:
        self.graph, self.found, self.opset = graph, found, opset
        self.taken = names_of(graph)
        self.reads = {node: tuple(node.inputs) for node in graph}
        self.instead: dict[ir.Value, ir.Value] = {}
        self.selected: dict[tuple[ir.Value, Part, Selection], ir.Value] = {}
        self.shapes: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        """Raises ValueError where the graph would have a cycle: positions that are told by what
        they narrow."""
        for node in self.reads:
            demand = self.found.nodes[node]
            if demand.own and self._touched(node, demand):
                self._reselect(node, demand)
            elif node.op_type != "Shape":
                self._operands(node, demand)
        for node in self.reads:
            if node.op_type == "Shape":
                self._count(node)
        self.graph.sort()

    # -- reading parts

    def _operands(self, node: ir.Node, demand: Demand) -> None:
        """Every operand is what the node reads of it; its own selections it makes itself."""
        for slot, value in enumerate(self.reads[node]):
            if value is None:
                continue
            wanted = demand.operands.get(slot, {})
            if slot == 0:
                wanted = {part: s for part, s in wanted.items() if part not in demand.own}
            node.replace_input_with(slot, self._part_of(value, wanted))
        if demand.sizes:
            node.replace_input_with(1, self._respelled(node, demand))

    def _part_of(self, value: ir.Value, wanted: Narrowing) -> ir.Value:
        """A value with no more than the wanted positions."""
        there, value = self._narrowed(value), self.instead.get(value, value)
        for part, want in sorted(wanted.items(), key=lambda item: item[0]):
            have = there.get(part)
            if have is None:
                value = self._select(value, part, want)
            elif have != want:
                assert isinstance(have, Picks) and isinstance(want, Picks)
                value = self._select(value, part, Picks(places(want, have)))
        return value

    def _narrowed(self, value: ir.Value | None) -> Narrowing:
        return self.found.values.get(value, {}) if value is not None else {}

    def _select(self, value: ir.Value, part: Part, selection: Selection) -> ir.Value:
        key = (value, part, selection)
        if key not in self.selected:
            self.selected[key] = self._emit_selection(value, part.axis, selection)
        return self.selected[key]

    def _emit_selection(self, value: ir.Value, axis: int, selection: Selection) -> ir.Value:
        if isinstance(selection, Told):
            return self._emit_told(value, axis, selection)
        at = np.array(selection.at, np.int64)
        if value.is_initializer() and value.const_value is not None:
            rows = np.ascontiguousarray(np.take(value.const_value.numpy(), at, axis))
            return add_weight(self.graph, fresh_name(f"{value.name}.read", self.taken), rows)
        run = len(at) > 1 and at[0] >= 0 and at[-1] - at[0] == len(at) - 1
        if run and self.opset >= 10:
            bounds = [self._numbers([n]) for n in (int(at[0]), int(at[-1]) + 1, axis)]
            return self._emit("Slice", [value, *bounds])
        return self._emit("Gather", [value, self._numbers(at)], axis=axis)

    def _emit_told(self, value: ir.Value, axis: int, selection: Told) -> ir.Value:
        """The selection as the model makes it, but that an index alone keeps its axis."""
        listed = [
            self._numbers([operand]) if isinstance(operand, int) else operand
            for operand in selection.operands
        ]
        if selection.op == "Gather":
            indices = self._emit("Reshape", [listed[0], self._numbers([-1])])
            return self._emit("Gather", [value, indices], axis=axis)
        start, end, step = listed
        return self._emit("Slice", [value, start, end, self._numbers([axis]), step])

    # -- selections of what has shrunk

    def _touched(self, node: ir.Node, demand: Demand) -> bool:
        there, first = self._narrowed(self.reads[node][0]), demand.operands[0]
        return any(part in there or first[part] != own for part, own in demand.own.items())

    def _reselect(self, node: ir.Node, demand: Demand) -> None:
        """The node selects among what is left, or is not needed any more."""
        value = self.reads[node][0]
        assert value is not None
        if node.op_type != "Gather":
            for read in (v for v in node.outputs if v.uses() or v.is_graph_output()):
                self._stand_in(read, self._part_of(value, demand.operands[0]))
            return
        self._operands(node, demand)
        (part, own), *_ = demand.own.items()
        have = self._narrowed(value)[part]
        at = self._places_of(demand, part, own, have)
        if at.ndim == 1 and np.array_equal(at, np.arange(have.count)):
            data = node.inputs[0]
            assert data is not None
            self._stand_in(node.outputs[0], data)
        else:
            node.replace_input_with(1, self._numbers(at))

    @staticmethod
    def _places_of(demand: Demand, part: Part, own: Selection, have: Selection) -> Array:
        """The indices of a Gather among the positions that are left."""
        indices = demand.op.const(1)
        if isinstance(own, Told) or not isinstance(have, Picks) or indices is None:
            return np.arange(have.count) if demand.op.x(1) else np.array(0)
        if part.size[0] == part.size[1]:
            indices = indices % part.size[0]
        return np.searchsorted(np.array(have.at), indices)

    def _stand_in(self, old: ir.Value, new: ir.Value) -> None:
        """Readers of a value read another."""
        node = old.producer()
        assert node is not None
        self.instead[old] = new
        if old.is_graph_output():
            same, name = self._emit("Identity", [new]), old.name
            old.name = fresh_name(f"{name}.whole", self.taken)
            same.name, same.type, same.shape = name, old.type, old.shape
            outputs = self.graph.outputs
            outputs[:] = [same if value is old else value for value in outputs]
        old.replace_all_uses_with(new)

    # -- sizes

    def _respelled(self, node: ir.Node, demand: Demand) -> ir.Value:
        """The operand that spells the shape of a result, with other numbers."""
        spelled, sizes = node.inputs[1], demand.sizes
        assert spelled is not None
        constant, length = demand.op.const(1), len(demand.op.both(1) or ())
        if constant is not None:
            return self._numbers([sizes.get(e, int(n)) for e, n in enumerate(constant)])
        producer = spelled.producer()
        pieces = list(producer.inputs) if producer and producer.op_type == "Concat" else []
        if len(pieces) == length:  # a piece a size, as exporters write it
            told = [self._numbers([sizes[e]]) if e in sizes else p for e, p in enumerate(pieces)]
            return self._emit("Concat", told, axis=0)
        where = add_weight(
            self.graph,
            fresh_name(f"{node.name}.where", self.taken),
            np.array([e in sizes for e in range(length)]),
        )
        put = self._numbers([sizes.get(e, 0) for e in range(length)])
        return self._emit("Where", [where, put, spelled])

    def _count(self, node: ir.Node) -> None:
        """Readers of the sizes of a tensor that has shrunk get those of the original."""
        value, raw = self.reads[node][0], node.outputs[0]
        shrunk = {part.axis: part for part in self._narrowed(value)}
        if value is None or not shrunk:
            return
        axes, whole = self._counted(node), None
        for user, slot in list(raw.uses()):
            element = _element(user, slot, len(axes))
            if element is None:
                whole = whole or self._rebuilt(raw, value, axes, shrunk)
                user.replace_input_with(slot, whole)
            elif axes[element] in shrunk:
                vector, place = self._size(value, shrunk[axes[element]])
                index = user.inputs[1]
                assert index is not None and index.const_value is not None
                shape = index.const_value.shape.numpy()
                user.replace_input_with(0, vector)
                user.replace_input_with(1, self._numbers(np.full(shape, place)))

    def _counted(self, node: ir.Node) -> list[int]:
        """The axes that a Shape counts."""
        axes = list(range(len(self.found.nodes[node].op.x(0))))
        start, end = (node.attributes.get(name) for name in ("start", "end"))
        return axes[start.as_int() if start else 0 : end.as_int() if end else None]

    def _rebuilt(
        self, raw: ir.Value, value: ir.Value, axes: Sequence[int], shrunk: Mapping[int, Part]
    ) -> ir.Value:
        """All sizes of the original."""
        pieces = []
        for element, axis in enumerate(axes):
            vector, place = self._size(value, shrunk[axis]) if axis in shrunk else (raw, element)
            pieces.append(self._emit("Gather", [vector, self._numbers([place])], axis=0))
        return self._emit("Concat", pieces, axis=0)

    def _size(self, value: ir.Value, part: Part) -> tuple[ir.Value, int]:
        """How long an axis was before it shrank: a vector, and the element of it that says so."""
        if part.size[0] == part.size[1]:
            return self._numbers([part.size[0]]), 0
        while part in self._narrowed(value):
            node = value.producer()
            assert node is not None
            ways = self.found.nodes[node].ways[part]
            if not ways:  # an Expand, whose operand says it
                spelled, op = self.reads[node][1], self.found.nodes[node].op
                assert spelled is not None
                return spelled, part.axis - len(op.y) + len(op.both(1) or ())
            slot, part = next(iter(ways.items()))
            source = self.reads[node][slot]
            assert source is not None
            value = source
        value = self.instead.get(value, value)
        if value not in self.shapes:
            self.shapes[value] = self._emit("Shape", [value])
        return self.shapes[value], part.axis

    # -- new nodes

    def _numbers(self, listed: Sequence[int] | Array) -> ir.Value:
        name = fresh_name("read", self.taken)
        return add_weight(self.graph, name, np.asarray(listed, np.int64))

    def _emit(self, op: str, inputs: Sequence[ir.Value | None], **attributes: int) -> ir.Value:
        name = fresh_name(f"read.{op.lower()}", self.taken)
        node = ir.node(op, inputs, attributes=attributes, name=name)
        node.outputs[0].name = name
        self.graph.append(node)
        return node.outputs[0]


def _element(user: ir.Node, slot: int, count: int) -> int | None:
    """The one size that a Gather takes; None where a reader does anything else."""
    index = user.inputs[1] if user.op_type == "Gather" and slot == 0 else None
    if index is None or index.const_value is None or index.const_value.size != 1:
        return None
    return int(index.const_value.numpy().reshape(-1)[0]) % count
