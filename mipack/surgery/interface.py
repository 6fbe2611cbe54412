"""Where the model's own signature is cut (caches, states): wrapped while it is worked on.

A wrapped model takes and gives the original sizes: inputs are narrowed to their kept positions and
outputs widened with zeros, so that the proof, the refit and the checks compare like with like. What
is handed out in the end is unwrapped: its declared sizes are the new ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mipack.couple.solve import Coupling
from mipack.graph.bodies import graph_of
from mipack.layout import is_static
from mipack.surgery.compact import compacted, rows_of, spread_out
from mipack.surgery.keep import Keep
from mipack.surgery.writer import Writer

WRAPPED = "mipack.wrapped"


def changed_inputs(model: ir.Model, coupling: Coupling, keep: Keep) -> list[ir.Value]:
    """The inputs that lose positions."""
    return [v for v in model.graph.inputs if _cut(v, coupling, keep)]


def changed_outputs(model: ir.Model, coupling: Coupling, keep: Keep) -> list[ir.Value]:
    """The outputs that lose positions."""
    return [v for v in model.graph.outputs if _cut(v, coupling, keep)]


def _cut(value: ir.Value, coupling: Coupling, keep: Keep) -> bool:
    return any(map(keep.cuts, coupling.axes.get(value.name or "", ())))


def wrap(model: ir.Model, coupling: Coupling, keep: Keep) -> None:
    """Give a cut model the original signature, in place."""
    write, nodes = Writer(model.graph), dict[str, tuple[str, ...]]()
    first = model.graph[0]
    for value in changed_inputs(model, coupling, keep):
        users, before = list(value.uses()), set(model.graph)
        axes = coupling.axes[value.name or ""]
        rows = rows_of(axes, keep)
        narrow = compacted(value, rows, keep, write, write.before(first))
        for user, index in users:
            user.replace_input_with(index, narrow)
        nodes[value.name or ""] = _new(model, before)
    for value in changed_outputs(model, coupling, keep):
        before, name = set(model.graph), value.name or ""
        _widen(model, value, coupling, keep, write)
        nodes[name] = _new(model, before)
    if nodes:
        model.meta[WRAPPED] = nodes


def _widen(model: ir.Model, value: ir.Value, coupling: Coupling, keep: Keep, write: Writer) -> None:
    name, producer = value.name or "", value.producer()
    assert producer is not None, f"output {name} is made by no node"
    axes, emit = coupling.axes[name], write.behind(producer)
    wide = spread_out(value, rows_of(axes, keep), keep, write, emit)
    static = [axis if is_static(axis) else coupling.layout.atom(1) for axis in axes]
    kept = write.constant(f"{name}.kept", keep.mask(static))
    zero = write.constant(f"{name}.zero", np.zeros((), np.dtype(coupling.probe.dtypes[name])))
    result = emit("Where", [kept, wide, zero])
    take_name(model, value, result, write)


def take_name(model: ir.Model, old: ir.Value, new: ir.Value, write: Writer) -> None:
    """An output of the model is given out by another value, under the same name."""
    name = old.name
    old.name = write.fresh(f"{name}.inner")
    new.name, new.type, new.shape = name, old.type, old.shape
    outputs = model.graph.outputs
    outputs[:] = [new if value is old else value for value in outputs]


def _new(model: ir.Model, before: set[ir.Node]) -> tuple[str, ...]:
    return tuple(node.name or "" for node in model.graph if node not in before)


def unwrap(model: ir.Model, coupling: Coupling, keep: Keep) -> tuple[ir.Model, list[str]]:
    """The model with its new signature, and what changed, in words."""
    wrapped: dict[str, tuple[str, ...]] = model.meta.get(WRAPPED, {})
    if not wrapped:
        return model, []
    meta, model = dict(model.meta), model.clone()
    model.meta.update(meta)
    graph, told = model.graph, list[str]()
    named = {node.name or "": node for node in graph}
    for value in changed_inputs(model, coupling, keep):
        chain = [named[n] for n in wrapped[value.name or ""]]
        inner = chain[-1].outputs[0]
        for user, index in list(inner.uses()):
            user.replace_input_with(index, value)
        told.append(_declare(value, value, coupling, keep))
        _remove(chain)
    for value in changed_outputs(model, coupling, keep):
        chain = [named[n] for n in wrapped[value.name or ""]]
        name, made = value.name or "", {v for node in chain for v in node.outputs}
        inner = next(
            v for n in chain for v in n.inputs if v is not None and v not in made and v.producer()
        )
        told.append(_declare(value, inner, coupling, keep))
        graph.outputs[:] = [inner if v is value else v for v in graph.outputs]
        value.name = f"{name}.wide"
        inner.name, inner.type = name, value.type
        _remove(chain)
    for name, initializer in list(graph.initializers.items()):
        if not initializer.uses():
            del graph.initializers[name]
    return model, told


def _declare(declared: ir.Value, value: ir.Value, coupling: Coupling, keep: Keep) -> str:
    """Write the new sizes into a declared shape."""
    axes, old = coupling.axes[declared.name or ""], declared.shape
    rank = range(len(axes))
    before = [old[k] if old is not None else None for k in rank]
    dims = [
        keep.size(axes[k]) if keep.cuts(axes[k]) and is_static(axes[k]) else before[k] for k in rank
    ]
    value.shape = ir.Shape(dims)
    shown = [", ".join(str(getattr(d, "value", d)) for d in listed) for listed in (before, dims)]
    return f"{declared.name}: [{shown[0]}] -> [{shown[1]}]"


def _remove(chain: Sequence[ir.Node]) -> None:
    for node in reversed(chain):
        graph_of(node).remove(node, safe=True)
