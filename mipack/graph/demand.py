"""What is read of every tensor, from the outputs back to the inputs.

A selection is a demand on its operand. Where all readers of a result ask for the same positions of
an axis, and the op keeps them apart (`along`), the node computes these alone and asks its operands
for them; else it computes everything, and asks for everything. So no node ever does more than
before, and where a tensor that is needed whole meets a node that reads a part of it, the selection
stands there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import onnx_ir as ir

from mipack.graph.along import HEAVY, Op, axes_along
from mipack.graph.bodies import bodies, captured
from mipack.graph.probe import Probe
from mipack.graph.selection import Narrowing, Part, Picks, Selection, Told, join
from mipack.graph.selectors import selected
from mipack.graph.targets import Target, target
from mipack.terms import UNIT, divides, quotient, times

Ban = tuple[ir.Node, Part]


@dataclass(slots=True)
class Demand:
    """What a node computes and asks for.

    `results`: what it makes of its results; `operands`: what it reads of each operand; `own`: what
    it selects itself, of its first operand; `ways`: for a part of the result the parts of operands
    that hold the same positions; `sizes`: new numbers in the operand that spells its shape.
    """

    op: Op
    results: Narrowing = field(default_factory=dict)
    operands: dict[int, Narrowing] = field(default_factory=dict)
    own: Narrowing = field(default_factory=dict)
    ways: dict[Part, dict[int, Part]] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    @property
    def left(self) -> Fraction:
        """The share of the results that is computed."""
        share = Fraction(1)
        for part, found in self.results.items():
            share *= Fraction(found.count, part.size[0])
        return share


@dataclass(frozen=True, slots=True)
class Demands:
    """Of every node of the main graph, and of every value that is narrowed."""

    nodes: Mapping[ir.Node, Demand]
    values: Mapping[ir.Value, Narrowing]


def demands(graph: ir.Graph, probe: Probe, opset: int, *, told: bool) -> Demands:
    """What is read, where that saves multiply-adds; the rest of the graph is left as it is.

    Without `told` only positions that the file lists count as a selection.
    """
    banned: set[Ban] = set()
    while True:
        found = _Walk(graph, probe, opset, told, banned).run()
        odd = _out_of_place(found) or _worthless(found)
        if not odd:
            return found
        banned |= odd


class _Walk:
    """One pass over the nodes, readers first."""

    def __init__(
        self, graph: ir.Graph, probe: Probe, opset: int, told: bool, banned: set[Ban]
    ) -> None:
        self.graph, self.probe, self.opset, self.told = graph, probe, opset, told
        self.banned = banned
        self.read: dict[ir.Value, Narrowing] = {v: {} for v in graph.outputs}

    def run(self) -> Demands:
        nodes: dict[ir.Node, Demand] = {}
        values: dict[ir.Value, Narrowing] = {}
        for node in reversed(self.graph):
            found = nodes[node] = self._node(node)
            if found.results:
                values.update(dict.fromkeys(node.outputs, found.results))
            for value in (v for body in bodies(node) for v in captured(body)):
                self._ask(value, {})
            if node.op_type == "Shape" and not _beyond(node.outputs[0]):
                continue  # its operand may shrink: sizes are told in another way then
            for slot, operand in enumerate(node.inputs):
                if operand is not None:
                    self._ask(operand, found.operands.get(slot, {}))
        return Demands(nodes, values)

    def _ask(self, value: ir.Value, part: Narrowing) -> None:
        self.read[value] = join(self.read[value], part) if value in self.read else part

    def _node(self, node: ir.Node) -> Demand:
        op = Op(node, self.probe, self.opset)
        own = selected(op)
        if not self.told and any(isinstance(one, Told) for one in own.values()):
            own = {}
        found = Demand(op, own=own)
        found.operands[0] = dict(found.own)
        for part, wanted in self._asked(node).items():
            if (node, part) not in self.banned:
                _accept(found, part, wanted)
        return found

    def _asked(self, node: ir.Node) -> Narrowing:
        """What all readers of all results want; only of a Split do several results keep step."""
        used = [v for v in node.outputs if v in self.read]
        in_step = node.op_type == "Split" or used == [node.outputs[0]]
        if bodies(node) or not used or not in_step:
            return {}
        asked = self.read[used[0]]
        for value in used[1:]:
            asked = join(asked, self.read[value])
        return asked


def _beyond(value: ir.Value) -> bool:
    """Whether something outside of the main graph's nodes reads a value."""
    return value.is_graph_output() or any(
        user.graph is not (producer.graph if (producer := value.producer()) else None)
        for user, _ in value.uses()
    )


def _accept(found: Demand, part: Part, wanted: Selection) -> None:
    """Narrow a result, if the op can, and ask the operands for what that takes."""
    op, first = found.op, found.operands[0]
    inner = _composed(found, part, wanted)
    if inner is not None:
        first[Part(part.axis, op.x(0)[part.axis])] = inner
        found.results[part] = wanted
        return
    ways = _ways(op, part)
    if ways is None or (not part.whole and _counted(op.node)):
        return
    if op.name == "Gather" and found.own and 1 in ways:  # which are written anew
        return
    for slot, own in ways.items():  # one part of an axis at a time
        if any(other.axis == own.axis for other in found.operands.get(slot, ())):
            return
    spelled = target(op, part, wanted, ways, found.sizes)
    if spelled is Target.NEVER:
        return
    if isinstance(spelled, tuple):
        found.sizes[spelled[0]] = spelled[1]
    for slot, own in ways.items():
        found.operands.setdefault(slot, {})[own] = wanted
    found.results[part], found.ways[part] = wanted, ways


def _counted(node: ir.Node) -> bool:
    """Whether a Shape reads a result: only of whole axes can it be told what they were."""
    return any(user.op_type == "Shape" for v in node.outputs for user, _ in v.uses())


def _composed(found: Demand, part: Part, wanted: Selection) -> Picks | None:
    """Positions of a selected axis in the axis that they are selected from."""
    op = found.op
    if not found.own or op.name == "Gather" or not part.whole:
        return None
    own = found.own.get(Part(part.axis, op.x(0)[part.axis]))
    if not isinstance(own, Picks) or not isinstance(wanted, Picks) or part.size[0] != part.size[1]:
        return None
    return Picks(tuple(own.at[at] for at in wanted.at))


def _ways(op: Op, part: Part) -> dict[int, Part] | None:
    """The parts of operands that hold the positions of a part of the result."""
    if op.name in ("Reshape", "Flatten"):
        found = _reshaped(op, part)
        return None if found is None else {0: found}
    axes = axes_along(op, part.axis)
    if axes is None or (op.name == "Expand" and not part.whole):
        return None
    return {slot: part._replace(axis=axis) for slot, axis in axes.items()}


def _reshaped(op: Op, part: Part) -> Part | None:
    """The factor of an axis of the data that lies at the same place in row-major order."""
    outer = times([*op.y[: part.axis], part.before])
    before_axis = UNIT
    for axis, size in enumerate(op.x(0)):
        if divides(before_axis, outer):
            before = quotient(outer, before_axis)
            inner = times([before, part.size])
            if divides(inner, size):
                return Part(axis, part.size, before, quotient(size, inner))
        before_axis = times([before_axis, size])
    return None


# ---------------------------------------------------------------- what is not worth it


def _out_of_place(found: Demands) -> set[Ban]:
    """Nodes that would need a selection of a factor of an axis: of these alone none can stand."""
    banned: set[Ban] = set()
    for node, demand in found.nodes.items():
        for part, value, slot, own in _links(node, demand):
            wanted = demand.operands[slot][own]
            if not own.whole and found.values.get(value, {}).get(own) != wanted:
                banned.add((node, part))
    return banned


def _links(node: ir.Node, demand: Demand) -> Iterator[tuple[Part, ir.Value, int, Part]]:
    """(part of a result, operand, its slot, the part that holds the same positions)."""
    for part, ways in demand.ways.items():
        for slot, own in ways.items():
            value = node.inputs[slot]
            if value is not None:
                yield part, value, slot, own


def _worthless(found: Demands) -> set[Ban]:
    """Connected parts in which nothing multiplies and adds less than before."""
    groups, heavy = _Groups(), set[Key]()
    for node, demand in found.nodes.items():
        for part in demand.results:
            for value in node.outputs:
                groups.tie((value, part), (node.outputs[0], part))
            if demand.op.name in HEAVY and demand.left < 1:
                heavy.add((node.outputs[0], part))
        for part, value, _, own in [*_links(node, demand), *_composing(node, demand)]:
            if own in found.values.get(value, {}):
                groups.tie((value, own), (node.outputs[0], part))
    worth = {groups.root(key) for key in heavy}
    return {
        (node, part)
        for node, demand in found.nodes.items()
        for part in demand.results
        if groups.root((node.outputs[0], part)) not in worth
    }


def _composing(node: ir.Node, demand: Demand) -> Iterator[tuple[Part, ir.Value, int, Part]]:
    """A selection of a selection stands or falls with what it selects from."""
    value = node.inputs[0] if demand.own else None
    for part in demand.results:
        for own in demand.own:
            if value is not None and part not in demand.ways and part.axis == own.axis:
                yield part, value, 0, own


Key = tuple[ir.Value, Part]


class _Groups:
    """Union-find over parts of values."""

    def __init__(self) -> None:
        self._above: dict[Key, Key] = {}

    def root(self, key: Key) -> Key:
        """The representative."""
        while (above := self._above.get(key, key)) != key:
            self._above[key] = self._above.get(above, above)
            key = above
        return key

    def tie(self, a: Key, b: Key) -> None:
        """Both belong together."""
        self._above[self.root(a)] = self.root(b)
