"""Whether zero weights silence a group's units wherever something is summed over them.

Where units of zero weight stay zero on every way to the contractions over them, other weights are
all that it takes to run the model as if the units were cut; elsewhere activations must be masked.
"""

from __future__ import annotations

import onnx_ir as ir

from mipack.couple.solve import Coupling, Group
from mipack.layout import Term, leaves
from mipack.ops.linear import ZERO_AT_ZERO, Act, act_of
from mipack.ops.registry import key


def silenced_by_weights(coupling: Coupling, group: Group) -> bool:
    """Whether the model with this group's weights at zero (those of some units, those of linear
    readers too) is the model with these units cut."""
    zero = {name for name, _ in group.touches if coupling.constants[name].dtype.kind == "f"}
    linear = {site.node for site in coupling.linears_reading(group)}
    for node in coupling.model.graph.all_nodes():
        held = [v.name or "" for v in node.inputs if v is not None and _carries(coupling, v, group)]
        made = [v.name or "" for v in node.outputs if _carries(coupling, v, group)]
        if held and not made and node not in linear and node.op_type not in ("Shape", "Size"):
            contracts = act_of(node) is Act.CONTRACTS or key(node) == "ReduceSum"
            if not contracts or not zero.intersection(held):
                return False
        if made and _stays_zero(node, held, zero):
            zero.update(made)
    return True


def _stays_zero(node: ir.Node, held: list[str], zero: set[str]) -> bool:
    """Whether a node's results are zero at the units where these operands are."""
    act, known = act_of(node), [name in zero for name in held]
    if act is Act.SCALES and node.op_type == "Div":
        return node.inputs[0] is not None and node.inputs[0].name in zero
    if act is Act.SCALES or key(node) == "Mul":
        return any(known)
    if act is Act.CONTRACTS:
        return any(known[:2]) and all(known)
    if act is Act.ADDS:
        return all(known) and len(held) == len([v for v in node.inputs if v is not None])
    return (act is Act.MOVES or key(node) in ZERO_AT_ZERO) and bool(known) and all(known)


def _carries(coupling: Coupling, value: ir.Value, group: Group) -> bool:
    return any(_has(term, group.atom) for term in coupling.axes.get(value.name or "", ()))


def _has(term: Term, atom: Term) -> bool:
    return atom in leaves(term)
