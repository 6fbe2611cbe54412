"""Tables that serve several layers: a use may keep positions of its own.

Sines of positions, biases of distances, slopes, masks: what neither a weight product nor a float
input is behind is a *table*. Spread over the heads of several layers, it would tie them all. So
each of its uses by an op that broadcasts gets static axes of its own, and surgery puts a Gather
there; the table itself then stays whole. Where all uses turn out to be tied anyway, or something
else reads the table, it is cut like any other tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import onnx_ir as ir

from mipack.graph.pointwise import BROADCASTING, UNARY, broadcasts
from mipack.graph.probe import FLOATING, Probe
from mipack.graph.view import NodeView, Statements
from mipack.layout import UNIT, Layout, Term, factors, is_static, leaves, size_of

Use = tuple[ir.Node, int]
COUNTS = ("Shape", "Size")
"""Tables of whatever tensor they are asked about."""
# fmt: off
MAKERS = {
    *COUNTS, *UNARY, *BROADCASTING,
    "CastLike", "Clip", "Concat", "ConstantOfShape", "CumSum", "Expand", "EyeLike", "Gather",
    "GatherElements", "GatherND", "OneHot", "Pad", "Range", "Reshape", "Slice", "Split", "Squeeze",
    "Tile", "Transpose", "Trilu", "Unsqueeze",
}
# fmt: on
"""Ops that make tables of tables."""


class Tables:
    """The shared tables of a graph, and the uses of them that were given axes of their own."""

    def __init__(self, model: ir.Model, probe: Probe, layout: Layout, said: Statements) -> None:
        self._layout, self._said = layout, said
        self._families = list(_shared(model, probe))
        self._used = {use for uses in self._families for use in uses}
        self._own: dict[Use, list[Term]] = {}
        self._fresh: dict[Use, list[Term]] = {}

    def untie(self, view: NodeView) -> Iterator[tuple[str, list[Term]]]:
        """Let a node see its uses of shared tables under other names, which are told."""
        for slot, name in enumerate(view.inputs):
            use = (view.node, slot)
            own = view.x(slot) if use in self._used else []
            fresh = [self._untied(term) for term in own]
            if any(a is not b for a, b in zip(own, fresh, strict=True)):
                self._own[use], self._fresh[use] = own, fresh
                self._said.edges[use] = view.inputs[slot] = f"{name}//{view.label}//{slot}"
                yield view.inputs[slot], fresh

    def _untied(self, term: Term) -> Term:
        """A term of the same size with static factors of its own, around one dynamic size."""
        if is_static(term):
            return term if size_of(term) == UNIT else self._layout.atom(size_of(term))
        row = [t if not is_static(t) else self._layout.atom(size_of(t)) for t in factors(term)]
        runs = [static for static, _ in groupby(row, is_static)]
        return self._layout.prod(row) if runs.count(False) == 1 < len(runs) else term

    def settle(self) -> None:
        """Once all equations are known: tie what is tied anyway, let other tables be whole."""
        for uses in self._families:
            opened = [use for use in uses if use in self._fresh]
            if self._apart(opened):
                self._keep_whole(opened)
                continue
            for use in opened:
                for own, fresh in zip(self._own[use], self._fresh[use], strict=True):
                    self._layout.equal(own, fresh, f"{use[0].op_type} {use[0].name}")
                del self._said.edges[use]

    def _apart(self, uses: list[Use]) -> bool:
        """Whether uses keep different units of one axis."""
        kept: dict[frozenset[Term], set[frozenset[Term]]] = {}
        for use in uses:
            for own, fresh in zip(self._own[use], self._fresh[use], strict=True):
                kept.setdefault(frozenset(leaves(own)), set()).add(_free_leaves(fresh))
        return any(len(choices) > 1 for choices in kept.values())

    def _keep_whole(self, uses: list[Use]) -> None:
        for use in uses:
            for own, fresh in zip(self._own[use], self._fresh[use], strict=True):
                self._layout.freeze(own, "a table of several layers")
                self._said.together.append((fresh,))  # one list of positions: not per head


def _free_leaves(axis: Term) -> frozenset[Term]:
    return frozenset(leaf for leaf in leaves(axis) if is_static(leaf) and not leaf.frozen)


def _shared(model: ir.Model, probe: Probe) -> Iterator[list[Use]]:
    """Uses of tables that hang together, where all are by ops that broadcast."""
    tables = _tables(model.graph, probe)
    root = _joined(model.graph, tables, probe)
    uses: dict[str, list[Use]] = {}
    mixed: set[str] = set()
    for value in tables.values():
        name = value.name or ""
        for node, slot in value.uses():
            if any(v.name in tables for v in node.outputs):
                continue
            if broadcasts(node) and node.graph is model.graph:
                uses.setdefault(root(name), []).append((node, slot))
            else:
                mixed.add(root(name))
    for name, listed in uses.items():
        if name not in mixed:
            yield listed


def _tables(graph: ir.Graph, probe: Probe) -> dict[str, ir.Value]:
    """Name -> value of every table."""
    inputs = [v for v in graph.inputs if not _is_float(v.name, probe)]
    found = {v.name or "": v for v in (*inputs, *graph.initializers.values())}
    for node in graph:
        read = [v.name for v in node.inputs if v is not None and v.name]
        pure = all(name in found for name in read)
        if node.op_type in COUNTS or (pure and _makes_table(node, probe)):
            found.update((v.name, v) for v in node.outputs if v.name)
    return found


def _makes_table(node: ir.Node, probe: Probe) -> bool:
    """An outer product (of positions and frequencies) has no sum in it: it is no weight product."""
    if node.op_type != "MatMul":
        return node.op_type in MAKERS and not node.domain
    left = node.inputs[0]
    shape = probe.shapes.get(left.name or "") if left is not None else None
    return bool(shape) and shape is not None and shape[-1] == UNIT


def _joined(graph: ir.Graph, tables: dict[str, ir.Value], probe: Probe) -> Callable[[str], str]:
    """Table -> one of all the tables that share axes with it (indices and masks do not count)."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while name in parent:
            name = parent[name]
        return name

    for node in graph:
        if not any(v.name in tables for v in node.outputs):
            continue
        around = [v.name or "" for v in (*node.inputs, *node.outputs) if v is not None]
        listed = [name for name in around if _is_float(name, probe) and _has_axes(name, probe)]
        for name in listed[1:]:
            if root(name) != root(listed[0]):
                parent[root(name)] = root(listed[0])
    return root


def _is_float(name: str | None, probe: Probe) -> bool:
    return probe.dtypes.get(name or "", "").startswith(FLOATING)


def _has_axes(name: str, probe: Probe) -> bool:
    return any(size != UNIT for size in probe.shapes.get(name) or ())
