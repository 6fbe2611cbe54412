"""Names in a file, and names that are new to it."""

from __future__ import annotations

import onnx_ir as ir


def fresh_name(base: str, taken: set[str | None]) -> str:
    """A name that the file does not have yet; it is taken from now on."""
    count, name = 1, base
    while name in taken:
        count += 1
        name = f"{base}.{count}"
    taken.add(name)
    return name


def names_of(graph: ir.Graph) -> set[str | None]:
    """Every value name in a graph."""
    made = {value.name for node in graph.all_nodes() for value in node.outputs}
    return made | set(graph.initializers) | {value.name for value in graph.inputs}


def node_names(graph: ir.Graph) -> dict[str, ir.Node]:
    """Nodes of the main graph by name."""
    return {node.name or "": node for node in graph}
