"""The same model under other names (nodes, inner tensors, initializers) and in another order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto


def scramble(
    model: ModelProto, seed: int, *, sort: bool = True
) -> tuple[ModelProto, dict[str, str]]:
    """A renamed copy and the map old -> new of every name but those of the signature.

    With `sort` the nodes are in another valid order, without it in any order at all.
    """
    rng = np.random.default_rng(seed)
    result = ModelProto()
    result.CopyFrom(model)
    fixed = {v.name for v in (*model.graph.input, *model.graph.output)}
    old = sorted(set(_names(result.graph)) - fixed - {""})
    numbers = rng.permutation(len(old))
    new = {name: f"t{number:06x}" for name, number in zip(old, numbers, strict=True)}
    _rename(result.graph, new)
    nodes = list(result.graph.node)
    for node, number in zip(nodes, rng.permutation(len(nodes)), strict=True):
        node.name = f"n{number:06x}"
    order = _valid_order(nodes, rng) if sort else [int(k) for k in rng.permutation(len(nodes))]
    chosen = [NodeProto.FromString(nodes[k].SerializeToString()) for k in order]
    del result.graph.node[:]
    result.graph.node.extend(chosen)
    return result, new


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _names(graph: GraphProto) -> Iterator[str]:
    yield from (v.name for v in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in _subgraphs(node):
            yield from _names(inner)


def _rename(graph: GraphProto, new: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = new.get(value.name, value.name)
    del graph.quantization_annotation[:]
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        for inner in _subgraphs(node):
            _rename(inner, new)


def _reads(node: NodeProto) -> set[str]:
    inner = {name for graph in _subgraphs(node) for name in _names(graph)}
    return set(node.input) | inner


def _valid_order(nodes: list[NodeProto], rng: np.random.Generator) -> list[int]:
    """A random topological order."""
    maker = {name: k for k, node in enumerate(nodes) for name in node.output if name}
    waits = [{maker[name] for name in _reads(node) if name in maker} - {k}
             for k, node in enumerate(nodes)]  # fmt: skip
    readers: dict[int, list[int]] = {}
    for k, needed in enumerate(waits):
        for other in needed:
            readers.setdefault(other, []).append(k)
    ready, order = [k for k, needed in enumerate(waits) if not needed], []
    while ready:
        k = ready.pop(int(rng.integers(len(ready))))
        order.append(k)
        for reader in readers.get(k, ()):
            waits[reader].discard(k)
            if not waits[reader]:
                ready.append(reader)
    assert len(order) == len(nodes)
    return order
