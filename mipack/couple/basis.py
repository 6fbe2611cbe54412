"""Groups whose units may be given another basis without changing the model.

A group between two matrices with no nonlinearity in between (dims of queries and keys, of values)
has no units of its own: any invertible A, one per context, gives the same function when what is
*covariant* (x) becomes A x and what is *contravariant* becomes A^-T x. Each contraction over the
group pairs one of each kind; every other linear op keeps the kind. A group has a frame where the
kinds can be told apart without contradiction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from mipack.couple.solve import Coupling, Group
from mipack.layout import Term, factors, leaves
from mipack.ops.linear import Act, act_of


@dataclass(frozen=True, slots=True)
class Pair:
    """A product of two activations over a group: the node and its operands with their axes."""

    node: ir.Node
    left: str
    right: str
    left_axis: int
    right_axis: int


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the basis of a group is written: initializers with their axis, by kind."""

    group: Group
    kinds: dict[str, bool]
    """Every value and initializer with units of the group -> whether it is covariant."""
    weights: tuple[tuple[str, int], ...]


def pairs_of(coupling: Coupling, group: Group) -> list[Pair]:
    """The products of two activations that contract over a group, in topological order."""
    found = []
    for node in coupling.model.graph:
        slots = [k for k, v in enumerate(node.inputs) if v is not None]
        held = [k for k in slots if _carries(coupling, node.inputs[k], group.atom)]
        data = [k for k in held if (node.inputs[k].name or "") not in coupling.constants]  # type: ignore[union-attr]
        if len(data) != 2 or act_of(node) is not Act.CONTRACTS or _makes(coupling, node, group):
            continue
        names = [node.inputs[k].name or "" for k in data]  # type: ignore[union-attr]
        axes = [_axis(coupling, name, group.atom) for name in names]
        found.append(Pair(node, names[0], names[1], axes[0], axes[1]))
    return found


def frame_of(coupling: Coupling, group: Group) -> Frame | None:
    """The frame of a group, or None where something between its weights is not linear."""
    kinds = _Kinds()
    for node in coupling.model.graph.all_nodes():
        ties = _ties(coupling, node, group.atom)
        if ties is None:
            return None
        for first, second, opposite in ties:
            if not kinds.tie(first, second, opposite):
                return None
    named = kinds.of_all()
    readers = {site.x for site in coupling.linears_reading(group)}
    roots = {kinds.find(name)[0] for name in named}
    if len(roots) != 1:
        return None
    flip = any(not named[name] for name in readers if name in named)
    if flip:
        named = {name: not kind for name, kind in named.items()}
    if any(not named.get(name, True) for name in readers):
        return None
    weights = tuple(place for place in group.touches)
    fits = all(_fits(coupling, group, name, axis) for name, axis in weights)
    return Frame(group, named, weights) if fits else None


def _fits(coupling: Coupling, group: Group, name: str, axis: int) -> bool:
    """Whether a matrix per context can be applied along this axis of an initializer."""
    axes, array = coupling.axes[name], coupling.constants[name]
    once = sum(_has(term, group.atom) for term in axes) == 1
    beside = [context for context in group.within if context in leaves(axes[axis])]
    others = [factors(term) for k, term in enumerate(axes) if k != axis]
    apart = [context for context in group.within if [context] in others]
    placed = len(beside) == len(group.within) or (not beside and len(apart) == len(group.within))
    return once and placed and array.dtype.name in ("float32", "float64", "float16")


Tie = tuple[str, str, bool]


def _ties(coupling: Coupling, node: ir.Node, atom: Term) -> list[Tie] | None:
    """Which values of a node are of one kind or of opposite kinds; None where it is not linear."""
    held = [v.name or "" for v in node.inputs if v is not None and _carries(coupling, v, atom)]
    made = [v.name or "" for v in node.outputs if _carries(coupling, v, atom)]
    if not (held or made) or (node.op_type in ("Shape", "Size") and not made):
        return []
    act = act_of(node)
    numbers = all(coupling.probe.dtypes.get(name, "").startswith("float") for name in held)
    if act is None or len(set(held)) < len(held) or not held or not numbers:
        return None
    operands = [v for v in node.inputs if v is not None]
    if act is Act.ADDS and len(held) < len([v for v in operands if _is_data(coupling, v)]):
        return None
    if act is Act.SCALES and len(held) != 1:
        return None
    if node.op_type == "Div" and held[0] != operands[0].name:
        return None
    if act is Act.CONTRACTS:
        return _contracted(coupling, node, held, made, atom)
    if not made:
        return None
    return list(_chain([*held, *made]))


def _contracted(
    coupling: Coupling, node: ir.Node, held: Sequence[str], made: Sequence[str], atom: Term
) -> list[Tie] | None:
    main = [v for v in node.inputs[:2] if v is not None]
    if len(main) != 2 or main[0].name == main[1].name:
        return None
    carrying = [v.name or "" for v in main if _carries(coupling, v, atom)]
    if not made:
        two = len(carrying) == 2 and len(held) == 2
        return [(carrying[0], carrying[1], True)] if two else None
    biased = len(node.inputs) > 2 and node.inputs[2] is not None
    if len(carrying) != 1 or len(held) != 1 + biased:
        return None
    return list(_chain([*held, *made]))


def _is_data(coupling: Coupling, value: ir.Value) -> bool:
    """Not the condition of a Where."""
    return coupling.probe.dtypes.get(value.name or "", "") != "bool"


def _chain(names: Sequence[str]) -> Iterator[Tie]:
    return ((a, b, False) for a, b in pairwise(names))


def _has(term: Term, atom: Term) -> bool:
    return atom in leaves(term)


def _carries(coupling: Coupling, value: ir.Value | None, atom: Term) -> bool:
    axes = coupling.axes.get(value.name or "", ()) if value is not None else ()
    return any(_has(term, atom) for term in axes)


def _makes(coupling: Coupling, node: ir.Node, group: Group) -> bool:
    return any(_carries(coupling, value, group.atom) for value in node.outputs)


def _axis(coupling: Coupling, name: str, atom: Term) -> int:
    return next(k for k, term in enumerate(coupling.axes[name]) if _has(term, atom))


class _Kinds:
    """Union-find with a side: values of one kind, or of opposite kinds."""

    def __init__(self) -> None:
        self._up: dict[str, tuple[str, bool]] = {}

    def find(self, name: str) -> tuple[str, bool]:
        """The leader and whether this value is of the opposite kind."""
        self._up.setdefault(name, (name, False))
        side = False
        while self._up[name][0] != name:
            name, other = self._up[name]
            side ^= other
        return name, side

    def tie(self, first: str, second: str, opposite: bool) -> bool:
        """Whether this fits what was said before."""
        (a, side), (b, other) = self.find(first), self.find(second)
        if a == b:
            return (side ^ other) == opposite
        self._up[b] = (a, side ^ other ^ opposite)
        return True

    def of_all(self) -> dict[str, bool]:
        """True for what is of its leader's kind."""
        return {name: not self.find(name)[1] for name in list(self._up)}
