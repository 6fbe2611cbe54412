"""The original with the cut units silenced: what a cut model must equal.

Original-size model, every weight and every activation zero at cut positions
(`Where(mask, x, 0)`, not a product: 0 * -inf of an attention mask is NaN). Masking weights alone
is not enough: sigmoid(0) is 0.5. Where a node takes statistics over a cut axis (a norm, a mean, a
softmax), zeros are not silent: it is given the kept positions alone and its results are spread
over the original ones again, so that every statistic is that of the kept units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.solve import Coupling
from mipack.graph.adjust import set_weight
from mipack.graph.bodies import graph_of
from mipack.graph.view import Encoding, Pin
from mipack.layout import UNIT, Layout, Term, factors, is_static, leaves, size_of
from mipack.runtime.collector import paused_collector
from mipack.surgery.compact import Piece, compacted, rows_of, spread_out
from mipack.surgery.cut import respell, write_down
from mipack.surgery.interface import changed_inputs, take_name
from mipack.surgery.keep import Keep
from mipack.surgery.writer import Writer

MASKED = ("float16", "float32", "float64", "int32", "int64")
"""Integers too: a count of units must not count silenced ones. Of bfloat16 there is no Where."""
POINTED = ("int8", "uint8")
"""Quantised numbers that there is a Where of; wider and narrower ones are read as floats only."""
RUN_TIME = 0
"""Stands for the size of a dynamic factor."""
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@paused_collector()
def masked(coupling: Coupling, keep: Keep) -> ir.Model:
    """The original at its size with every cut unit silenced."""
    return _Masker(coupling, keep).run()


class _Masker:
    def __init__(self, coupling: Coupling, keep: Keep) -> None:
        self.coupling, self.keep = coupling, keep
        self.model = coupling.model.clone()
        self.graph = self.model.graph
        self.write = Writer(self.graph)
        self._values: dict[str, ir.Value] = {}
        self._pins: dict[ir.Node, list[Pin]] = {}
        self._attributes: dict[ir.Node, list[Encoding]] = {}
        for pin in coupling.said.pins:
            self._pins.setdefault(pin.node, []).append(pin)
        for encoding in coupling.said.encodings:
            if isinstance(encoding.slot, str):
                self._attributes.setdefault(encoding.node, []).append(encoding)

    def run(self) -> ir.Model:
        for name, array in self.coupling.constants.items():
            axes = self.coupling.axes.get(name, ())
            cut = name in self.graph.initializers and any(map(self.keep.cuts, axes))
            if cut and array.dtype.kind == "f":
                kept = self.keep.mask(axes)
                set_weight(self.graph, name, np.where(kept, array, array.dtype.type(0)))
        self._values = {v.name or "": v for n in self.graph.all_nodes() for v in n.outputs}
        self._values |= dict(self.graph.initializers)
        originals = self.coupling.model.graph.all_nodes()
        twins = dict(zip(self.graph.all_nodes(), originals, strict=True))
        for value in changed_inputs(self.model, self.coupling, self.keep):
            self._mask_input(value)
        for node, original in twins.items():
            averaged = self.coupling.said.averaged.get(original, ())
            over = self.keep.only({leaf for term in averaged for leaf in leaves(term)})
            if over.tables:
                self._compact(node, original, over)
                shown = [self._spread_out(node, value, over) for value in node.outputs]
            else:
                shown = list(node.outputs)
            for value in shown:
                if self._silent(value):
                    self._mask(node, value)
        return self.model

    def _compact(self, node: ir.Node, original: ir.Node, over: Keep) -> None:
        """Let a node see the kept units alone, of what it takes statistics over."""
        for slot, before in enumerate(original.inputs):
            value, rows = node.inputs[slot], self._rows(before, over)
            if value is not None:
                emit = self.write.before(node)
                node.replace_input_with(slot, compacted(value, rows, over, self.write, emit))
        for pin in self._pins.get(original, ()):
            if over.cuts(pin.term):
                write_down(node, pin)
        for encoding in self._attributes.get(original, ()):
            if over.cuts(encoding.term):
                respell(node, str(encoding.slot), [encoding], over)

    def _spread_out(self, node: ir.Node, result: ir.Value, over: Keep) -> ir.Value:
        """A result at its original positions; what comes between is masked next."""
        users, name = list(result.uses()), result.name or ""
        emit = self.write.behind(node)
        value = spread_out(result, self._rows(result, over), over, self.write, emit)
        if value is not result:
            result.name = self.write.fresh(f"{name}.kept")
            value.name, value.type = name, result.type
            for user, index in users:
                user.replace_input_with(index, value)
            _hand_out(node, result, value)
        return value

    def _rows(self, value: ir.Value | None, over: Keep) -> list[list[Piece]]:
        axes = self.coupling.axes.get(value.name or "", ()) if value is not None else ()
        return rows_of(axes, over)

    def _silent(self, value: ir.Value) -> bool:
        """Whether this value is a tensor of numbers with cut units that a mask can express."""
        name = value.name or ""
        axes = self.coupling.axes.get(name, ())
        dtype = self.coupling.probe.dtypes.get(name)
        known = dtype in (POINTED if name in self.coupling.said.zeros else MASKED)
        if not known:
            return False
        one_unknown = all(_pieces(axis).count(RUN_TIME) <= 1 for axis in axes)
        return one_unknown and any(map(self.keep.cuts, axes))

    def _mask(self, node: ir.Node, value: ir.Value) -> None:
        name = value.name or ""
        axes, users = self.coupling.axes[name], list(value.uses())
        kept = self.keep.mask([Layout().prod(_static(axis)) for axis in axes])
        mixed = any(_static(axis) and not is_static(axis) for axis in axes)
        condition = (
            self._spread(node, value, kept) if mixed else self.write.constant(f"{name}.mask", kept)
        )
        emit, zero = self.write.behind(node), self._zero(node, name)
        result = emit("Where", [condition, value, zero])
        for user, index in users:
            user.replace_input_with(index, result)
        if any(value is output for output in self.graph.outputs):
            take_name(self.model, value, result, self.write)
        _hand_out(node, value, result)

    def _mask_input(self, value: ir.Value) -> None:
        """Units of the signature that are cut come in as zeros."""
        name, users = value.name or "", list(value.uses())
        emit = self.write.before(self.graph[0])
        axes = [t if is_static(t) else Layout().atom(1) for t in self.coupling.axes[name]]
        kept = self.write.constant(f"{name}.mask", self.keep.mask(axes))
        result = emit("Where", [kept, value, self._number(name)])
        for user, index in users:
            user.replace_input_with(index, result)

    def _number(self, name: str) -> ir.Value:
        zero = np.zeros((), np.dtype(self.coupling.probe.dtypes[name]))
        return self.write.constant(f"{name}.mask", zero)

    def _zero(self, node: ir.Node, name: str) -> ir.Value:
        """What means zero: 0, or the zero point of a quantised tensor."""
        if name not in self.coupling.said.zeros:
            return self.write.constant(
                f"{name}.mask", np.zeros((), np.dtype(self.coupling.probe.dtypes[name]))
            )
        point, axis = self.coupling.said.zeros[name]
        value = self._values[point]
        if size_of(Layout().prod(self.coupling.axes.get(point, ()))) == UNIT:
            return value
        emit, shape = self.write.behind(node), [1] * len(self.coupling.axes[name])
        shape[axis] = -1
        return emit("Reshape", [value, self.write.constant(f"{name}.mask", np.array(shape))])

    def _spread(self, node: ir.Node, value: ir.Value, kept: Bools) -> ir.Value:
        """The mask of a tensor with an axis like B x H: over all factors first, then merged.

        The size of a dynamic factor is that of its axis by those of the static ones.
        """
        name, emit = value.name or "", self.write.behind(node)
        pieces = [_pieces(axis) for axis in self.coupling.axes[name]]
        listed = np.array([n for row in pieces for n in row], np.int64)
        shape = [n or 1 if kept.shape[k] > 1 else 1 for k, row in enumerate(pieces) for n in row]
        axis = np.array([k for k, row in enumerate(pieces) for _ in row], np.int64)
        inner = np.array([np.prod([n or 1 for n in row]) for row in pieces], np.int64)[axis]
        sizes = emit("Shape", [value])
        each = emit("Gather", [sizes, self.write.constant(f"{name}.mask", axis)])
        each = emit("Div", [each, self.write.constant(f"{name}.mask", inner)])
        fixed = self.write.constant(f"{name}.mask", listed != RUN_TIME)
        each = emit("Where", [fixed, self.write.constant(f"{name}.mask", listed), each])
        wide = emit("Expand", [self.write.constant(f"{name}.mask", kept.reshape(shape)), each])
        return emit("Reshape", [wide, sizes])


def _hand_out(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    """Where a graph gives out `old`, give out `new`."""
    outputs = graph_of(node).outputs
    if any(value is old for value in outputs):
        new.type = old.type
        outputs[:] = [new if value is old else value for value in outputs]


def _static(axis: Term) -> list[Term]:
    """The static factors of an axis."""
    return [factor for factor in factors(axis) if is_static(factor)]


def _pieces(axis: Term) -> list[int]:
    """Sizes of the factors of an axis; a run of dynamic ones is one."""
    sizes: list[int] = []
    for factor in factors(axis):
        size = size_of(factor)[0] if is_static(factor) else RUN_TIME
        if size != RUN_TIME or sizes[-1:] != [RUN_TIME]:
            sizes.append(size)
    return sizes or [1]
