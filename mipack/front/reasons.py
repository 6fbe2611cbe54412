"""`why`: the chain of operations that ties an axis to others, or leads to where it is frozen.

A *place* is an axis of a tensor. Two places are neighbours where one node has both tensors among
its operands and both axes hold the same atom: there the node's rule has made them one. A breadth
first search over places from the axis in question gives the shortest such chains.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import onnx_ir as ir

from mipack.couple.listing import split_reason, state_of
from mipack.couple.solve import Coupling, Group
from mipack.data.dataset import ReadOptions
from mipack.errors import InputError
from mipack.front.inputs import prepared_model
from mipack.layout import Term, find, is_static, leaves, size_of
from mipack.prepare import Data, Source

Place = tuple[str, int]
"""(tensor, axis)."""


@dataclass(frozen=True, slots=True)
class Step:
    """Through this node to this axis of one of its operands."""

    node: str
    op: str
    tensor: str
    axis: int


@dataclass(frozen=True, slots=True)
class Part:
    """One atom of an axis. `group` is None where no matrix of the file has the atom.

    `state`: as in `GroupRow`, or "dynamic" (its size is given with the inputs), or "plain" (no
    weights to cut). `reason` says what froze or normalises it, `chain` how the axis reaches that
    place (empty where it is the place itself, or where the reason names none). `tied` lists every
    place that has the atom, `weights` those of them that are initializers.
    """

    group: str | None
    kind: str
    size: int
    state: str
    reason: str
    within: tuple[str, ...]
    chain: tuple[Step, ...]
    tied: tuple[Place, ...]
    weights: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class AxisStory:
    """One axis as the product or concatenation of its parts, outermost first."""

    axis: int
    size: int
    layout: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What holds the axes of one tensor."""

    model: str
    tensor: str
    axes: tuple[AxisStory, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """All of it as plain values."""
        return asdict(self)


def why(
    model: Source | str,
    tensor: str,
    axis: int | None = None,
    calib: Data | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    options: ReadOptions | None = None,
) -> Explanation:
    """What ties or freezes an axis (all axes by default) of a tensor, or a group by its name.

    The model is run as by `inspect`. Raises InputError for an unknown tensor (with the closest
    names) or axis.
    """
    prepared, notes = prepared_model(model, calib, sizes=sizes, options=options)
    web = _Web(prepared.coupling)
    name, chosen = _resolve(prepared.coupling, tensor, axis)
    return Explanation(str(model), name, tuple(web.axis(name, at) for at in chosen), notes)


def _resolve(coupling: Coupling, tensor: str, axis: int | None) -> tuple[str, list[int]]:
    """The tensor and the axes that are asked for; a group stands for its first weight's axis."""
    group = next((group for group in coupling.groups if group.name == tensor), None)
    if tensor not in coupling.axes and group is not None and axis is None:
        name, at = group.touches[0]
        return name, [at]
    if tensor not in coupling.axes:
        known = [*coupling.axes, *(group.name for group in coupling.groups)]
        raise InputError(f"the model has no tensor {tensor!r}", hint=_closest(tensor, known))
    rank = len(coupling.axes[tensor])
    if axis is None:
        return tensor, list(range(rank))
    if not -rank <= axis < rank:
        raise InputError(f"tensor {tensor!r} has no axis {axis}", hint=f"it has {rank} axes")
    return tensor, [axis % rank]


def _closest(name: str, known: Iterable[str]) -> str:
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    close += [other for other in names if name in other and other not in close][: 3 - len(close)]
    return f"did you mean {' or '.join(close)}?" if close else "mipack inspect lists the groups"


class _Web:
    """All places of a model, and which nodes join them."""

    def __init__(self, coupling: Coupling) -> None:
        self._coupling = coupling
        self._groups = {group.atom: group for group in coupling.groups}
        self._places: dict[Term, list[Place]] = {}
        for name, terms in coupling.axes.items():
            for axis, term in enumerate(terms):
                for atom in dict.fromkeys(leaves(term)):
                    self._places.setdefault(atom, []).append((name, axis))
        self._nodes: dict[str, list[ir.Node]] = {}
        for node in coupling.model.graph:
            for name in dict.fromkeys(_operands(node)):
                self._nodes.setdefault(name, []).append(node)

    def axis(self, tensor: str, axis: int) -> AxisStory:
        """Everything about one axis."""
        term = self._coupling.axes[tensor][axis]
        atoms = [atom for atom in dict.fromkeys(leaves(term)) if size_of(atom) != (1, 1)]
        parts = tuple(self._part(atom, (tensor, axis)) for atom in atoms)
        return AxisStory(axis, size_of(term)[0], self._spell(term), parts)

    def _part(self, atom: Term, start: Place) -> Part:
        group = self._groups.get(atom)
        reason = next(iter(atom.frozen), "") or next(iter(atom.width), "")
        weights = group.touches if group else ()
        return Part(
            group=group.name if group else None,
            kind=group.kind if group else "",
            size=size_of(atom)[0],
            state=_state(atom, group),
            reason=reason,
            within=self._names(group.within) if group else (),
            chain=self._chain(atom, start, self._ends(atom, reason)) if reason else (),
            tied=tuple(self._places[atom]),
            weights=weights,
        )

    def _names(self, atoms: Iterable[Term]) -> tuple[str, ...]:
        return tuple(self._groups[atom].name for atom in atoms if atom in self._groups)

    def _spell(self, term: Term) -> str:
        """The layout with the names of groups, e.g. `/query:out[0] 12 x /query:out[1] 32`."""
        term = find(term)
        if term.kind.name == "ATOM":
            name = self._groups[term].name + " " if term in self._groups else ""
            return f"{name}{size_of(term)[0]}" + ("" if is_static(term) else "*")
        sign = " + " if term.kind.name == "SUM" else " x "
        parts = [self._spell(part) for part in term.parts]
        inner = [f"({p})" if find(t).parts else p for p, t in zip(parts, term.parts, strict=True)]
        return sign.join(inner)

    def _ends(self, atom: Term, reason: str) -> set[Place]:
        """The places of the atom at which the reason was stated."""
        _, where = split_reason(reason)
        if reason.startswith("interface: "):
            return {place for place in self._places[atom] if place[0] == where}
        named = {
            name
            for node in self._coupling.model.graph
            if f"{node.op_type} {node.name}" == where
            for name in _operands(node)
        }
        return {place for place in self._places[atom] if place[0] in named}

    def _chain(self, atom: Term, start: Place, ends: set[Place]) -> tuple[Step, ...]:
        """The shortest way from one place of an atom to one of `ends`; empty if there is none."""
        here = set(self._places[atom])
        reached: dict[Place, tuple[Place, Step] | None] = {start: None}
        queue = [start]
        for place in queue:
            if place in ends:
                return _walk_back(reached, place)
            for node in self._nodes.get(place[0], ()):
                for other in self._operand_places(node, here):
                    if other not in reached:
                        step = Step(node.name or "", node.op_type, *other)
                        reached[other] = place, step
                        queue.append(other)
        return ()

    def _operand_places(self, node: ir.Node, here: set[Place]) -> list[Place]:
        return [
            (name, axis)
            for name in dict.fromkeys(_operands(node))
            for axis in range(len(self._coupling.axes.get(name, ())))
            if (name, axis) in here
        ]


def _operands(node: ir.Node) -> list[str]:
    return [v.name for v in [*node.inputs, *node.outputs] if v is not None and v.name]


def _state(atom: Term, group: Group | None) -> str:
    if group is not None:
        return state_of(group)
    if not is_static(atom):
        return "dynamic"
    return "frozen" if atom.frozen else "width" if atom.width else "plain"


def _walk_back(reached: dict[Place, tuple[Place, Step] | None], place: Place) -> tuple[Step, ...]:
    steps: list[Step] = []
    while (entry := reached[place]) is not None:
        place, step = entry
        steps.append(step)
    return tuple(reversed(steps))
