"""Packed parts on ways of their own: the same numbers without the axis that counts the parts.

    Reshape(.., c, ..) -> [Transpose] -> select each of c
    becomes, for each part,  [Reshape] -> Slice -> Reshape -> [Transpose]

A tensor [B, S, 3, H, D] holds q, k and v in one grid, so they would have to keep equally many dims;
slices of the packed axis need not. It takes two parts at least (one alone is a "last step"), and
all readers must be selections. The packing may be [c, H, D] or [H, c, D].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.graph.adjust import add_weight
from mipack.graph.names import fresh_name, names_of
from mipack.graph.probe import Probe
from mipack.layout import UNIT, Size
from mipack.terms import runs

Shape = Sequence[Size]


@dataclass(frozen=True, slots=True)
class Selection:
    """Reads part `index` of axis `axis` and drops the axis; `nodes` do it."""

    axis: int
    index: int
    result: ir.Value
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """A Reshape (and Transpose) whose axis `axis` (of the reshaped tensor) is only selected from.

    The packed axis of the data is `source`; it holds the axes `row`, of which `axis` is one.
    """

    reshape: ir.Node
    transpose: ir.Node | None
    axis: int
    source: int
    row: tuple[int, ...]
    selections: tuple[Selection, ...]


def unbind(model: ir.Model, probe: Probe) -> bool:
    """Rewrite every packed tensor of the main graph in place; whether there was one.

    The probe does not know the new values: probe again.
    """
    found = [packed for node in model.graph if (packed := _packed(node, probe)) is not None]
    for packed in found:
        _Rewriter(model.graph, probe, packed).run()
    return bool(found)


# ---------------------------------------------------------------- finding


def _packed(node: ir.Node, probe: Probe) -> Packed | None:
    if node.op_type != "Reshape" or node.domain or node.outputs[0].is_graph_output():
        return None
    value, transpose = node.outputs[0], None
    readers = [user for user, _ in value.uses()]
    if len(readers) == 1 and readers[0].op_type == "Transpose":
        transpose, value = readers[0], readers[0].outputs[0]
    selections = [] if value.is_graph_output() else list(_selections(value, probe))
    found = [s for s in selections if s is not None]
    if len(found) < len(selections) or len({s.index for s in found}) < 2:
        return None
    if len({s.axis for s in found}) > 1:
        return None
    before, after = _shape(node.inputs[0], probe), _shape(node.outputs[0], probe)
    axis = found[0].axis if transpose is None else _order(transpose, len(after))[found[0].axis]
    return _divisible(Packed(node, transpose, axis, 0, (), tuple(found)), before, after)


def _divisible(packed: Packed, before: Shape, after: Shape) -> Packed | None:
    """Whether one static axis of the data holds the parts and what lies inside of them, and every
    size of the new shapes can be told."""
    there = [k for k, size in enumerate(before) if size != UNIT]
    here = [k for k, size in enumerate(after) if size != UNIT]
    for left, right in runs([before[k] for k in there], [after[k] for k in here]):
        row = tuple(here[k] for k in right)
        static = all(after[k][0] == after[k][1] for k in row)
        if packed.axis in row and len(left) == 1 and static:
            told = len(_unknown(before, after)) <= 1
            return replace(packed, source=there[left[0]], row=row) if told else None
    return None


def _unknown(before: Shape, after: Shape) -> list[int]:
    """Dynamic axes of a reshaped tensor that are no axis of the data."""
    return [k for k, s in enumerate(after) if s[0] != s[1] and _origin(before, after, k) is None]


def _origin(before: Shape, after: Shape, axis: int) -> int | None:
    """The axis of the data that an axis of the reshaped tensor is, where it is one."""
    there = [k for k, size in enumerate(before) if size != UNIT]
    here = [k for k, size in enumerate(after) if size != UNIT]
    for left, right in runs([before[k] for k in there], [after[k] for k in here]):
        if len(left) == len(right) == 1 and here[right[0]] == axis:
            return there[left[0]]
    return None


def _selections(value: ir.Value, probe: Probe) -> Iterator[Selection | None]:
    """What every reader selects; None for one that does anything else."""
    shape = _shape(value, probe)
    for user, slot in value.uses():
        if slot or user.domain or not shape:
            yield None
        elif user.op_type == "Gather":
            yield _gathered(user, shape, probe)
        elif user.op_type == "Split":
            yield from _split(user, shape)
        elif user.op_type == "Slice":
            yield from _sliced(user, shape, probe)
        else:
            yield None


def _gathered(node: ir.Node, shape: Shape, probe: Probe) -> Selection | None:
    index = _known(node.inputs[1], probe)
    if index is None or index.ndim:
        return None
    axis = _axis(node, len(shape))
    return Selection(axis, int(index) % shape[axis][0], node.outputs[0], (node,))


def _split(node: ir.Node, shape: Shape) -> Iterator[Selection | None]:
    axis = _axis(node, len(shape))
    if len(node.outputs) != shape[axis][0]:
        yield None
        return
    for index, piece in enumerate(node.outputs):
        yield from _squeezed(node, piece, axis, index)


def _sliced(node: ir.Node, shape: Shape, probe: Probe) -> Iterator[Selection | None]:
    after, start = _shape(node.outputs[0], probe), _known(node.inputs[1], probe)
    cut = [k for k, (a, b) in enumerate(zip(shape, after, strict=False)) if a != b]
    if len(cut) != 1 or after[cut[0]] != UNIT or start is None or start.size != 1:
        yield None
        return
    index = int(start.reshape(-1)[0]) % shape[cut[0]][0]
    yield from _squeezed(node, node.outputs[0], cut[0], index)


def _squeezed(node: ir.Node, piece: ir.Value, axis: int, index: int) -> Iterator[Selection | None]:
    """The readers of a part of length 1 must drop the axis, and nothing but it."""
    if piece.is_graph_output():
        yield None
    for user, _ in piece.uses():
        alone = user.op_type == "Squeeze" and not user.domain
        yield Selection(axis, index, user.outputs[0], (node, user)) if alone else None


def _shape(value: ir.Value | None, probe: Probe) -> Shape:
    return (probe.shapes.get(value.name or "") or ()) if value is not None else ()


def _known(value: ir.Value | None, probe: Probe) -> np.ndarray[Any, Any] | None:
    if value is None:
        return None
    if value.const_value is not None and value.is_initializer():
        return value.const_value.numpy()
    return probe.known.get(value.name or "")


def _axis(node: ir.Node, rank: int) -> int:
    found = node.attributes.get("axis")
    return (found.as_int() if found is not None else 0) % rank


def _order(transpose: ir.Node, rank: int) -> list[int]:
    found = transpose.attributes.get("perm")
    return list(found.as_ints()) if found is not None else list(range(rank))[::-1]


# ---------------------------------------------------------------- rewriting


class _Rewriter:
    def __init__(self, graph: ir.Graph, probe: Probe, packed: Packed) -> None:
        self.graph, self.packed, self.taken = graph, packed, names_of(graph)
        self.data = packed.reshape.inputs[0]
        self.before = _shape(self.data, probe)
        self.after = _shape(packed.reshape.outputs[0], probe)
        self.inner = [k for k in packed.row if k > packed.axis]
        self.width = prod(self.after[k][0] for k in self.inner)

    def run(self) -> None:
        for selection in self.packed.selections:
            self._part(selection)
        selecting = [node for s in self.packed.selections for node in s.nodes]
        readers_first = sorted(selecting, key=lambda node: node.op_type != "Squeeze")
        last = [node for node in (self.packed.transpose, self.packed.reshape) if node is not None]
        for node in dict.fromkeys([*readers_first, *last]):
            self.graph.remove(node, safe=True)

    def _part(self, selection: Selection) -> None:
        packed, value, axis = self.packed, self.data, self.packed.source
        if packed.axis != packed.row[0]:  # [.., H, c, D]: the parts lie inside of every H
            outer = [k for k in range(len(self.after)) if k not in self.inner]
            whole = {packed.axis: self.after[packed.axis][0] * self.width}
            value = self._emit("Reshape", [value, self._target(outer, whole)])
            axis = packed.axis
        bounds = (selection.index * self.width, (selection.index + 1) * self.width, axis)
        value = self._emit("Slice", [value, *(self._numbers([n]) for n in bounds)])
        left = [k for k in range(len(self.after)) if k != packed.axis]
        value = self._emit("Reshape", [value, self._target(left, {})])
        if packed.transpose is not None:
            perm = _order(packed.transpose, len(self.after))
            order = [p - (p > packed.axis) for p in perm if p != packed.axis]
            value = self._emit("Transpose", [value], perm=order)
        self._take_over(selection.result, value)

    def _target(self, axes: Sequence[int], sizes: dict[int, int]) -> ir.Value:
        """The sizes of some axes of the reshaped tensor, `sizes` instead where given."""
        dynamic = [k for k in axes if self.after[k][0] != self.after[k][1]]
        if len(dynamic) <= 1:
            listed = [-1 if k in dynamic else sizes.get(k, self.after[k][0]) for k in axes]
            return self._numbers(listed)
        shape, pieces = self._emit("Shape", [self.data]), list[ir.Value]()
        for k in axes:
            origin = _origin(self.before, self.after, k) if k in dynamic else None
            if origin is not None:
                pieces.append(self._emit("Gather", [shape, self._numbers([origin])], axis=0))
            else:
                pieces.append(
                    self._numbers([-1 if k in dynamic else sizes.get(k, self.after[k][0])])
                )
        return self._emit("Concat", pieces, axis=0)

    def _take_over(self, old: ir.Value, new: ir.Value) -> None:
        """The new value in the old one's place, under its name."""
        name = old.name
        for user, index in list(old.uses()):
            user.replace_input_with(index, new)
        outputs = self.graph.outputs
        outputs[:] = [new if value is old else value for value in outputs]
        old.name = fresh_name(f"{name}.packed", self.taken)
        new.name, new.type, new.shape = name, old.type, old.shape

    def _numbers(self, listed: Sequence[int]) -> ir.Value:
        base = f"{self.packed.reshape.name}.part"
        return add_weight(self.graph, fresh_name(base, self.taken), np.array(listed, np.int64))

    def _emit(self, op: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        name = fresh_name(f"{self.packed.reshape.name}.{op.lower()}", self.taken)
        node = ir.node(op, inputs, attributes=attributes, name=name)
        node.outputs[0].name = name
        self.graph.insert_before(self.packed.reshape, node)
        return node.outputs[0]
