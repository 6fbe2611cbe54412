"""Layers that lost nothing but are fed by some that did.

What reaches them is no longer what they were trained on, and their weights can make up for it like
those of the cut layers: the same regression, from their own inputs to the original's stream.
"""

from __future__ import annotations

import onnx_ir as ir

from mipack.calibrate.sites import Site
from mipack.couple.solve import Coupling
from mipack.graph.adjust import find_bias
from mipack.graph.bodies import reads
from mipack.graph.names import node_names
from mipack.layout import size_of
from mipack.surgery.keep import Keep


def sites_behind(
    coupling: Coupling, model: ir.Model, keep: Keep, changed: tuple[str, ...]
) -> dict[Site, str]:
    """Linear sites of a cut model behind its `changed` initializers, cut in no feature, with a
    float weight that is read once and a bias of their own (the value): in topological order."""
    nodes, graph = node_names(model.graph), model.graph
    moved = _behind(model, set(changed))
    found: dict[Site, str] = {}
    for linear in coupling.said.linears:
        node, axis = nodes.get(linear.node.name or ""), coupling.axes[linear.x][linear.x_axis]
        if node is None or keep.cuts(axis) or linear.w not in graph.initializers:
            continue
        weight = graph.initializers[linear.w]
        once = len(weight.uses()) == 1 and coupling.constants[linear.w].dtype.kind == "f"
        bias = find_bias(graph, linear, node) if once else None
        if bias is not None and any(v in moved for v in node.inputs):
            outputs = coupling.constants[linear.w].shape[linear.w_out]
            found[Site(linear.node.name or "", linear, size_of(axis)[0], outputs)] = bias
    return found


def _behind(model: ir.Model, changed: set[str]) -> set[ir.Value]:
    """Values that changed initializers have a part in."""
    moved = {value for name, value in model.graph.initializers.items() if name in changed}
    for node in model.graph:
        if any(value in moved for value in reads(node)):
            moved.update(node.outputs)
    return moved
