"""Bodies of If, Loop and Scan: cut like the graph around them."""

from __future__ import annotations

from typing import Any

import numpy as np
from lawkit import Build, Cases
from onnx import TensorProto

flow = Cases()
ROWS: dict[str, Any] = {"x": ("B", 6)}
TOKENS: dict[str, Any] = {"x": ("B", "S", 6)}
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def loop(b: Build, body: Any, *state: str, rounds: int = 3, n: int = 1) -> Any:
    return b.Loop(b.const(rounds, np.int64), None, *state, body=body, n=n)


def positive(b: Build, x: str) -> str:
    """A condition that data decides."""
    return str(b.Greater(b.ReduceSum(x, keepdims=0), np.float32(0)))


@flow(cut=[12, 9], **ROWS)
def two_branches(b: Build) -> str:
    h = b.Relu(b.lin("x", 6, 12))
    one = b.body(lambda: b.Sigmoid(b.lin(h, 12, 9)))
    two = b.body(lambda: b.Tanh(b.MatMul(h, b.w(12, 9))))
    return b.lin(b.If(positive(b, "x"), then_branch=one, else_branch=two), 9, 4)


@flow(cut=[12], **ROWS)
def a_branch_in_a_branch(b: Build) -> str:
    h = b.Relu(b.lin("x", 6, 12))

    def inner() -> str:
        deep = b.body(lambda: b.Sigmoid(h)), b.body(lambda: b.Neg(h))
        return str(b.If(positive(b, h), then_branch=deep[0], else_branch=deep[1]))

    other = b.body(lambda: b.Identity(h))
    return b.lin(b.If(positive(b, "x"), then_branch=b.body(inner), else_branch=other), 12, 4)


@flow(cut=[12], **ROWS)
def a_branch_that_reshapes(b: Build) -> str:
    """Sizes that are written inside of a body follow."""
    h = b.Relu(b.lin("x", 6, 12))
    one = b.body(lambda: b.Reshape(b.Sigmoid(b.Reshape(h, [-1, 1, 12])), [-1, 12]))
    two = b.body(lambda: b.Reshape(b.Unsqueeze(h, [1]), b.Shape(h)))
    return b.lin(b.If(positive(b, "x"), then_branch=one, else_branch=two), 12, 4)


@flow(cut=[10], **ROWS)
def a_state_that_comes_back(b: Build) -> str:
    """A cell: its hidden units live in the initial state, in the body and behind it."""
    start, w, u = b.Tanh(b.lin("x", 6, 10)), b.w(10, 10), b.w(10)

    def cell(_: str, go_on: str, h: str) -> tuple[str, str]:
        return b.Identity(go_on), b.Sigmoid(b.Add(b.MatMul(h, w), u))

    return b.lin(loop(b, b.body(cell, i=INT64, go=BOOL, h=FLOAT), start), 10, 4)


@flow(cut=[10, 7], **ROWS)
def what_every_round_gives(b: Build) -> str:
    """Scan results of a loop are stacked along a new axis."""
    start, w = b.Tanh(b.lin("x", 6, 10)), b.w(10, 7)

    def cell(_: str, go_on: str, h: str) -> tuple[str, str, str]:
        return b.Identity(go_on), b.Tanh(h), b.Sigmoid(b.MatMul(h, w))

    body = b.body(cell, i=INT64, go=BOOL, h=FLOAT)
    _, each = loop(b, body, start, n=2)
    return b.lin(b.ReduceSum(each, [0], keepdims=0), 7, 4)


@flow(cut=[10], stays={6: "interface"}, **ROWS)
def a_body_that_reads_the_round(b: Build) -> str:
    start = b.Tanh(b.lin("x", 6, 10))

    def cell(i: str, go_on: str, h: str) -> tuple[str, str]:
        return b.Identity(go_on), b.Sigmoid(b.Add(h, b.Cast(i, to=FLOAT)))

    return b.lin(loop(b, b.body(cell, i=INT64, go=BOOL, h=FLOAT), start), 10, 4)


@flow(cut=[10], **ROWS)
def a_state_that_grows(b: Build) -> str:
    """The axis that grows is not one that holds units."""
    h = b.Tanh(b.lin("x", 6, 10))
    first = b.Unsqueeze(h, [1])

    def more(_: str, go_on: str, s: str) -> tuple[str, str]:
        return b.Identity(go_on), b.Concat(s, b.Unsqueeze(h, [1]), axis=1)

    grown = loop(b, b.body(more, i=INT64, go=BOOL, s=FLOAT), first)
    return b.lin(b.ReduceSum(grown, [1], keepdims=0), 10, 4)


@flow(cut=[], stays={10: "from round to round"}, **ROWS)
def units_that_grow(b: Build) -> str:
    h = b.Tanh(b.lin("x", 6, 10))

    def more(_: str, go_on: str, s: str) -> tuple[str, str]:
        return b.Identity(go_on), b.Concat(s, h, axis=1)

    grown = loop(b, b.body(more, i=INT64, go=BOOL, s=FLOAT), h, rounds=2)
    return b.lin(grown, 30, 4)


@flow(cut=[10, 8, 8], **TOKENS)
def a_scan_over_time(b: Build) -> str:
    """Two scan inputs, one from its end; states and results have their units."""
    tokens, other = b.lin("x", 6, 10), b.Sigmoid(b.lin("x", 6, 10))
    start = b.Tanh(b.lin(b.ReduceSum("x", [1], keepdims=0), 6, 8))
    w, u, out = b.w(10, 8), b.w(8, 8), b.w(8, 8)

    def cell(h: str, a: str, c: str) -> tuple[str, str]:
        new = b.Tanh(b.Add(b.MatMul(b.Add(a, c), w), b.MatMul(h, u)))
        return new, b.Sigmoid(b.MatMul(new, out))

    body = b.body(cell, h=FLOAT, a=FLOAT, c=FLOAT)
    last, each = b.Scan(
        start, tokens, other, body=body, num_scan_inputs=2, n=2,
        scan_input_axes=[1, -2], scan_input_directions=[0, 1], scan_output_axes=[1],
    )  # fmt: skip
    y = b.MatMul(each, b.w(8, 4))
    return b.Add(y, b.Unsqueeze(b.lin(last, 8, 4), [1]))


@flow(cut=[10], **ROWS)
def a_branch_in_a_loop(b: Build) -> str:
    start, w = b.Tanh(b.lin("x", 6, 10)), b.w(10, 10)

    def cell(_: str, go_on: str, h: str) -> tuple[str, str]:
        one, two = b.body(lambda: b.Sigmoid(b.MatMul(h, w))), b.body(lambda: b.Neg(h))
        new = b.If(positive(b, h), then_branch=one, else_branch=two)
        return b.Identity(go_on), new

    return b.lin(loop(b, b.body(cell, i=INT64, go=BOOL, h=FLOAT), start), 10, 4)


@flow(cut=[12], **ROWS)
def branches_that_use_one_name(b: Build) -> str:
    h = b.Relu(b.lin("x", 6, 12))
    one, two = b.body(lambda: b.Sigmoid(b.Neg(h))), b.body(lambda: b.Tanh(b.Abs(h)))
    for graph in (one, two):
        for node, name in zip(graph.node, ("inside", "result"), strict=True):
            node.output[0] = name
        graph.node[1].input[0] = "inside"
        graph.output[0].name = "result"
    return b.lin(b.If(positive(b, "x"), then_branch=one, else_branch=two), 12, 4)


@flow(cut=[], stays={12: "run-time bounds"}, **ROWS)
def a_piece_as_long_as_a_state_that_grows(b: Build) -> str:
    """The first round alone would call the piece a fixed one."""
    h = b.Tanh(b.lin("x", 6, 12))

    def cell(_: str, go_on: str, s: str) -> tuple[str, str]:
        count = b.Shape(s, start=1, end=2)
        piece = b.ReduceSum(b.Slice(h, [0], count, [1]), [1], keepdims=1)
        return b.Identity(go_on), b.Concat(s, piece, axis=1)

    start = b.ReduceSum("x", [1], keepdims=1)
    grown = loop(b, b.body(cell, i=INT64, go=BOOL, s=FLOAT), start)
    return b.Add(b.ReduceSum(grown, [1], keepdims=1), b.lin(h, 12, 4))


@flow(**ROWS)
def a_grid_that_the_round_decides(b: Build) -> str:
    """[-1, 1, 8] in the first round, [-1, 2, 4] in the second."""
    h = b.Tanh(b.lin("x", 6, 8))

    def cell(i: str, go_on: str, s: str) -> tuple[str, str]:
        rows = b.Unsqueeze(b.Add(i, b.const(1, np.int64)), [0])
        target = b.Concat([-1], rows, b.Div([8], rows), axis=0)
        grid = b.ReduceMax(b.Reshape(h, target), [1, 2], keepdims=0)
        return b.Identity(go_on), b.Add(s, b.Unsqueeze(grid, [1]))

    start = b.ReduceSum("x", [1], keepdims=1)
    total = loop(b, b.body(cell, i=INT64, go=BOOL, s=FLOAT), start, rounds=2)
    return b.Add(total, b.lin(h, 8, 4))
