"""Bodies of If, Loop and Scan: what enters and leaves them, and what is in them when they run.

A body reads values of the graph around it by name, so names are unique over a whole model
(`unique_names`, part of the canonical form). What a node hands over is a list of links:

    If      each branch's outputs are the node's
    Loop    initial values -> body inputs; body outputs -> results; scan results gain an axis
    Scan    the same, and each scan input enters without the axis that is walked

A body is probed as a model of its own, on what it captures and on what enters it first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from mipack.errors import MipackError
from mipack.graph.load import to_proto
from mipack.graph.names import fresh_name
from mipack.runtime.session import Session

Array = np.ndarray[Any, Any]
Values = dict[str, Any]
Weights = Mapping[str, onnx.TensorProto]
FLOW = ("If", "Loop", "Scan")
_UNUSABLE = (MipackError, KeyError, IndexError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Link:
    """One value outside and inside of a body; `axis`: the one that only the outer value has."""

    outer: str
    inner: str
    axis: int | None = None
    last_first: bool = False


@dataclass(frozen=True, slots=True)
class Border:
    """All links of a body, and which of its outputs come back as which inputs."""

    enter: tuple[Link, ...]
    leave: tuple[Link, ...]
    back: tuple[tuple[str, str], ...]


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The subgraphs of a node."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph or body that a node stands in."""
    graph = node.graph
    assert isinstance(graph, ir.Graph), f"node {node.name} stands in no graph"
    return graph


def reads(node: ir.Node) -> list[ir.Value]:
    """What a node reads of the graph around it: its operands and what its bodies capture."""
    found = [value for value in node.inputs if value is not None]
    return [*found, *(value for body in bodies(node) for value in captured(body))]


def captured(graph: ir.Graph) -> list[ir.Value]:
    """What a body reads of the graph around it."""
    own = {*graph.inputs, *graph.initializers.values()}
    own.update(value for node in graph for value in node.outputs)
    used = [value for node in graph for value in reads(node)]
    return [value for value in [*used, *graph.outputs] if value not in own]


def unique_names(model: ir.Model) -> None:
    """Rename values of bodies whose name is met elsewhere: each name then means one value."""
    taken: set[str | None] = {v.name for v in model.graph.inputs} | set(model.graph.initializers)
    taken.update(v.name for node in model.graph for v in node.outputs)
    for node in model.graph:
        for body in bodies(node):
            _rename(body, taken)


def _rename(body: ir.Graph, taken: set[str | None]) -> None:
    own = [*body.inputs, *body.initializers.values(), *(v for node in body for v in node.outputs)]
    for value in dict.fromkeys(own):
        if value.name in taken:
            value.name = fresh_name(value.name or "", taken)
        taken.add(value.name)
    for node in body:
        for inner in bodies(node):
            _rename(inner, taken)


def border(node: ir.Node, body: ir.Graph) -> Border:
    """What enters and leaves one body of a node of `FLOW`."""
    outer_in = [v.name or "" if v is not None else "" for v in node.inputs]
    outer_out = [v.name or "" for v in node.outputs]
    inner_in, inner_out = ([v.name or "" for v in side] for side in (body.inputs, body.outputs))
    if node.op_type == "If":
        pairs = zip(outer_out, inner_out, strict=True)
        return Border((), tuple(Link(*pair) for pair in pairs), ())
    if node.op_type == "Loop":
        inner_out = inner_out[1:]  # the first says whether to go on
        states = len(outer_in) - 2
        enter = [Link(*pair) for pair in zip(outer_in[2:], inner_in[2:], strict=True)]
        scanned, inner_in = (
            [Link(o, i, 0) for o, i in zip(outer_out[states:], inner_out[states:], strict=True)],
            inner_in[2:],
        )
    else:
        states = len(outer_in) - node.attributes["num_scan_inputs"].as_int()
        enter = [Link(o, i) for o, i in zip(outer_in[:states], inner_in[:states], strict=True)]
        enter += _walked(node, "scan_input", outer_in[states:], inner_in[states:])
        scanned = _walked(node, "scan_output", outer_out[states:], inner_out[states:])
    final = [Link(o, i) for o, i in zip(outer_out[:states], inner_out[:states], strict=True)]
    leave = [link for link in (*final, *scanned) if link.outer]
    back = zip(inner_out[:states], inner_in[:states], strict=True)
    return Border(tuple(enter), tuple(leave), tuple(back))


def _walked(node: ir.Node, what: str, outer: list[str], inner: list[str]) -> list[Link]:
    def listed(name: str) -> list[int]:
        found = node.attributes.get(name)
        return list(found.as_ints()) if found is not None else [0] * len(outer)

    rows = zip(outer, inner, listed(f"{what}_axes"), listed(f"{what}_directions"), strict=True)
    return [Link(o, i, axis, bool(way)) for o, i, axis, way in rows]


def run_bodies(model: ir.Model, values: Values, *, second: bool) -> Iterator[Values]:
    """Every value of every body in its first round, or (of loops, where it runs) in its second.

    One probe takes the first and the other the second: what differs from round to round then looks
    like what differs from run to run. A body that cannot be run alone gives nothing: what it
    touches stays as it is.
    """
    flow = [node for node in model.graph if node.op_type in FLOW and bodies(node)]
    if not flow:
        return
    weights = {t.name: t for t in to_proto(model).graph.initializer}
    known = dict(values)
    while flow:
        node = flow.pop(0)
        for body in bodies(node):
            found = _rounds(model, node, body, known, weights, second)
            if found is not None:
                known |= found
                yield found
                flow += [inner for inner in body if inner.op_type in FLOW and bodies(inner)]


def _rounds(
    model: ir.Model, node: ir.Node, body: ir.Graph, known: Values, weights: Weights, second: bool
) -> Values | None:
    found = None
    for _ in range(2 if second and node.op_type != "If" else 1):
        try:
            entering = _entering(node, body, known, weights, found)
            found = _round(model, body, entering, known, weights)
        except _UNUSABLE:  # in the second round: there may be none
            break
    return found


def _entering(
    node: ir.Node, body: ir.Graph, known: Values, weights: Weights, after: Values | None
) -> Values:
    """What the body's inputs are in its first round, or in the one after a round's values."""
    feeds: Values = {}
    if node.op_type == "Loop":
        first = np.array(0 if after is None else 1, np.int64), np.array(True)
        feeds = {v.name or "": value for v, value in zip(body.inputs, first, strict=False)}
    around = border(node, body)
    for link in around.enter:
        feeds[link.inner] = _slice(_value(link.outer, known, weights), link, after is not None)
    for made, read in around.back if after is not None else ():
        assert after is not None
        feeds[read] = after[made]
    return feeds


def _round(
    model: ir.Model, body: ir.Graph, entering: Values, known: Values, weights: Weights
) -> Values:
    """Run a body once, as a model of its own, with everything in it exposed."""
    around = _mentioned(body)
    feeds = entering | {name: known[name] for name in around if name not in weights}
    if not all(isinstance(value, np.ndarray) for value in feeds.values()):
        raise ValueError("a sequence enters the body")
    nodes = [ir.to_proto(inner) for inner in body]
    made = [v.name or "" for inner in body for v in inner.outputs if v.name]
    kind = helper.np_dtype_to_tensor_dtype
    inputs = [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in feeds.items()]
    outputs = [onnx.ValueInfoProto(name=name) for name in made]
    held = [weights[name] for name in around if name in weights]
    graph = helper.make_graph(nodes, "body", inputs, outputs, held)
    imports = [helper.make_opsetid(d, v) for d, v in model.graph.opset_imports.items()]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=model.ir_version)
    return feeds | Session(proto.SerializeToString(), optimize=False).run(feeds)


def _mentioned(body: ir.Graph) -> dict[str, None]:
    return dict.fromkeys(v.name or "" for v in captured(body))


def _value(name: str, known: Values, weights: Weights) -> Any:
    return onnx.numpy_helper.to_array(weights[name]) if name in weights else known[name]


def _slice(value: Any, link: Link, second: bool) -> Any:
    if link.axis is None:
        return value
    at = int(second)
    return np.take(value, -1 - at if link.last_first else at, axis=link.axis)
