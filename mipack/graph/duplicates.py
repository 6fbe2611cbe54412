"""Nodes that compute what another node computes already."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

import onnx_ir as ir

from mipack.graph.along import HEAVY, STANDARD
from mipack.graph.bodies import bodies

DRAWS = ("Bernoulli", "Dropout", "Multinomial")
KNOWN = (*STANDARD, "com.microsoft", "ai.onnx.ml")
SMALL = 1 << 16
"""Constants of so many bytes are compared; larger ones that are equal are one already."""


def merge_duplicates(graph: ir.Graph) -> tuple[str, ...]:
    """Readers of a node that repeats another read that one; the names of the nodes that multiply
    and add and are gone. Where there are none, the graph is left as it is."""
    twins = _twins(graph)
    gone = [node for node in twins if key(node) in HEAVY]
    if not gone:
        return ()
    for node, twin in twins.items():
        for value, other in zip(node.outputs, twin.outputs, strict=True):
            value.replace_all_uses_with(other)
    for node in reversed(twins):
        graph.remove(node, safe=True)
    return tuple(node.name or "" for node in gone)


def key(node: ir.Node) -> str:
    """The op with its domain."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"


def _twins(graph: ir.Graph) -> dict[ir.Node, ir.Node]:
    met: dict[Hashable, ir.Node] = {}
    same: dict[ir.Value, ir.Value] = {}
    twins: dict[ir.Node, ir.Node] = {}
    for node in graph:
        if not _repeatable(node):
            continue
        operands = tuple(None if v is None else _content(same.get(v, v)) for v in node.inputs)
        attributes = tuple(
            (k, ir.to_proto(a).SerializeToString()) for k, a in sorted(node.attributes.items())
        )
        named = tuple(bool(v.name) for v in node.outputs)
        twin = met.setdefault((node.domain, node.op_type, operands, attributes, named), node)
        if twin is not node and not any(v.is_graph_output() for v in node.outputs):
            twins[node] = twin
            same.update(zip(node.outputs, twin.outputs, strict=True))
    return twins


def _repeatable(node: ir.Node) -> bool:
    """Whether the same operands give the same results."""
    draws = node.op_type in DRAWS or "Random" in node.op_type
    return not draws and node.domain in KNOWN and not bodies(node)


def _content(value: ir.Value) -> Hashable:
    """What a value is: its numbers where the file holds few of them, else itself."""
    tensor = value.const_value
    if tensor is None or not value.is_initializer() or tensor.nbytes > SMALL:
        return value
    if tensor.dtype == ir.DataType.STRING:
        return value
    return tensor.dtype, tuple(tensor.shape.numpy()), hashlib.blake2b(tensor.tobytes()).digest()
