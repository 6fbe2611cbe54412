"""Cut a canonical model: slice its weights, respell the sizes written in its nodes.

Two coordinate systems meet here. All shape arithmetic in the graph keeps running on *original*
sizes: a Shape of a cut tensor is converted back (new -> old), and what is read as a size by a node
that makes a cut tensor is converted forth (old -> new), element by element; elements whose layout
is not cut keep their original expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.solve import Coupling
from mipack.graph.adjust import set_weight
from mipack.graph.bodies import graph_of
from mipack.graph.view import Encoding, Pin
from mipack.layout import Term, factors, find, is_static, show, size_of
from mipack.runtime.collector import paused_collector
from mipack.surgery.branches import take_out
from mipack.surgery.compact import compacted, rows_of
from mipack.surgery.interface import wrap
from mipack.surgery.keep import Keep
from mipack.surgery.writer import Writer


@paused_collector()
def cut(coupling: Coupling, keep: Keep) -> ir.Model:
    """The smaller dense model; `coupling.model` is left as it is.

    Raises nothing of its own: what cannot be cut was frozen when the layouts were solved.
    """
    return _Surgeon(coupling, keep).run()


class _Surgeon:
    def __init__(self, coupling: Coupling, keep: Keep) -> None:
        self.coupling, self.keep = coupling, keep
        self.model = coupling.model.clone()
        self.model.meta.update(coupling.model.meta)
        self.graph = self.model.graph
        nodes = zip(coupling.model.graph.all_nodes(), self.graph.all_nodes(), strict=True)
        self.twin = dict(nodes)
        self.write = Writer(self.graph)

    def run(self) -> ir.Model:
        for name in self.coupling.constants:
            self._slice(name)
        self._select()
        for pin in self.coupling.said.pins:
            if self.keep.cuts(pin.term):
                write_down(self.twin[pin.node], pin)
        spelled: dict[tuple[ir.Node, int | str], list[Encoding]] = {}
        for encoding in self.coupling.said.encodings:
            spelled.setdefault((self.twin[encoding.node], encoding.slot), []).append(encoding)
        for (node, slot), encodings in spelled.items():
            cut_ones = [e for e in encodings if self.keep.cuts(e.term)]
            if isinstance(slot, int):
                self._operand(node, slot, cut_ones + self._strays(node, encodings))
            elif cut_ones:
                self._attribute(node, slot, cut_ones)
        shapes = [n for n in self.graph.all_nodes() if n.op_type == "Shape" and not n.domain]
        gone = self.keep.gone
        if gone:
            absence = self.coupling.branches.without(gone)
            take_out(self.graph, self.coupling, absence, self.keep, self.twin)
        for node in shapes:
            self._shape(node)
        _drop_unread(self.graph)
        wrap(self.model, self.coupling, self.keep)
        return self.model

    # -- weights

    def _slice(self, name: str) -> None:
        axes = self.coupling.axes.get(name, ())
        if name not in self.graph.initializers or not any(map(self.keep.cuts, axes)):
            return
        array = self.coupling.constants[name][self.keep.index(axes)]
        set_weight(self.graph, name, np.ascontiguousarray(array))

    # -- uses of tables

    def _select(self) -> None:
        """Each use of a shared table reads the positions that it keeps; uses that keep the same
        ones read the same."""
        selected: dict[tuple[object, ...], ir.Value] = {}
        for (original, slot), name in self.coupling.said.edges.items():
            node, axes = self.twin[original], self.coupling.axes[name]
            table = node.inputs[slot]
            assert table is not None
            key = (table, *map(show, axes))
            if key not in selected:
                rows, emit = rows_of(axes, self.keep), self.write.before(node)
                selected[key] = compacted(table, rows, self.keep, self.write, emit)
            node.replace_input_with(slot, selected[key])

    # -- sizes written in attributes and operands

    def _attribute(self, node: ir.Node, slot: str, encodings: list[Encoding]) -> None:
        if slot == "split" and slot not in node.attributes:
            self._explicit_split(node)
        else:
            respell(node, slot, encodings, self.keep)

    def _explicit_split(self, node: ir.Node) -> None:
        """A Split into equal parts: the parts are no longer equal, so write them down."""
        axes = [self.coupling.axes[v.name or ""] for v in node.outputs]
        axis_attr = node.attributes.get("axis")
        axis = int(axis_attr.as_int() if axis_attr else 0) % len(axes[0])
        sizes = [self.keep.size(a[axis]) for a in axes]
        node.attributes.pop("num_outputs", None)
        if self._opset() < 13:
            node.attributes["split"] = ir.AttrInt64s("split", sizes)
            return
        node.resize_inputs(2)
        node.replace_input_with(1, self._constant(np.array(sizes, np.int64), f"{node.name}.split"))

    def _opset(self) -> int:
        imports = self.graph.opset_imports
        return int(imports.get("", imports.get("ai.onnx", 17)))

    def _operand(self, node: ir.Node, slot: int, encodings: list[Encoding]) -> None:
        value = node.inputs[slot]
        assert value is not None
        follows = self._following(node, value)
        edits = {e.element: e for e in encodings if e.element not in follows}
        if edits:
            node.replace_input_with(slot, self._edited(node, value, edits))

    def _following(self, node: ir.Node, target: ir.Value) -> set[int | None]:
        """Elements of a Reshape target that follow the tensor by themselves: -1, and a 0 that
        copies the size of the very axis that it stands for."""
        if node.op_type != "Reshape":
            return set()
        own = [e for e, there, axis in self._copies(node, target) if there is axis]
        return {*own, *(e for e, number in self._settled(target) if number == -1)}

    def _strays(self, node: ir.Node, encodings: list[Encoding]) -> list[Encoding]:
        """A 0 may copy the size of a cut axis for an axis that has other units and is not cut."""
        target = node.inputs[1] if node.op_type == "Reshape" else None
        if target is None:
            return []
        copies = self._copies(node, target)
        cut_at = {e for e, there, axis in copies if there is not axis and self.keep.cuts(axis)}
        return [e for e in encodings if e.element in cut_at and not self.keep.cuts(e.term)]

    def _copies(self, node: ir.Node, target: ir.Value) -> list[tuple[int, Term, Term]]:
        """(element, axis of the result, axis of the data) of every 0 in a Reshape target."""
        data, result = (
            self.coupling.axes.get(v.name or "", ()) if v is not None else ()
            for v in (node.inputs[0], node.outputs[0])
        )
        zeros = [e for e, number in self._settled(target) if number == 0]
        return [(e, find(result[e]), find(data[e])) for e in zeros if e < len(data)]

    def _settled(self, target: ir.Value) -> list[tuple[int, int]]:
        """(element, number) of a vector that both probes agree on."""
        constant = self.coupling.constants.get(target.name or "")
        both = self.coupling.probe.vectors.get(target.name or "")
        first, second = (constant, constant) if constant is not None else both or ((), ())
        pairs = zip(np.reshape(first, -1), np.reshape(second, -1), strict=False)
        return [(e, int(a)) for e, (a, b) in enumerate(pairs) if a == b]

    def _edited(
        self, node: ir.Node, value: ir.Value, edits: Mapping[int | None, Encoding]
    ) -> ir.Value:
        """`value` with some elements respelled; the others keep their expression."""
        constant = self.coupling.constants.get(value.name or "")
        static = all(is_static(e.term) for e in edits.values())
        if constant is not None and None in edits and edits[None].runs:
            return self._constant(self._listed(edits[None], value), value.name or "indices")
        if constant is not None:
            array = np.array(constant)
            for element, encoding in edits.items():
                at = () if element is None else (element,)
                array[at] = self._scaled(encoding, int(array[at]))
            return self._constant(array, value.name or "size")
        producer = value.producer()
        if static and producer is not None and producer.op_type == "Concat":
            return self._edited_concat(node, producer, edits)
        return self._edited_data(node, value, edits)

    def _listed(self, encoding: Encoding, value: ir.Value) -> np.ndarray[Any, Any]:
        """The kept positions of the runs, where they are in the cut axis."""
        bounds = [[self.keep.position(encoding.term, at) for at in run] for run in encoding.runs]
        name = value.name or ""
        listed = np.concatenate([np.arange(low, high) for low, high in bounds])
        shape = [self.keep.size(term) for term in self.coupling.axes[name]]
        return listed.astype(self.coupling.constants[name].dtype).reshape(shape)

    def _scaled(self, encoding: Encoding, old: int) -> int:
        if is_static(encoding.term):
            return new_size(encoding, self.keep)
        new, was = self._ratio(encoding.term)
        return old * new // was

    def _ratio(self, term: Term) -> tuple[int, int]:
        """How the static factors of an axis shrink: new / old."""
        static = [factor for factor in factors(term) if is_static(factor)]
        new = int(np.prod([self.keep.size(f) for f in static], dtype=np.int64))
        return new, int(np.prod([size_of(f)[0] for f in static], dtype=np.int64))

    def _edited_concat(
        self, node: ir.Node, concat: ir.Node, edits: Mapping[int | None, Encoding]
    ) -> ir.Value:
        """Respell the pieces of a concatenated shape where they are, in a copy of the Concat."""
        inputs, start = list(concat.inputs), 0
        for k, piece in enumerate(inputs):
            assert piece is not None
            shape = self.coupling.probe.shapes[piece.name or ""]
            assert shape is not None
            length = shape[0][0]
            inside: dict[int | None, Encoding] = {
                e - start: edit
                for e, edit in edits.items()
                if e is not None and start <= e < start + length
            }
            if inside:
                inputs[k] = self._edited(node, piece, inside)
            start += length
        return self.write.before(node)("Concat", inputs, axis=0)

    def _edited_data(
        self, node: ir.Node, value: ir.Value, edits: Mapping[int | None, Encoding]
    ) -> ir.Value:
        """Where(static?, new, value * new / old) on a vector (or scalar) of run-time numbers."""
        shape = self.coupling.probe.shapes[value.name or ""]
        length = shape[0][0] if shape else 1
        fixed, numbers = np.zeros(length, np.bool_), np.zeros(length, np.int64)
        new, old = np.ones(length, np.int64), np.ones(length, np.int64)
        for element, encoding in edits.items():
            at = element or 0
            if is_static(encoding.term):
                fixed[at], numbers[at] = True, new_size(encoding, self.keep)
            else:
                new[at], old[at] = self._ratio(encoding.term)
        shaped = [a if shape else a.reshape(()) for a in (fixed, numbers, new, old)]
        name = value.name or "size"
        if fixed.all():
            return self._constant(shaped[1], name)
        where, put, up, down = (self._constant(a, name) for a in shaped)
        if (new != old).any():
            value = self.write.before(node)(
                "Div", [self.write.before(node)("Mul", [value, up]), down]
            )
        return self.write.before(node)("Where", [where, put, value]) if fixed.any() else value

    # -- sizes read from cut tensors

    def _shape(self, node: ir.Node) -> None:
        """Convert the sizes of a cut tensor back to original ones, where somebody reads them."""
        source, result = node.inputs[0], node.outputs[0]
        axes = list(self.coupling.axes.get(source.name or "", ())) if source is not None else []
        start = node.attributes.get("start")
        end = node.attributes.get("end")
        axes = axes[start.as_int() if start else 0 : end.as_int() if end else None]
        cut_at = {k for k, term in enumerate(axes) if self.keep.cuts(term)}
        if not cut_at or not self._read(result, cut_at):
            return
        ratios = [self._ratio(term) if k in cut_at else (1, 1) for k, term in enumerate(axes)]
        raw = ir.Value(name=result.name, type=result.type, shape=result.shape)
        name = result.name or "shape"
        result.name = self.write.fresh(f"{name}.cut")
        new = self._constant(np.array([r[0] for r in ratios], np.int64), name)
        old = self._constant(np.array([r[1] for r in ratios], np.int64), name)
        users = list(result.uses())
        grown = ir.node("Mul", [result, old], name=self.write.fresh(f"{name}.grown"))
        grown.outputs[0].name = grown.name
        back = ir.node("Div", [grown.outputs[0], new], outputs=[raw], name=f"{name}.original")
        graph_of(node).insert_after(node, [grown, back])
        for user, index in users:
            user.replace_input_with(index, raw)
        outputs = graph_of(node).outputs
        outputs[:] = [raw if value is result else value for value in outputs]

    def _read(self, shape: ir.Value, cut_at: set[int]) -> bool:
        """Whether anyone reads a converted element (most read the batch or a length only)."""
        if shape.is_graph_output():
            return True
        for user, index in shape.uses():
            picked = self._picked(user, index)
            if picked is None or picked & cut_at:
                return True
        return False

    def _picked(self, user: ir.Node, index: int) -> set[int] | None:
        if user.op_type != "Gather" or index != 0 or user.inputs[1] is None:
            return None
        indices = self.coupling.constants.get(user.inputs[1].name or "")
        source = self.coupling.probe.shapes.get(user.inputs[0].name or "")  # type: ignore[union-attr]
        if indices is None or not source:
            return None
        return {int(i) % source[0][0] for i in np.reshape(indices, -1)}

    def _constant(self, array: np.ndarray[Any, Any], near: str) -> ir.Value:
        return self.write.constant(f"{near}.cut", array)


def new_size(encoding: Encoding, keep: Keep) -> int:
    """The number that an encoding spells after the cut."""
    if encoding.low is not None:
        return keep.position(encoding.term, encoding.low)
    return -keep.size(encoding.term) if encoding.taken else keep.size(encoding.term)


def write_down(node: ir.Node, pin: Pin) -> None:
    """Make an attribute explicit whose default would follow a cut size."""
    node.attributes[pin.name] = ir.convenience.convert_attribute(pin.name, pin.value)


def respell(node: ir.Node, slot: str, encodings: Sequence[Encoding], keep: Keep) -> None:
    """Write the new sizes into an attribute."""
    if encodings[0].element is None:
        node.attributes[slot] = ir.AttrInt64(slot, new_size(encodings[0], keep))
        return
    values = list(node.attributes[slot].value)
    for encoding in encodings:
        assert encoding.element is not None
        values[encoding.element] = new_size(encoding, keep)
    node.attributes[slot] = ir.AttrInt64s(slot, values)


def _drop_unread(graph: ir.Graph) -> None:
    """Nodes and initializers that nothing reads any more."""
    for node in reversed(list(graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
