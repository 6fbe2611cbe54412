"""Work whose result nobody reads: it goes, and not a number of the outputs changes.

Of a classifier's last layer one position is read, of a decoder's the last: the selection moves
towards the inputs through every op that keeps positions apart (`along`, `demand`, `sink`), up to
where the tensor is needed whole (keys and values). Nodes that repeat others go as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import onnx_ir as ir
import onnx_ir.passes.common as passes

from mipack.graph.demand import demands
from mipack.graph.duplicates import merge_duplicates
from mipack.graph.probe import Probe
from mipack.graph.sink import Sinker


@dataclass(frozen=True, slots=True)
class Unread:
    """A model without work that nobody reads; `left`: of the nodes that do less, by name, the share
    of the multiply-adds that they still do (in the first probe)."""

    model: ir.Model
    left: Mapping[str, Fraction]


def without_unread(model: ir.Model, probe: Probe) -> Unread | None:
    """The same outputs from a model in canonical form that multiplies and adds less; None where
    there is nothing to gain. The model given is left as it is."""
    for told in (True, False):
        with suppress(ValueError):  # what tells positions would hang on what they narrow
            return _without(model, probe, told)
    return None


def _without(model: ir.Model, probe: Probe, told: bool) -> Unread | None:
    meta, model = dict(model.meta), model.clone()
    model.meta.update(meta)
    graph = model.graph
    opset = int(graph.opset_imports.get("", graph.opset_imports.get("ai.onnx", 17)))
    left = dict.fromkeys(merge_duplicates(graph), Fraction(0))
    found = demands(graph, probe, opset, told=told)
    left |= {n.name or "": demand.left for n, demand in found.nodes.items() if demand.left < 1}
    if not left:
        return None
    if found.values:
        Sinker(graph, found, opset).run()
    return Unread(passes.RemoveUnusedNodesPass()(model).model, left)
