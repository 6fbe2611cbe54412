"""Branches: groups of which no unit need stay, so that a whole part of the graph goes.

Without any unit of a group the tensors that carry it are empty, and a contraction over nothing is
an empty sum: its result is its bias, the same at every position. A group may go where that is what
happens everywhere:

* every node that reads something empty either gives only empty things, or is a contraction with a
  weight over the group, or a concatenation with parts that stay, or asks for a shape;
* such a constant meets what still depends on the input (a residual stream, a gate) before any
  weight or statistics are applied to it;
* the input still reaches every output on a way past all such groups, the *trunk*. Groups in a row
  without a bypass are on it: the fewest that any way must pass stay.

The residual stream of a transformer is trunk, heads and inner neurons may go; of a plain chain of
layers nothing may.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import onnx_ir as ir

from mipack.couple.absence import Absence, Place, Walk, axes_key, dynamic_part
from mipack.graph.bodies import bodies, reads
from mipack.layout import Kind, Term, find, leaves, parts

if TYPE_CHECKING:
    from mipack.couple.coupling import Coupling
    from mipack.graph.view import Linear

Atoms = frozenset[Term]
NONE: Atoms = frozenset()


class Branches:
    """Which groups may go entirely, and what becomes of the graph then."""

    def __init__(self, coupling: Coupling) -> None:
        self.coupling = coupling
        graph = coupling.model.graph
        self.nodes = tuple(graph)
        self.order = {node: k for k, node in enumerate(self.nodes)}
        self.reads = {node: [v.name or "" for v in reads(node)] for node in graph}
        self.makes = {node: [v.name for v in node.outputs if v.name] for node in graph}
        self.maker = {name: node for node, names in self.makes.items() for name in names}
        self.readers: dict[str, list[ir.Node]] = {}
        for node, names in self.reads.items():
            for name in dict.fromkeys(names):
                self.readers.setdefault(name, []).append(node)
        self.inputs = {v.name or "" for v in graph.inputs} - coupling.constants.keys()
        self.outputs = {v.name or "" for v in graph.outputs}
        self.linear: dict[ir.Node, Linear] = {site.node: site for site in coupling.said.linears}
        self._lost_with: dict[Term, Atoms] = {}
        self._open = self._candidates()
        self.trunk = self._trunk()

    @cached_property
    def removable(self) -> Mapping[Term, Absence]:
        """Every atom that may go alone, with what becomes of the graph."""
        found = {atom: self.without((atom,)) for atom in sorted(self._open, key=lambda a: a.id)}
        return {atom: absence for atom, absence in found.items() if absence.problem is None}

    def without(self, atoms: Iterable[Term]) -> Absence:
        """What becomes of the graph when no unit of these atoms is left.

        What may go alone may not go together where two branches meet that need each other.
        """
        return Walk(self, frozenset(map(find, atoms))).absence()

    @cached_property
    def idle(self) -> Mapping[str, list[Term]]:
        """Node -> the atoms each of which leaves it nothing to do."""
        found: dict[str, list[Term]] = {}
        for atom, absence in self.removable.items():
            for name in absence.idle:
                found.setdefault(name, []).append(atom)
        return found

    @cached_property
    def unread(self) -> Mapping[str, list[Term]]:
        """Weight -> the atoms without each of which nothing reads it."""
        found: dict[str, list[Term]] = {}
        for atom, absence in self.removable.items():
            idle = absence.dead | absence.constants.keys()
            read = {name for node in idle for name in self.reads[node]}
            for name in read & self.coupling.constants.keys():
                if idle.issuperset(self.readers[name]):
                    found.setdefault(name, []).append(atom)
        return found

    # -- what is empty

    def lost_with(self, name: str) -> Atoms:
        """Atoms each of which leaves this value empty when it goes."""
        return NONE.union(*(self.needs(term) for term in self.coupling.axes.get(name, ())))

    def needs(self, term: Term) -> Atoms:
        """The same of an axis: a product is empty with any factor, a sum with all of its parts."""
        term = find(term)
        if term not in self._lost_with:
            if term.kind is Kind.ATOM:
                self._lost_with[term] = frozenset((term,))
            else:
                listed = [self.needs(part) for part in parts(term)]
                product = term.kind is Kind.PROD
                self._lost_with[term] = (
                    NONE.union(*listed) if product else listed[0].intersection(*listed[1:])
                )
        return self._lost_with[term]

    @cached_property
    def mentions(self) -> Mapping[Term, list[str]]:
        """The values whose axes have an atom in them."""
        found: dict[Term, list[str]] = {}
        for name, axes in self.coupling.axes.items():
            for atom in dict.fromkeys(leaf for term in axes for leaf in leaves(term)):
                found.setdefault(atom, []).append(name)
        return found

    @cached_property
    def places(self) -> Mapping[tuple[int, ...], list[Place]]:
        """Where sizes that only a run knows can be read, whatever goes: by dynamic factors, the
        inputs and the values of the trunk that have them, in order."""
        found: dict[tuple[int, ...], list[Place]] = {}
        for name in self._lasting:
            for axis, term in enumerate(self.coupling.axes.get(name, ())):
                found.setdefault(dynamic_part(term), []).append((name, axis))
        return found

    @cached_property
    def alike(self) -> Mapping[tuple[int, ...], list[str]]:
        """The same values by all their axes."""
        found: dict[tuple[int, ...], list[str]] = {}
        for name in self._lasting:
            found.setdefault(axes_key(self.coupling.axes.get(name, ())), []).append(name)
        return found

    @cached_property
    def _lasting(self) -> list[str]:
        """The values that stay whatever goes, in order."""
        made = (name for names in self.makes.values() for name in names if name in self.trunk)
        return [*sorted(self.inputs), *made]

    @cached_property
    def products(self) -> Mapping[Term, list[tuple[ir.Node, tuple[Term, ...]]]]:
        """The contractions that an atom takes part in, by the nodes of the main graph."""
        found: dict[Term, list[tuple[ir.Node, tuple[Term, ...]]]] = {}
        for node in self.nodes:
            inner = (n for body in bodies(node) for n in body.all_nodes())
            names = {n.name or "" for n in (node, *inner)}
            for product in (p for name in names for p in self.coupling.said.products.get(name, ())):
                for atom in {leaf for term in product for leaf in leaves(term)}:
                    found.setdefault(atom, []).append((node, product))
        return found

    def absorbs(self, node: ir.Node, atom: Term) -> bool:
        """Whether a node that reads what is empty without an atom gives something all the same."""
        site = self.linear.get(node)
        if site is None:
            return node.op_type in ("Concat", "Shape") and not node.domain
        known = site.bias is None or site.bias in self.coupling.constants
        return known and atom in self.needs(self.coupling.axes[site.x][site.x_axis])

    # -- candidates

    def _candidates(self) -> Atoms:
        """Atoms of free groups for which every node that reads something empty can do without."""
        coupling = self.coupling
        held = {
            leaf for terms in coupling.said.averaged.values() for t in terms for leaf in leaves(t)
        }
        for name in (*self.inputs, *self.outputs):
            held.update(leaf for term in coupling.axes.get(name, ()) for leaf in leaves(term))
        free = {group.atom for group in coupling.free} - held
        for node, names in self.reads.items():
            gone = free.intersection(*[NONE.union(*map(self.lost_with, names))])
            made = [self.lost_with(name) for name in self.makes[node]]
            left = gone - made[0].intersection(*made[1:]) if made else gone
            free -= {atom for atom in left if not self.absorbs(node, atom)}
        return frozenset(free)

    def _trunk(self) -> frozenset[str]:
        """The values on the ways from the input to each output that need the fewest candidates,
        which are candidates no longer."""
        ways = _Ways(self)
        names = {name for output in sorted(self.outputs) for name in ways.back(output)}
        self._open -= NONE.union(*map(self.lost_with, names))
        return frozenset(names)

    def candidates_of(self, name: str) -> Atoms:
        """The candidates that a value needs."""
        return self.lost_with(name) & self._open


class _Ways:
    """From the inputs to every value, the way that needs the fewest candidates."""

    def __init__(self, branches: Branches) -> None:
        self._before: dict[str, str] = {}
        price = dict.fromkeys(branches.inputs, 0)
        sizes = branches.coupling.probe.shape_arithmetic
        for node, names in branches.reads.items():
            known = [name for name in dict.fromkeys(names) if name in price and name not in sizes]
            if node.op_type in ("Shape", "Size") or not known:
                continue
            for made in branches.makes[node]:
                needs = branches.candidates_of(made)
                costs = [price[n] + len(needs - branches.candidates_of(n)) for n in known]
                price[made] = min(costs)
                self._before[made] = known[costs.index(price[made])]

    def back(self, name: str) -> list[str]:
        """The values on the way to this one; none where no data reaches it."""
        if name not in self._before:
            return []
        found = [name]
        while found[-1] in self._before:
            found.append(self._before[found[-1]])
        return found
