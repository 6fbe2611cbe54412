"""Seconds of coupling and surgery by the number of nodes: python benchmarks/scale.py [NODES ...]

Three shapes of graph, each at several sizes: chains of dense layers, stacks of attention blocks and
one Concat of many branches; or a model of your own with --model FILE. A model is read, brought to
canonical form, probed and coupled ("couple"), then cut to half of every group; each is timed once
in a process of its own, with its peak memory. Coupling includes a session of ONNX Runtime with all
values exposed and two runs of it ("runtime").
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NODES = (500, 5_000, 50_000)
WIDTH, HEADS, SIZE = 8, 2, 4


class Graph:
    """Nodes and weights in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def constant(self, array: np.ndarray) -> str:
        """An initializer."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *operands: str | np.ndarray, **attributes: object) -> str:
        """A node; arrays among the operands become initializers."""
        names = [x if isinstance(x, str) else self.constant(x) for x in operands]
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [name], name=name, **attributes))
        return name

    def dense(self, x: str, inner: int = WIDTH, outer: int = WIDTH) -> str:
        """A layer with bias: two nodes."""
        weight = (self.rng.standard_normal((inner, outer)) / inner**0.5).astype(np.float32)
        return self.node("Add", self.node("MatMul", x, weight), np.zeros(outer, np.float32))

    def model(self, y: str) -> onnx.ModelProto:
        """The model from x [batch, length, WIDTH] to y."""
        shape = ["batch", "length", WIDTH]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        out = helper.make_tensor_value_info(y, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "scale", [x], [out], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def chain(nodes: int) -> onnx.ModelProto:
    """Dense layers and activations, three nodes each."""
    g, x = Graph(), "x"
    while len(g.nodes) < nodes:
        x = g.node("Tanh", g.dense(x))
    return g.model(x)


def attention(nodes: int) -> onnx.ModelProto:
    """Transformer blocks: attention and a feed-forward part, both added to the stream."""
    g, x = Graph(), "x"
    heads = np.array([0, 0, HEADS, SIZE])
    while len(g.nodes) < nodes:
        h = g.node("LayerNormalization", x, np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32))
        q, k, v = (
            g.node("Transpose", g.node("Reshape", g.dense(h), heads), perm=perm)
            for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        mixed = g.node("MatMul", g.node("Softmax", g.node("MatMul", q, k)), v)
        merged = g.node(
            "Reshape", g.node("Transpose", mixed, perm=[0, 2, 1, 3]), np.array([0, 0, -1])
        )
        x = g.node("Add", x, g.dense(merged))
        x = g.node("Add", x, g.dense(g.node("Tanh", g.dense(x, WIDTH, 2 * WIDTH)), 2 * WIDTH))
    return g.model(x)


def concat(nodes: int) -> onnx.ModelProto:
    """Many branches side by side in one axis, read by one layer."""
    g = Graph()
    branches = [g.node("Tanh", g.dense("x", WIDTH, 2)) for _ in range(nodes // 3)]
    return g.model(g.dense(g.node("Concat", *branches, axis=-1), 2 * len(branches), 4))


SHAPES: dict[str, Callable[[int], onnx.ModelProto]] = {
    "chain": chain,
    "attention": attention,
    "concat": concat,
}


def measure(model: onnx.ModelProto | Path) -> dict[str, float]:
    """Seconds per step and the peak memory in MB, of this process."""
    import mipack.graph.probe as probing
    from mipack.prepare import prepare
    from mipack.runtime.machine import peak_memory
    from mipack.surgery.cut import cut
    from mipack.surgery.keep import Keep

    prepare(chain(10))  # what is imported on first use
    opened, running = probing.session_with, [0.0]

    def timed(*args: Any, **options: Any) -> Any:
        before = time.perf_counter()
        session = opened(*args, **options)
        run = session.run

        def run_timed(*given: Any, **how: Any) -> Any:
            at = time.perf_counter()
            found = run(*given, **how)
            running[0] += time.perf_counter() - at
            return found

        session.run = run_timed
        running[0] += time.perf_counter() - before
        return session

    probing.session_with = timed
    start = time.perf_counter()
    coupling = prepare(model).coupling
    coupled = time.perf_counter()
    cut(coupling, Keep.of({group: half(group) for group in coupling.free}))
    done = time.perf_counter()
    seconds = {"couple": coupled - start, "cut": done - coupled, "all": done - start}
    seconds["runtime"] = running[0]
    memory = (peak_memory() or 0) / 2**20
    return {name: round(value, 2) for name, value in seconds.items()} | {"peak MB": round(memory)}


def half(group: Any) -> np.ndarray:
    """The first half of the units, in every context of a family."""
    count = max(1, group.size // 2)
    return np.broadcast_to(np.arange(count), (*group.shape[:-1], count))


def main() -> None:
    """Run every case in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", type=int, default=NODES)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--model", type=Path, help="measure this file instead")
    parser.add_argument("--one", action="store_true", help="measure one case here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.one or options.model:
        made = options.model or SHAPES[options.shapes[0]](options.nodes[0])
        print(json.dumps(measure(made)))
        return
    records = []
    for shape in options.shapes:
        for nodes in options.nodes:
            command = [sys.executable, __file__, str(nodes), "--shapes", shape, "--one"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            records.append(
                {"shape": shape, "nodes": nodes, **json.loads(done.stdout.splitlines()[-1])}
            )
            print(*(f"{key} {value}" for key, value in records[-1].items()), sep="  ", flush=True)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
