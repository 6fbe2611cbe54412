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
    for position, node in enumerate(model.graph.all_nodes()):
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


def group_kinds(
    model: ir.Model, axes: Axes, linears: Sequence[Linear], atoms: Sequence[Term]
) -> dict[Term, str]:
    """`width` (normalised over), `residual` (two producing contractions are added), or `inner`."""
    kinds = {atom: "width" if atom.width else "inner" for atom in atoms}
    made = {site.y: (site.w, set(leaves(axes[site.y][site.y_axis]))) for site in linears}
    sources: dict[str, dict[Term, str]] = {}
    """Per value and atom the one weight that made it; what two made is residual, and left alone."""
    for node in model.graph:
        carried = [sources[v.name or ""] for v in node.inputs if v and v.name in sources]
        joined = {atom: weight for found in carried for atom, weight in found.items()}
        if node.op_type in ("Add", "Sum"):
            met = {atom for found in carried for atom in found if joined[atom] != found[atom]}
            kinds.update((atom, "residual") for atom in met if kinds[atom] == "inner")
        for value in node.outputs:
            weight, fresh = made.get(value.name or "", ("", set()))
            here = dict.fromkeys(
                leaf for term in axes.get(value.name or "", ()) for leaf in leaves(term)
            )
            known = {atom: weight if atom in fresh else joined.get(atom) for atom in here}
            sources[value.name or ""] = {
                atom: by for atom, by in known.items() if by and kinds.get(atom) == "inner"
            }
    return kinds
