"""Whether a message is a graph at all: every name defined once, and defined where it is read.

The order of the nodes does not matter here, and cycles are met where they are sorted. Bodies see
the names around them. A message that fails is refused before anything reads meaning into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx

from mipack.errors import InputError, UnsupportedError

HINT = "export it again; onnx.checker may say more"


def require_graph(proto: onnx.ModelProto) -> None:
    """Raises InputError naming the first value that is defined twice, or read and never defined;
    UnsupportedError for sparse tensors."""
    if not proto.graph.output:
        raise InputError("the model's graph has no outputs", hint=HINT)
    _check_graph(proto.graph, frozenset())
    for function in proto.functions:
        defined = _once([("input", function.input), *_made(function.node)])
        _check_reads(function.node, function.output, defined)


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str]) -> None:
    if graph.sparse_initializer:
        raise _sparse(graph.sparse_initializer[0].values.name)
    weights = [tensor.name for tensor in graph.initializer]
    _once([("initializer", weights)])
    inputs = [value.name for value in graph.input]
    apart = [name for name in inputs if name not in set(weights)]  # old files list both
    own = _once([("input", apart), ("initializer", weights), *_made(graph.node)])
    _check_reads(graph.node, [value.name for value in graph.output], own | outer)


def _made(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, Sequence[str]]]:
    for node in nodes:
        yield f"output of {_place(node)}", node.output


def _once(definitions: Iterable[tuple[str, Sequence[str]]]) -> frozenset[str]:
    """All names that are defined here."""
    found: dict[str, str] = {}
    for what, names in definitions:
        for name in filter(None, names):
            if name in found:
                both = f"{found[name]} and {what}" if found[name] != what else f"{what}, twice"
                raise InputError(f"the name {name!r} is defined twice: {both}", hint=HINT)
            found[name] = what
    return frozenset(found)


def _check_reads(
    nodes: Iterable[onnx.NodeProto], outputs: Iterable[str], defined: frozenset[str]
) -> None:
    for node in nodes:
        for name in filter(None, node.input):
            if name not in defined:
                text = f"{_place(node)} reads {name!r}, which nothing defines"
                raise InputError(text, hint=HINT)
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                raise _sparse(node.output[0])
            for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                _check_graph(body, defined)
    for name in outputs:
        if name not in defined:
            raise InputError(f"the output {name!r} is not made by any node", hint=HINT)


def _place(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or next(filter(None, node.output), '')}".strip()


def _sparse(name: str) -> UnsupportedError:
    return UnsupportedError(f"the model holds a sparse tensor ({name})", hint="store it dense")
