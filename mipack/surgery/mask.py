"""The original with the cut units silenced: what a cut model must equal.

Original-size model, every weight and every activation zero at cut positions
(`Where(mask, x, 0)`, not a product: 0 * -inf of an attention mask is NaN). Masking weights alone
is not enough: sigmoid(0) is 0.5. No norm runs over a cut axis unless it is a width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.solve import Coupling
from mipack.graph.adjust import add_weight, names_of, set_weight
from mipack.graph.canonical import fresh_name
from mipack.layout import Kind, find, is_static
from mipack.surgery.keep import Keep

MASKED = ("float16", "float32", "float64", "int32", "int64")
"""Integers too: a count of units must not count silenced ones. Of bfloat16 there is no Where."""


def masked(coupling: Coupling, keep: Keep) -> ir.Model:
    """The original at its size with every cut unit silenced."""
    model = coupling.model.clone()
    graph = model.graph
    taken = names_of(graph)
    for name, array in coupling.constants.items():
        axes = coupling.axes.get(name, ())
        if name in graph.initializers and any(map(keep.cuts, axes)) and array.dtype.kind == "f":
            set_weight(graph, name, np.where(keep.mask(axes), array, array.dtype.type(0)))
    for node in list(graph):
        for value in list(node.outputs):
            if _silent(coupling, keep, value):
                _mask(graph, node, value, keep.mask(_mask_axes(coupling, value)), coupling, taken)
    return model


def _mask_axes(coupling: Coupling, value: ir.Value) -> tuple[Any, ...]:
    return coupling.axes[value.name or ""]


def _silent(coupling: Coupling, keep: Keep, value: ir.Value) -> bool:
    """Whether this value is a tensor of numbers with cut units that a mask can express."""
    axes = coupling.axes.get(value.name or "", ())
    if value.is_graph_output() or coupling.probe.dtypes.get(value.name or "") not in MASKED:
        return False
    dynamic = [find(t) for t in axes if not is_static(t)]
    if any(t.kind is not Kind.ATOM and keep.cuts(t) for t in dynamic):
        return False  # B x H in one axis: the mask would have a run-time size
    return any(keep.cuts(t) for t in axes if is_static(t))


def _mask(
    graph: ir.Graph,
    node: ir.Node,
    value: ir.Value,
    kept: np.ndarray[Any, np.dtype[np.bool_]],
    coupling: Coupling,
    taken: set[str | None],
) -> None:
    name = value.name or ""
    zero = np.zeros((), np.dtype(coupling.probe.dtypes[name]))
    users = list(value.uses())
    condition = add_weight(graph, fresh_name(f"{name}.kept", taken), kept)
    nothing = add_weight(graph, fresh_name(f"{name}.zero", taken), zero)
    where = ir.node("Where", [condition, value, nothing], name=fresh_name(f"{name}.mask", taken))
    where.outputs[0].name = fresh_name(f"{name}.masked", taken)
    graph.insert_after(node, where)
    for user, index in users:
        user.replace_input_with(index, where.outputs[0])
