"""The stepper shows what a full run shows, wherever it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from toys import Array, Net, cnn

from mipack.graph.adjust import set_weight
from mipack.graph.canonical import canonical
from mipack.graph.load import from_proto
from mipack.graph.names import node_names
from mipack.graph.probe import exposed
from mipack.graph.stepper import Stepper, frontier_bytes

Feeds = list[Mapping[str, Array]]


def model_of(proto: onnx.ModelProto) -> Any:
    return canonical(from_proto(proto))


def branching() -> tuple[Any, Feeds]:
    """Values that are read late, a Shape of the input, and an If that captures from outside."""
    net = Net(1)
    x = net.input("x", ("batch", 6))
    first = net.dense(x, 6, 8, name="first")
    hidden = net.relu(first)
    second = net.dense(hidden, 8, 8, name="second")
    total = net.node("ReduceSum", x, keepdims=0)
    positive = net.node("Greater", total, net.weight("zero", np.array(0.0)))
    branches = {
        "then_branch": branch("Add", first, hidden),
        "else_branch": branch("Sub", second, hidden),
    }
    chosen = net.node("If", positive, name="choice", **branches)
    shape = net.node("Cast", net.node("Shape", x), to=1)
    scaled = net.node("Mul", chosen, net.node("Gather", shape, net.weight("at", np.array(0))))
    y = net.dense(net.node("Add", scaled, second), 8, 3, name="last")
    rows = [net.rng.normal(size=(n, 6)).astype(np.float32) for n in (4, 4, 3)]
    return model_of(net.proto(y)), [{"x": r} for r in rows]


def branch(op: str, a: str, b: str) -> onnx.GraphProto:
    name = f"{op.lower()}.out"
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(op, [a, b], [name], name=name)], op, [], [output])


def convolutional() -> tuple[Any, Feeds]:
    toy = cnn(samples=7)
    rows = toy.feeds[0]["x"]
    return model_of(toy.proto), [{"x": rows[:4]}, {"x": rows[4:]}]


CASES = {"branching": branching, "convolutional": convolutional}


def full_runs(model: Any, feeds: Feeds) -> list[dict[str, Array]]:
    with exposed(model) as session:
        return [session.run(batch) for batch in feeds]


def assert_shows(stepper: Stepper, names: list[str], want: list[dict[str, Array]]) -> None:
    for got, whole in zip(stepper.peek(names), want, strict=True):
        assert list(got) == names or set(got) == set(names)
        for name in names:
            np.testing.assert_allclose(got[name], whole[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_peek_is_a_full_run_at_every_node(case: str) -> None:
    model, feeds = CASES[case]()
    want = full_runs(model, feeds)
    stepper = Stepper(model, feeds)
    nodes = list(model.graph)
    for at, node in enumerate(nodes):
        stepper.move_before(node)
        own = [value.name for value in node.outputs]
        assert_shows(stepper, own, want)
        assert_shows(stepper, [*own, nodes[-1].outputs[0].name], want)
        made = {value.name for earlier in nodes[:at] for value in earlier.outputs}
        here = [v.name for v in node.inputs if v is not None and v.name in made]
        assert_shows(stepper, here, want)


@pytest.mark.parametrize("case", CASES)
def test_a_jump_is_as_good_as_steps(case: str) -> None:
    model, feeds = CASES[case]()
    want = full_runs(model, feeds)
    last = list(model.graph)[-1]
    stepper = Stepper(model, feeds)
    stepper.move_before(last)
    assert_shows(stepper, [last.outputs[0].name], want)


def test_only_what_is_still_read_is_kept() -> None:
    model, feeds = convolutional()
    stepper = Stepper(model, feeds)
    stepper.move_before(node_names(model.graph)["hidden"])
    assert [len(batch) for batch in stepper._cache] == [1, 1]


def test_weights_may_change_between_moves() -> None:
    model, feeds = convolutional()
    stepper, nodes = Stepper(model, feeds), node_names(model.graph)
    stepper.move_before(nodes["inner"])
    set_weight(model.graph, "inner.w", np.zeros((8, 16, 3, 3), np.float32))
    want = full_runs(model, feeds)
    assert_shows(stepper, ["inner"], want)
    stepper.move_before(nodes["head"])
    assert_shows(stepper, ["head"], want)


def test_the_frontier_is_measured_at_its_widest() -> None:
    """x [4, 6] -> [4, 8] twice at once -> y: 2 * 4 * 8 floats live together."""
    net = Net(0)
    a = net.dense(net.input("x", ("batch", 6)), 6, 8, name="a", bias=False)
    y = net.node("Add", net.relu(a), a)
    shapes = {name: ((4, 5), (8, 8)) for name in ("a", "relu1", y)}
    assert frontier_bytes(model_of(net.proto(y)), shapes) == 4 * 3 * 4 * 8
