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
    names, left = _Names(), set(atoms)
    for position, node in enumerate(model.graph):
        weighted = any(v is not None and v.is_initializer() for v in node.inputs)
        made = [axis for v in node.outputs for axis in axes.get(v.name or "", ())]
        for axis in made if weighted else ():
            row = list(dict.fromkeys(leaves(axis)))
            for atom in left.intersection(row):
                suffix = f"[{row.index(atom)}]" if len(row) > 1 else ""
                names.give(atom, position, f"{_name(node)}:out{suffix}")
            left.difference_update(row)
    end = model.graph.num_nodes()
    for name in constants if left else ():  # never made: an input's axis, a table, a kernel
        for k, axis in enumerate(axes.get(name, ())):
            for atom in sorted(left.intersection(leaves(axis)), key=lambda a: a.id):
                names.give(atom, end, f"{name}:{k}")
                left.discard(atom)
    return names.found


class _Names:
    """Hands out each name once."""

    def __init__(self) -> None:
        self.found: dict[Term, tuple[int, str]] = {}
        self._given: dict[str, int] = {}

    def give(self, atom: Term, position: int, name: str) -> None:
        count = self._given[name] = self._given.get(name, 0) + 1
        self.found[atom] = (position, name if count == 1 else f"{name}#{count}")


def _name(node: ir.Node) -> str:
    name = node.name or node.op_type
    head, _, last = name.rpartition("/")
    return head if head and last == node.op_type else name


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
