"""Canonical form: the same numbers in a graph that local rules can read.

Functions are inlined, Constant nodes become initializers, Identity and inference Dropout vanish,
nodes over constants are computed, what is shared is what means to be (`sharing`).
Names that survive are kept. Shape arithmetic is not folded here: `probe` knows its values, and
surgery rewrites only what a cut touches.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from mipack.errors import InputError
from mipack.graph.bodies import unique_names
from mipack.graph.load import EXTERNAL_KEY, INPUTS_KEY, in_parts
from mipack.graph.names import fresh_name
from mipack.graph.sharing import one_weight, private_vectors
from mipack.runtime.session import Arrays, Session

FOLD_LIMIT = 64 << 20
"""Constants larger than this many bytes are not computed in advance."""
UNFOLDABLE = {"DequantizeLinear", "Bernoulli", "Multinomial"}


def canonical(model: ir.Model) -> ir.Model:
    """A canonical copy; the model given is left as it is."""
    external = model.meta.get(EXTERNAL_KEY)
    _sort(model.graph)
    model = model.clone()
    model.meta[EXTERNAL_KEY] = external
    unique_names(model)
    initializers = model.graph.initializers
    model.meta[INPUTS_KEY] = tuple(v.name for v in model.graph.inputs if v.name in initializers)
    steps = [
        passes.InlinePass(),
        passes.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        passes.RemoveInitializersFromInputsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
    ]
    for step in steps:
        model = step(model).model
    _bypass(model.graph)
    _fold(model)
    _name(model.graph)
    one_weight(model.graph)
    private_vectors(model.graph)
    model = passes.RemoveUnusedNodesPass()(model).model
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None  # declared shapes may lie already, and will after a cut
    return model


def _sort(graph: ir.Graph) -> None:
    try:
        graph.sort()
    except ValueError as error:
        raise InputError("the model's graph has a cycle", hint="export it again") from error


def _bypass(graph: ir.Graph) -> None:
    """Readers of an Identity or of an inference Dropout read its input instead."""
    for node in list(graph):
        if not (node.op_type == "Identity" or _idle_dropout(node)) or node.domain:
            continue
        source, result = node.inputs[0], node.outputs[0]
        if source is None or result.is_graph_output():
            continue
        result.replace_all_uses_with(source)
        graph.remove(node, safe=True)


def _idle_dropout(node: ir.Node) -> bool:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    mask_read = len(node.outputs) > 1 and (
        bool(node.outputs[1].uses()) or node.outputs[1].is_graph_output()
    )
    off = training is None or (
        training.const_value is not None and not bool(np.any(training.const_value.numpy()))
    )
    return node.op_type == "Dropout" and off and not mask_read


def _fold(model: ir.Model) -> None:
    """Compute nodes that read constants only; a shared matrix stays shared."""
    graph = model.graph
    constant = set(graph.initializers)
    chosen: list[ir.Node] = []
    for node in graph:
        names = [v.name for v in node.inputs if v is not None]
        if names and all(name in constant for name in names) and _foldable(node):
            chosen.append(node)
            constant.update(v.name for v in node.outputs if v.name)
    results = [v for node in chosen for v in node.outputs if v.name]
    try:
        values = _compute(graph, results, model.ir_version) if results else {}
    except InputError:
        return  # no kernel, or no array to hold the result: it is met again where the model runs
    done = _all_arrays(chosen, values)
    for value in (v for node in done for v in node.outputs if v.uses()):
        array = values[value.name or ""]
        fresh = ir.Value(name=value.name, const_value=ir.tensor(array, name=value.name))
        fresh.dtype, fresh.shape = fresh.const_value.dtype, ir.Shape(array.shape)  # type: ignore[union-attr]
        value.replace_all_uses_with(fresh)
        value.name = f"{value.name}.folded"
        graph.register_initializer(fresh)
    for node in reversed(done):
        graph.remove(node, safe=True)


def _all_arrays(nodes: list[ir.Node], values: Arrays) -> list[ir.Node]:
    """Nodes that no sequence, optional or text goes into or comes out of: these are no tensors
    that a file could hold in the same way."""
    other: set[str | None] = set()
    done = []
    for node in nodes:
        made = [values[v.name] for v in node.outputs if v.name]
        numbers = all(isinstance(a, np.ndarray) and a.dtype != object for a in made)
        if numbers and not any(v is not None and v.name in other for v in node.inputs):
            done.append(node)
        else:
            other.update(v.name for v in node.outputs)
    return done


def _foldable(node: ir.Node) -> bool:
    if node.op_type in UNFOLDABLE or any(a.type.name.startswith("GRAPH") for a in _attrs(node)):
        return False
    if "Random" in node.op_type:
        return False
    if any(value.is_graph_output() for value in node.outputs):
        return False
    inputs = [v for v in node.inputs if v is not None]
    matrices = [v for v in inputs if v.const_value is not None and len(v.const_value.shape) >= 2]
    shared = any(len(v.uses()) > 1 for v in matrices)
    size = sum(v.const_value.nbytes for v in matrices if v.const_value is not None)
    return not shared and size <= FOLD_LIMIT


def _attrs(node: ir.Node) -> list[ir.Attr]:
    return list(node.attributes.values())


def _compute(graph: ir.Graph, results: list[ir.Value], ir_version: int) -> Arrays:
    part = ir.Model(ir.convenience.extract(graph, [], results), ir_version=ir_version)
    return Session(in_parts(part), optimize=False).run({})


def _name(graph: ir.Graph) -> None:
    """Every node gets a name of its own, from its first output where it has none: reports and plans
    speak of nodes by name, and exporters may give one name twice."""
    taken = {node.name for node in graph.all_nodes()}
    met: set[str] = set()
    for node in graph.all_nodes():
        base = node.name or next((v.name for v in node.outputs if v.name), None) or node.op_type
        if not node.name or node.name in met:
            node.name = fresh_name(base, taken)
        met.add(node.name)
