"""Rules -> groups: run every node's rule, settle the equations, collect what is tied together.

A *group* is one static atom that touches a matrix of the file: units that live or die together
everywhere. It is *free* when neither frozen nor normalised over (a width).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

import mipack.ops  # noqa: F401 - registers the rules
from mipack.couple.cost import lost_of
from mipack.couple.coupling import Coupling as Coupling
from mipack.couple.coupling import Group as Group
from mipack.couple.families import Contexts, contexts
from mipack.couple.flow import tie_bodies
from mipack.couple.function import defined, fixed
from mipack.couple.naming import group_kinds, group_names
from mipack.couple.tables import Tables
from mipack.graph.bodies import FLOW, bodies
from mipack.graph.probe import Probe, constant_arrays
from mipack.graph.view import Linear, NodeView, Statements
from mipack.layout import (
    Inexpressible,
    Kind,
    Layout,
    Term,
    factors,
    find,
    is_static,
    leaves,
    size_of,
)
from mipack.ops.registry import key, rule_for

SIZES = 16
"""A vector of at most this many numbers from shapes is a list of sizes."""


class _Solver:
    """`released`: axes of the signature that may be cut, as (name, axis)."""

    def __init__(
        self, model: ir.Model, probe: Probe, released: Collection[tuple[str, int]] = ()
    ) -> None:
        self.model, self.probe, self.released = model, probe, frozenset(released)
        self.layout, self.said = Layout(), Statements()
        self.constants = constant_arrays(model)
        self.terms: dict[str, list[Term]] = {}
        self.tables: Tables | None = None
        self.unknown: dict[str, int] = {}
        opset = model.graph.opset_imports.get("")
        self.opset = int(opset or model.graph.opset_imports.get("ai.onnx", 17))

    def axes(self, name: str) -> list[Term]:
        if name not in self.terms:
            shape = self.probe.shapes.get(name) or ()
            self.terms[name] = [self.layout.atom(size) for size in shape]
        return self.terms[name]

    def run(self) -> None:
        for value in [*self.model.graph.inputs, *self.model.graph.outputs]:
            for axis, term in enumerate(self.axes(value.name or "")):
                if (value.name or "", axis) not in self.released:
                    why = f"interface: {value.name} belongs to the signature"
                    self.layout.freeze(term, why)
        self.tables = Tables(self.model, self.probe, self.layout, self.said)
        for node in self.model.graph:
            self.node(node)
        self.layout.settle()
        self.tables.settle()
        self.layout.settle()
        for terms in self.terms.values():
            for term in terms:
                parts = map(find, factors(term))
                if any(part.kind is Kind.SUM and not is_static(part) for part in parts):
                    self.layout.freeze(term, "static part of a concatenation of dynamic size")

    def node(self, node: ir.Node) -> None:
        outputs = [v.name for v in node.outputs if v.name]
        if outputs and all(map(self._is_sizes, outputs)):
            if node.op_type != "Shape":  # whose operand may be cut: surgery converts its sizes
                operands = [v.name for v in node.inputs if v is not None]
                why = f"shape arithmetic [{node.op_type} {node.name}]"
                self._freeze_values([*operands, *outputs], why)
            return
        if node.op_type in FLOW and not node.domain and self._seen_inside(node):
            self.flow(node)
            return
        view = NodeView(
            node, self.layout, self.axes, self.probe, self.constants, self.said, self.opset
        )
        problem = self._unreadable(node, view)
        apply = rule_for(node)
        if apply is None and not problem and self.function(node):
            return
        if apply is None and not problem:
            self.unknown[key(node)] = self.unknown.get(key(node), 0) + 1
            problem = f"no rule for {key(node)}"
        if problem or apply is None:
            self._freeze_node(node, view, problem)
            return
        if self.tables is not None:
            self.terms |= self.tables.untie(view)
        try:
            apply(view)
        except (Inexpressible, IndexError, KeyError, TypeError, ValueError) as error:
            self._freeze_node(node, view, f"the rule does not cover this form ({error})")
            return
        for index in view.unaccounted():
            self._freeze_node(node, view, f"operand {index} is not understood")

    def flow(self, node: ir.Node) -> None:
        """Run the rules of a node's bodies; nothing in them can be observed, hence refitted."""
        sites = len(self.said.linears)
        for body in bodies(node):
            for inner in body:
                self.node(inner)
        del self.said.linears[sites:]
        tie_bodies(node, self.layout, self.axes)

    def function(self, node: ir.Node) -> bool:
        """Run the rules of an op's function body, if it has one, under names of its own.

        The proof gives such an op the kept positions alone, for it cannot mask inside of it.
        """
        found = defined(node, self.opset, self.probe, self.constants)
        if found is None:
            return False
        inside = _Solver(*found)
        inside.layout, around = self.layout, [*node.inputs, *node.outputs]
        inside.terms = {v.name: self.axes(v.name) for v in around if v is not None and v.name}
        operands = [v.name for v in node.inputs if v is not None and v.name]
        for inner in inside.model.graph:
            inside.node(inner)
        label = f"fixed by the function body [{node.op_type} {node.name}]"
        said = inside.said
        moving = {v.name for v in inside.model.graph.inputs}
        parameters = [t for name in operands if name not in moving for t in self.axes(name)]
        held = fixed(inside.model, said.encodings, inside.constants, inside.axes)
        for term in [*parameters, *held]:
            self.layout.freeze(term, label)
        for listed in said.products.values():
            self.said.products.setdefault(node.name or "", []).extend(listed)
        self.said.together.extend(said.together)
        self.said.averaged[node] = [term for name in operands for term in self.axes(name)]
        self.terms |= {f"{node.name}//{n}": t for n, t in inside.terms.items() if t}
        for op, count in inside.unknown.items():
            self.unknown[op] = self.unknown.get(op, 0) + count
        return True

    def _seen_inside(self, node: ir.Node) -> bool:
        """Whether every body was probed."""
        made = [v for b in bodies(node) for n in b for v in n.outputs if v.name]
        return all(value.name in self.probe.shapes for value in made)

    def _is_sizes(self, name: str) -> bool:
        """A few numbers computed from shapes (not a table read at positions from shapes)."""
        shape = self.probe.shapes.get(name)
        short = shape is not None and (not shape or (len(shape) == 1 and max(shape[0]) <= SIZES))
        return name in self.probe.shape_arithmetic and short

    def _unreadable(self, node: ir.Node, view: NodeView) -> str:
        if any(a.type.name.startswith("GRAPH") for a in node.attributes.values()):
            return "control flow"
        for name in [*view.inputs, *view.outputs]:
            if name and name not in self.probe.shapes:
                return f"the shape of {name} is not known"
            shape = self.probe.shapes.get(name) if name else ()
            if shape is None:
                return f"{name} is no tensor of one rank"
            if any(0 in size for size in shape) and name not in self.constants:
                return f"{name} is empty in a probe"
        return ""

    def _freeze_node(self, node: ir.Node, view: NodeView, why: str) -> None:
        captured = [
            v.name
            for sub in bodies(node)
            for inner in sub.all_nodes()
            for v in inner.inputs
            if v is not None and v.name in self.probe.shapes
        ]
        self._freeze_values([*view.inputs, *view.outputs, *captured], f"{why} [{view.label}]")

    def _freeze_values(self, names: Iterable[str | None], why: str) -> None:
        for name in names:
            for term in self.axes(name) if name else ():
                self.layout.freeze(term, why)


def _is_matrix(array: np.ndarray[Any, Any]) -> bool:
    """A weight of rank >= 2, or one in flat bytes; tables of positions and masks hold indices."""
    return array.ndim >= (1 if array.dtype.name == "uint8" else 2) and array.dtype.name not in (
        "int64",
        "int32",
        "bool",
    )


def _solved(model: ir.Model, probe: Probe, released: Collection[tuple[str, int]]) -> _Solver:
    solver = _Solver(model, probe, released)
    solver.run()
    return solver


def _signature_axes(model: ir.Model, probe: Probe) -> list[tuple[str, int]]:
    values = [v.name or "" for v in (*model.graph.inputs, *model.graph.outputs)]
    return [(name, axis) for name in values for axis in range(len(probe.shapes.get(name) or ()))]


def _states(solver: _Solver) -> list[tuple[str, int]]:
    """Axes of the signature whose units the model itself makes (with a weight) and reads (a sum
    over them): what only enters (channels of an image) or only leaves (classes) is not the
    model's to change."""
    made, read = set[Term](), set[Term]()
    for node in solver.model.graph.all_nodes():
        results = [t for v in node.outputs for t in solver.terms.get(v.name or "", ())]
        atoms = {leaf for term in results for leaf in leaves(term)}
        if any(v is not None and v.name in solver.constants for v in node.inputs):
            made |= atoms
        for product in solver.said.products.get(node.name or "", ()):
            read |= {leaf for term in product for leaf in leaves(term)} - atoms
    return [
        (name, axis)
        for name, axis in sorted(solver.released)
        if is_static(solver.terms[name][axis])
        and all(leaf in made and leaf in read for leaf in leaves(solver.terms[name][axis]))
    ]


def _tells_contexts(axes: Mapping[str, Sequence[Term]], site: Linear, families: Contexts) -> bool:
    """Whether every family on the two axes of a weight has its contexts beside it, so that the
    kept features and outputs are lists of positions."""
    for term in (axes[site.x][site.x_axis], axes[site.y][site.y_axis]):
        here = set(leaves(term))
        if any(not here.issuperset(families.get(atom, ())) for atom in here):
            return False
    return True


def couple(model: ir.Model, probe: Probe, *, allow_signature: bool = False) -> Coupling:
    """The coupling of a canonical model.

    With `allow_signature` what lives inside of the model too (caches, states) may be cut where it
    reaches inputs and outputs.
    """
    released: list[tuple[str, int]] = []
    if allow_signature:
        released = _states(_solved(model, probe, _signature_axes(model, probe)))
    solver = _solved(model, probe, released)
    open_ = {leaf for n, axis in solver.released for leaf in leaves(solver.terms[n][axis])}
    touches: dict[Term, list[tuple[str, int]]] = {}
    for name in solver.constants:
        for axis, term in enumerate(solver.terms.get(name, ())):
            for leaf in dict.fromkeys(leaves(term)):
                touches.setdefault(leaf, []).append((name, axis))
    atoms = [
        atom
        for atom, places in touches.items()
        if is_static(atom)
        and size_of(atom)[0] > 1
        and any(_is_matrix(solver.constants[name]) for name, _ in places)
    ]
    families = contexts(solver.terms.values(), solver.said.together)
    axes = {name: tuple(terms) for name, terms in solver.terms.items()}
    solver.said.linears[:] = [
        site for site in solver.said.linears if _tells_contexts(axes, site, families)
    ]
    held: dict[Term, int] = {}
    for product in (axes for listed in solver.said.products.values() for axes in listed):
        for atom, lost in lost_of(product).items():
            held[atom] = held.get(atom, 0) + lost
    names = group_names(model, axes, atoms, list(solver.constants))
    kinds = group_kinds(model, axes, solver.said.linears, atoms)
    groups = [
        Group(
            name=names[atom][1],
            atom=atom,
            size=size_of(atom)[0],
            kind=kinds[atom],
            touches=tuple(touches[atom]),
            within=() if atom.width or atom in open_ else families.get(atom, ()),
            frozen=tuple(atom.frozen),
            width=tuple(atom.width),
            macs=held.get(atom, 0),
        )
        for atom in sorted(atoms, key=lambda a: names[a])
    ]
    return Coupling(
        model,
        probe,
        solver.layout,
        axes,
        solver.said,
        tuple(groups),
        solver.constants,
        dict(sorted(solver.unknown.items())),
    )
