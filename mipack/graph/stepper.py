"""Walk a model through its data once, stopping where asked.

The values alive at a position of the graph (its frontier) are cached for all batches; moving on
runs only the nodes in between, so a visit of every layer costs one pass, not one pass per layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.graph.adjust import make_overridable
from mipack.graph.bodies import reads
from mipack.graph.load import in_parts
from mipack.runtime.session import Session

Array = np.ndarray[Any, Any]


class Stepper:
    """A model, some batches of feeds, and a position. Weights may be changed between moves."""

    def __init__(self, model: ir.Model, feeds: Sequence[Mapping[str, Array]]) -> None:
        self._model = model
        self._order = {node: k for k, node in enumerate(model.graph)}
        self._cache: list[dict[str, Array]] = [dict(batch) for batch in feeds]

    def move_before(self, node: ir.Node) -> None:
        """Compute everything that `node` and its successors read of earlier nodes."""
        frontier = self._frontier(self._order[node])
        missing = [name for name in frontier if name not in self._cache[0]]
        found = self.peek(missing)
        self._cache = [
            {name: value for name, value in {**old, **new}.items() if name in frontier}
            for old, new in zip(self._cache, found, strict=True)
        ]

    @property
    def values(self) -> list[dict[str, Array]]:
        """The frontier of every batch."""
        return self._cache

    def peek(self, names: Iterable[str], *, settled: bool = False) -> list[dict[str, Array]]:
        """These values for every batch, computed from the frontier, which stays; `settled` where
        no weight before them is going to change: then moving on need not compute them again."""
        wanted = list(dict.fromkeys(names))
        inner = [name for name in wanted if name not in self._cache[0]]
        if not inner:
            return [{name: batch[name] for name in wanted} for batch in self._cache]
        session = self.session(inner)
        values = []
        for batch in self._cache:
            new = session.run(batch, inner)
            values.append({name: batch[name] for name in wanted if name in batch} | new)
            if settled:
                batch.update(new)
        return values

    def session(self, outputs: Sequence[str], fed: Sequence[str] = ()) -> Session:
        """From the frontier to some values; `fed` initializers may be given other values."""
        part = ir.convenience.extract(self._model.graph, self._needed(outputs), list(outputs))
        for value in part.inputs:
            array = self._cache[0][value.name or ""]
            value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
            value.shape = None
        for value in part.outputs:
            value.shape = None
        part.opset_imports.update(self._model.graph.opset_imports)
        model = ir.Model(part, ir_version=self._model.ir_version)
        make_overridable(model, [name for name in fed if name in part.initializers])
        return Session(in_parts(model))

    def _needed(self, outputs: Sequence[str]) -> list[str]:
        """The cached values that these outputs depend on."""
        values = {v.name: v for node in self._order for v in node.outputs}
        needed, stack, seen = [], [values[name] for name in outputs], set[str]()
        while stack:
            value = stack.pop()
            name = value.name or ""
            if name in seen or value.is_initializer():
                continue
            seen.add(name)
            if name in self._cache[0]:
                needed.append(name)
                continue
            node = value.producer()
            if node is not None:
                stack += reads(node)
        return sorted(needed)

    def _frontier(self, position: int) -> set[str]:
        alive = set()
        for node, index in self._order.items():
            if index < position:  # its results stay where they are the model's
                alive |= {v.name or "" for v in node.outputs if v.is_graph_output()}
                continue
            for value in reads(node):
                if value.is_initializer():
                    continue
                producer = value.producer()
                if producer is None or self._order.get(producer, position) < position:
                    alive.add(value.name or "")
        return alive


def frontier_bytes(model: ir.Model, shapes: Mapping[str, Any]) -> int:
    """The largest frontier of one pass in the first probe, in bytes (4 per element)."""
    last: dict[ir.Value, int] = {}
    nodes = list(model.graph)
    for index, node in enumerate(nodes):
        for value in reads(node):
            if not value.is_initializer():
                last[value] = index
    alive = most = 0
    for index, node in enumerate(nodes):
        alive += sum(_bytes(shapes.get(v.name or "")) for v in node.outputs)
        most = max(most, alive)
        alive -= sum(
            _bytes(shapes.get(v.name or ""))
            for v in dict.fromkeys(reads(node))
            if last.get(v) == index
        )
    return most


def _bytes(shape: Any) -> int:
    return 4 * int(np.prod([size[0] for size in shape], dtype=np.int64)) if shape else 0
