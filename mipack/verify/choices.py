"""Outputs behind a choice: rounding may tip an ArgMax, a TopK or a comparison between near-equals.

Then everything behind it differs by more than rounding though the cut is right. Such an output is
held to the numbers that the choice was made from: they agree, the choice itself came out
differently, and nothing but what is behind it is excused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.solve import Coupling
from mipack.graph.probe import exposed
from mipack.runtime.session import Arrays, Feeds
from mipack.surgery.keep import Keep

Distance = Callable[[Any, Any], float]
SIZES = ("Shape", "Size")
"""Integers made from floats that no rounding can tip."""


def excused(
    coupling: Coupling,
    keep: Keep,
    models: tuple[ir.Model, ir.Model],
    feeds: Feeds,
    distance: Distance,
    tolerance: float,
) -> dict[str, float]:
    """Outputs behind a choice that came out differently in the two models (cut and masked) on
    these feeds, with the largest distance between what such choices were made from."""
    if not any(_chooses(coupling, keep, node) for node in coupling.model.graph):
        return {}
    got, want = (_all_values(model, feeds) for model in models)
    behind: set[str] = set()
    worst = 0.0
    for node in coupling.model.graph:
        inputs = [v.name or "" for v in node.inputs if v is not None]
        made = [v.name or "" for v in node.outputs if v.name]
        if not behind.isdisjoint(inputs):
            behind.update(made)
        elif _chooses(coupling, keep, node):
            gaps = [distance(got[n], want[n]) for n in inputs if n in got]
            tipped = any(not np.array_equal(got[n], want[n]) for n in made)
            if tipped and max(gaps, default=0.0) <= tolerance:
                behind.update(made)
                worst = max([worst, *gaps])
    names = [v.name or "" for v in coupling.model.graph.outputs]
    return {name: worst for name in names if name in behind}


def _all_values(model: ir.Model, feeds: Feeds) -> Arrays:
    with exposed(model) as session:
        return {**feeds, **session.run(feeds)}


def _chooses(coupling: Coupling, keep: Keep, node: ir.Node) -> bool:
    """Whether a node makes integers or truth values of floats, and no axis of it is cut."""
    values = [v.name or "" for v in (*node.inputs, *node.outputs) if v is not None and v.name]
    if node.op_type in SIZES or any(
        keep.cuts(term) for name in values for term in coupling.axes.get(name, ())
    ):
        return False
    floats = [
        coupling.probe.dtypes.get(name, "").startswith(("float", "bfloat")) for name in values
    ]
    count = sum(v is not None for v in node.inputs)
    return any(floats[:count]) and not all(floats[count:])
