"""Models that were edited with onnx-graphsurgeon.

What that library does not hold is gone before a graph arrives here: metadata, overloads of
functions, element shapes of sequences. Of functions of one name and domain that differed in their
overload the wrong one would run: such a graph is refused.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import onnx

from mipack.errors import InputError


def is_surgeon(model: object) -> bool:
    """Whether it is a `gs.Graph`; the library is not loaded for that."""
    library = sys.modules.get("onnx_graphsurgeon")
    return library is not None and isinstance(model, library.Graph)


def from_surgeon(graph: Any) -> onnx.ModelProto:
    """The message of a `gs.Graph`, nodes in order; the graph stays as it is.

    Raises InputError where it cannot be exported.
    """
    import onnx_graphsurgeon as gs

    named = Counter((function.domain, function.name) for function in graph.functions)
    twice = [name for (_, name), count in named.items() if count > 1]
    if twice:
        raise InputError(
            f"the graph holds several functions {twice[0]!r}, whose overloads onnx-graphsurgeon "
            "does not keep",
            hint="give the model's path or its ModelProto",
        )
    try:
        ordered = graph.copy()
        ordered.toposort()
        return gs.export_onnx(ordered)
    except Exception as error:  # the library raises its own, and whatever its parts do
        raise InputError(
            f"the onnx-graphsurgeon graph cannot be exported: {' '.join(str(error).split())}",
            hint="inputs and outputs need a dtype, and the graph may have no cycle",
        ) from error
