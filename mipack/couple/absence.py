"""What becomes of a graph when some groups have no unit left (see `branches`).

From the empty tensors outwards: contractions over nothing become constants, what only fed them is
dead, shapes that are still asked for are put together from tensors that stay. A constant is left
as short as its bias where all that reads it spreads it over its result anyway.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from mipack.graph.bodies import FLOW, bodies
from mipack.graph.pointwise import BROADCASTING, UNARY
from mipack.layout import UNIT, Kind, Term, factors, find, is_static, parts, size_of

if TYPE_CHECKING:
    from mipack.couple.branches import Branches
    from mipack.graph.view import Linear

Place = tuple[str, int]
"""An axis of a value, by name and number."""
Sizes = tuple[tuple[Place, ...], ...]
"""For every axis of a tensor where what only a run knows of its size can be read: the product of
the dynamic factors of these places; nothing where it is static."""
ONE_WAY = ("PRelu",)
"""Ops that spread one operand over the other, but not the other way round."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A contraction over nothing. Where its result is to be written at its full size, this is that
    of the tensor `like`, or it is put together from `sizes`."""

    site: Linear
    like: str = ""
    sizes: Sizes = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why these atoms may not go (together)."""

    text: str
    atoms: frozenset[Term]


@dataclass(frozen=True, slots=True)
class Absence:
    """`dead` nodes are read by nobody; `constants` and `partial` concatenations do without their
    empty operands; `shapes` says where sizes of an empty tensor are to be read instead."""

    empty: frozenset[str]
    dead: frozenset[ir.Node]
    constants: Mapping[ir.Node, Constant]
    partial: tuple[ir.Node, ...]
    shapes: Mapping[ir.Node, Sizes]
    problem: Problem | None

    @property
    def idle(self) -> frozenset[str]:
        """The names of the nodes that do nothing any more, those in bodies included."""
        inner = (n for node in self.dead for body in bodies(node) for n in body.all_nodes())
        return frozenset(n.name or "" for n in (*self.dead, *self.constants, *inner))


class Walk:
    """One look at the graph without some atoms; visits only what they touch."""

    def __init__(self, branches: Branches, gone: frozenset[Term]) -> None:
        self._on, self._gone = branches, gone
        self._axes = branches.coupling.axes
        self._problem: Problem | None = None
        mentioned = dict.fromkeys(name for atom in gone for name in branches.mentions.get(atom, ()))
        self._empty = frozenset(
            name for name in mentioned if any(map(self._vanishes, self._axes[name]))
        )
        touched = {node for name in self._empty for node in branches.readers.get(name, ())}
        self._touched = sorted((n for n in touched if not self._is_empty(n)), key=self._place)
        self._fixed = {node for node in self._touched if self._contracts(node)}
        self._dead: set[ir.Node] = set()
        self._still: set[str] = set()
        """Values that are the same at every position."""

    def absence(self) -> Absence:
        """The whole answer."""
        self._bury()
        alive = [node for node in self._touched if node not in self._dead]
        for node in alive:
            if node not in self._fixed and not self._does_without(node):
                self._object(f"{node.op_type} {node.name} needs a unit", self._blamed(node))
        for node in self._idle():
            text = f"{node.op_type} {node.name} would sum over nothing"
            self._object(text, self._gone)
        fixed = [node for node in alive if node in self._fixed]
        self._follow(fixed)
        constants = {node: self._constant(node) for node in fixed}
        shapes = {node: self._shape(node) for node in alive if node.op_type == "Shape"}
        partial = tuple(node for node in alive if node.op_type == "Concat")
        dead = frozenset(self._dead)
        return Absence(self._empty, dead, constants, partial, shapes, self._problem)

    # -- what is empty

    def _vanishes(self, term: Term) -> bool:
        term = find(term)
        if not self._gone.isdisjoint(self._on.needs(term)):
            return True
        if len(self._gone) == 1 or term.kind is Kind.ATOM:
            return False
        found = map(self._vanishes, parts(term))  # several may empty a sum together
        return any(found) if term.kind is Kind.PROD else all(found)

    def _is_empty(self, node: ir.Node) -> bool:
        """Whether all that a node gives is empty."""
        return all(name in self._empty for name in self._on.makes[node])

    def _contracts(self, node: ir.Node) -> bool:
        site = self._on.linear.get(node)
        if site is None or not (site.bias is None or site.bias in self._on.coupling.constants):
            return False
        return self._vanishes(self._axes[site.x][site.x_axis])

    def _does_without(self, node: ir.Node) -> bool:
        given_out = not self._on.outputs.isdisjoint(self._on.makes[node])
        return node.op_type in ("Concat", "Shape") and not node.domain and not given_out

    def _idle(self) -> Iterator[ir.Node]:
        """Nodes that are left with nothing to sum up, other than contractions with a weight."""
        found = (entry for atom in self._gone for entry in self._on.products.get(atom, ()))
        for node, product in found:
            inside = node not in self._dead and node not in self._fixed
            if inside and any(map(self._vanishes, product)):
                yield node

    # -- what is dead

    def _bury(self) -> None:
        """From the last node to the first: what nobody needs."""
        heads = [*self._fixed, *(n for n in self._touched if self._does_without(n))]
        makers = [self._on.maker[n] for n in self._empty if n in self._on.maker]
        waiting = [-self._place(node) for node in (*heads, *makers)]
        heapq.heapify(waiting)
        nodes, last = self._on.nodes, None
        while waiting:
            place = -heapq.heappop(waiting)
            node = nodes[place]
            if place == last:
                continue
            last = place
            if not any(map(self._wanted, self._on.makes[node])):
                self._dead.add(node)
            for name in self._on.reads[node]:
                spared = node in self._dead or not self._needs(node, name)
                if spared and name in self._on.maker:
                    heapq.heappush(waiting, -self._place(self._on.maker[name]))

    def _wanted(self, name: str) -> bool:
        if name in self._on.outputs:
            return True
        return any(
            node not in self._dead and self._needs(node, name)
            for node in self._on.readers.get(name, ())
        )

    def _needs(self, node: ir.Node, name: str) -> bool:
        if node in self._fixed:
            return False
        return not (self._does_without(node) and name in self._empty)

    # -- what is constant

    def _follow(self, fixed: Sequence[ir.Node]) -> None:
        """Constants on their way to something that depends on the input."""
        self._still.update(name for node in fixed for name in self._on.makes[node])
        waiting = [self._place(r) for node in fixed for r in self._alive_readers(node)]
        heapq.heapify(waiting)
        seen: set[int] = set()
        while waiting:
            place = heapq.heappop(waiting)
            node = self._on.nodes[place]
            if place in seen or node in self._fixed or node.op_type == "Shape":
                continue
            seen.add(place)
            if self._meets_data(node):
                continue
            self._still.update(self._on.makes[node])
            for reader in self._alive_readers(node):
                heapq.heappush(waiting, self._place(reader))

    def _meets_data(self, node: ir.Node) -> bool:
        """Whether a constant ends here; objects where it would be put to work instead."""
        said = self._on.coupling.said
        works = (node.name or "") in said.products or node.op_type in FLOW
        moves = any(map(self._moves, self._on.reads[node]))
        given_out = not self._on.outputs.isdisjoint(self._on.makes[node])
        joined = node.op_type == "Concat"
        if works or (moves and joined) or (not moves and (node in said.averaged or given_out)):
            origin = next(name for name in self._on.reads[node] if name in self._still)
            self._object(f"{node.op_type} {node.name} would see a constant", self._origin(origin))
        return moves or works

    def _moves(self, name: str) -> bool:
        """Whether a value depends on the input still."""
        on, seen, stack = self._on, set[str](), [name]
        while stack:
            name = stack.pop()
            node = on.maker.get(name)
            stops = name in self._still or name in self._empty or name in seen
            if stops or name in on.coupling.probe.shape_arithmetic:
                continue
            if name in on.trunk or name in on.inputs:
                return True
            seen.add(name)
            if node is not None and node not in self._fixed:
                stack += on.reads[node]
        return False

    def _alive_readers(self, node: ir.Node) -> Iterator[ir.Node]:
        for name in self._on.makes[node]:
            yield from (r for r in self._on.readers.get(name, ()) if r not in self._dead)

    # -- at which size

    def _constant(self, node: ir.Node) -> Constant:
        site = self._on.linear[node]
        rank = len(self._axes[site.y])
        if site.y not in self._on.outputs and self._spread(site.y, rank, {site.y_axis - rank}):
            return Constant(site)
        alike = self._on.alike.get(axes_key(self._axes[site.y]), ())
        before = [name for name in alike if self._made_before(name, node)]
        if before:
            return Constant(site, before[-1])
        return Constant(site, sizes=self._sizes(self._axes[site.y], node))

    def _spread(self, name: str, rank: int, present: set[int]) -> bool:
        """Whether all readers spread a value that is long only along some axes (counted from the
        last) of its `rank` over their results."""
        return all(
            self._spreads(node, name, present, rank)
            for node in self._on.readers.get(name, ())
            if node not in self._dead
        )

    def _spreads(self, node: ir.Node, name: str, present: set[int], rank: int) -> bool:
        if node.op_type not in (*UNARY, *BROADCASTING) or node.op_type in ONE_WAY or node.domain:
            return False
        made, others = self._on.makes[node][0], [n for n in self._on.reads[node] if n != name]
        full, whole = self._long(made)
        long = set(present)
        seen_rank = -min(present)
        for other in others:
            if other in self._still:
                continue
            there, its_rank = self._long(other)
            long, seen_rank = long | there, max(seen_rank, its_rank)
        if long >= full and seen_rank == whole:
            return True
        return made not in self._on.outputs and self._spread(made, whole, long)

    def _long(self, name: str) -> tuple[set[int], int]:
        """The axes of a value that are longer than 1, from the last, and its rank."""
        axes = self._axes.get(name, ())
        return {k - len(axes) for k, t in enumerate(axes) if size_of(t) != UNIT}, len(axes)

    def _shape(self, node: ir.Node) -> Sizes:
        return self._sizes(self._axes.get(self._on.reads[node][0], ()), node)

    def _sizes(self, axes: Sequence[Term], node: ir.Node) -> Sizes:
        """Where the sizes that only a run knows can be read before a node, whatever else goes."""
        return tuple(self._read_at(dynamic_part(axis), node) for axis in axes)

    def _read_at(self, part: tuple[int, ...], node: ir.Node) -> tuple[Place, ...]:
        """One place for all the factors, or one for each."""
        if not part:
            return ()
        for place in self._on.places.get(part, ()):
            if self._made_before(place[0], node):
                return (place,)
        if len(part) == 1:
            self._object(f"no size for the result of {node.op_type} {node.name}", self._gone)
            return ()
        return tuple(place for one in part for place in self._read_at((one,), node))

    def _made_before(self, name: str, node: ir.Node) -> bool:
        maker = self._on.maker.get(name)
        return maker is None or self._place(maker) < self._place(node)

    # -- who is to blame

    def _object(self, text: str, atoms: Iterable[Term]) -> None:
        if self._problem is None:
            self._problem = Problem(text, frozenset(atoms))

    def _blamed(self, node: ir.Node) -> frozenset[Term]:
        """The atoms without which a node has nothing to read."""
        names = [name for name in self._on.reads[node] if name in self._empty]
        needed = frozenset[Term]().union(*map(self._on.lost_with, names)) & self._gone
        return needed or self._gone

    def _origin(self, name: str) -> frozenset[Term]:
        """The atoms that made a value constant."""
        while True:
            node = self._on.maker[name]
            if node in self._fixed:
                return self._blamed(node)
            name = next(n for n in self._on.reads[node] if n in self._still)

    def _place(self, node: ir.Node) -> int:
        return self._on.order[node]


def axes_key(axes: Iterable[Term]) -> tuple[int, ...]:
    """What tells tensors of the same sizes: their axes, by identity."""
    return tuple(find(term).id if size_of(term) != UNIT else 0 for term in axes)


def dynamic_part(axis: Term) -> tuple[int, ...]:
    """What tells the size that only a run knows: the dynamic factors of an axis, by identity."""
    return tuple(term.id for term in factors(axis) if not is_static(term))
