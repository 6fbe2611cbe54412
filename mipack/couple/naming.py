"""Names and kinds of groups, for people: the first producer in topological order plus the axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from mipack.graph.view import Linear
from mipack.layout import Term, leaves

Axes = Mapping[str, Sequence[Term]]


def group_names(
    model: ir.Model, axes: Axes, atoms: Sequence[Term], constants: Sequence[str]
) -> dict[Term, tuple[int, str]]:
    """(position of the first producer, name), e.g. `/layer.0/intermediate/dense:out`.

    A producer is the first node that makes the atom out of a weight; an axis that is more than
    one atom is spelled with the atom's place in it: `/attention/query:out[0]`.
    """
    found: dict[Term, tuple[int, str]] = {}
    left, taken = set(atoms), set()
    for position, node in enumerate(model.graph):
        if not left:
            break
        if not any(v is not None and v.name in constants for v in node.inputs):
            continue
        for value in node.outputs:
            for axis in axes.get(value.name or "", ()):
                row = list(dict.fromkeys(leaves(axis)))
                for place, atom in enumerate(row):
                    if atom in left:
                        name = _name(node) + ":out" + (f"[{place}]" if len(row) > 1 else "")
                        found[atom] = (position, _fresh(name, taken))
                        left.discard(atom)
    for name in constants if left else ():  # never made: an input's axis, a table, a kernel
        for axis, term in enumerate(axes.get(name, ())):
            for atom in left.intersection(leaves(term)):
                found[atom] = (model.graph.num_nodes(), _fresh(f"{name}:{axis}", taken))
                left.discard(atom)
    return found


def _name(node: ir.Node) -> str:
    name = node.name or node.op_type
    head, _, last = name.rpartition("/")
    return head if head and last == node.op_type else name


def _fresh(name: str, taken: set[str]) -> str:
    count, fresh = 1, name
    while fresh in taken:
        count += 1
        fresh = f"{name}#{count}"
    taken.add(fresh)
    return fresh


def group_kind(model: ir.Model, axes: Axes, linears: Sequence[Linear], atom: Term) -> str:
    """`width` (normalised over), `residual` (two producing contractions are added), or `inner`."""
    if atom.width:
        return "width"
    made = {site.y: site.w for site in linears if atom in leaves(axes[site.y][site.y_axis])}
    sources: dict[str, frozenset[str]] = {}
    for node in model.graph:
        carried = [v.name or "" for v in node.inputs if v is not None]
        sets = [sources[name] for name in carried if name in sources]
        joined: frozenset[str] = frozenset().union(*sets)
        for value in node.outputs:
            name = value.name or ""
            if name in made:
                sources[name] = frozenset([made[name]])
            elif joined and any(atom in leaves(t) for t in axes.get(name, ())):
                sources[name] = joined
        if node.op_type in ("Add", "Sum") and len(set(sets)) > 1:
            return "residual"
    return "inner"
