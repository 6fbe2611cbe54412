"""Whole branches are taken out: the model without them is the original with them silenced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import pytest
from toys import Array, Net, Toy, run

from mipack.couple.solve import Coupling, Group
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep
from mipack.verify.oracle import prove

Make = Callable[[Net, str], str]
Shape = Sequence[int | str]
SIZES = {"batch": 5, "steps": 7}


def toy(make: Make, shape: Shape, *, opset: int = 17) -> Toy:
    net = Net(2)
    y = make(net, net.input("x", shape))
    x = net.rng.normal(size=[SIZES.get(str(d), d) for d in shape]).astype(np.float32)
    return Toy(net.proto({y: [None] * len(shape)}, opset=opset), [{"x": x}])


def vector(net: Net, name: str, *numbers: int) -> str:
    return net.weight(name, np.array(numbers, np.int64))


def none_of(*groups: Group) -> Keep:
    return Keep.of({g: np.zeros((*g.shape[:-1], 0), np.int64) for g in groups})


def without(case: Toy, *names: str) -> ir.Model:
    """The model without these groups, proven on batches of other sizes than were probed."""
    coupling = case.coupling
    groups = [case.group(name) for name in names]
    assert all(map(coupling.removable, groups)), coupling.branches.removable
    keep = none_of(*groups)
    model = cut(coupling, keep)
    assert prove(coupling, keep, model, [*other_sizes(case), *case.feeds]).holds
    return model


def other_sizes(case: Toy) -> list[Mapping[str, Array]]:
    """Feeds with one sample, and with one more step where steps are an axis."""
    x = case.feeds[0]["x"]
    steps = len(case.proto.graph.input[0].type.tensor_type.shape.dim) == 3
    return [{"x": x[:1]}, {"x": np.concatenate([x, x[:, :1]], 1)[:2] if steps else x[:2]}]


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def neurons(net: Net, x: str, n: int = 16, name: str = "inner") -> str:
    return net.dense(net.relu(net.dense(x, n, 12, name=name)), 12, n, name=f"{name}.out")


# ---------------------------------------------------------------- what is left


def test_nothing_but_a_constant_is_left_of_a_branch() -> None:
    case = toy(lambda net, x: net.node("Add", x, neurons(net, x)), ("batch", 16))
    model = without(case, "inner")
    assert sorted(ops(model)) == ["Add", "Add", "Identity"]
    assert sum(v.const_value.size for v in model.graph.initializers.values()) == 2 * 16


def test_a_constant_is_spread_where_its_readers_do_not() -> None:
    """Behind a Transpose its axis is another."""

    def turned(net: Net, x: str) -> str:
        back = net.node("Transpose", x, perm=[0, 2, 1])
        branch = net.node("Transpose", neurons(net, x), perm=[0, 2, 1])
        return net.node("Add", back, branch)

    model = without(toy(turned, ("batch", "steps", 16)), "inner")
    assert "Expand" in ops(model)


def test_sizes_of_a_flattened_batch_are_put_together() -> None:
    def flattened(net: Net, x: str) -> str:
        flat = net.node("Reshape", x, vector(net, "rows", -1, 16))
        hidden = net.relu(net.dense(flat, 16, 12, name="inner"))
        rows = net.dense(hidden, 12, 16, name="out")
        shape = net.node("Shape", x)
        return net.node("Add", x, net.node("Reshape", rows, shape))

    model = without(toy(flattened, ("batch", "steps", 16)), "inner")
    assert "Expand" in ops(model)


@pytest.mark.parametrize("pads", [0, 1])
def test_a_convolution_over_nothing_is_its_bias_at_the_border_too(pads: int) -> None:
    def block(net: Net, x: str) -> str:
        inner = net.relu(net.conv(x, 6, 4, name="inner"))
        y = net.conv(inner, 4, 6, name="outer", pads=[pads] * 4)
        rest = net.node("Pad", y, vector(net, "pads", 0, 0, 1, 1, 0, 0, 1, 1)) if not pads else y
        return net.node("Add", x, rest)

    model = without(toy(block, ("batch", 6, 8, 8)), "inner")
    assert "Conv" not in ops(model) and ("Expand" in ops(model)) is (not pads)


def test_a_gate_of_a_constant() -> None:
    """Squeeze and excite: without the squeezed units every channel has a factor of its own."""

    def gated(net: Net, x: str) -> str:
        small = net.relu(net.conv(net.node("GlobalAveragePool", x), 6, 3, name="inner", k=1))
        return net.node("Mul", x, net.node("Sigmoid", net.conv(small, 3, 6, name="up", k=1)))

    model = without(toy(gated, ("batch", 6, 8, 8)), "inner")
    assert sorted(ops(model)) == ["Identity", "Mul", "Sigmoid"]


def test_a_part_of_a_concatenation_goes() -> None:
    def joined(net: Net, x: str) -> str:
        a, b = (net.relu(net.dense(x, 16, 10 + k, name=f"part{k}")) for k in range(2))
        return net.dense(net.node("Concat", a, x, b, axis=-1), 37, 5, name="head")

    case = toy(joined, ("batch", 16))
    for names, left in ((["part0"], 27), (["part1"], 26), (["part0", "part1"], 16)):
        model = without(case, *names)
        assert model.graph.initializers["head.w"].shape == (left, 5)


def test_packed_weights_lose_one_of_their_parts() -> None:
    """One product makes two hidden layers; what only one branch reads is sliced out of it."""

    def packed(net: Net, x: str) -> str:
        made = net.dense(x, 16, 20, name="packed")
        split = vector(net, "split", 8, 12)
        net.nodes.append(_split(made, split))
        a = net.dense(net.relu("first"), 8, 16, name="a")
        b = net.dense(net.relu("second"), 12, 16, name="b")
        return net.node("Add", net.node("Add", x, a), b)

    def _split(made: str, split: str) -> object:
        from onnx import helper

        return helper.make_node("Split", [made, split], ["first", "second"], name="parts", axis=-1)

    case = toy(packed, ("batch", 16))
    groups = [g for g in case.coupling.groups if g.name.startswith("packed")]
    assert [g.size for g in groups] == [8, 12] and all(map(case.coupling.removable, groups))
    for gone in (groups[:1], groups[1:], groups):
        keep = none_of(*gone)
        assert prove(case.coupling, keep, cut(case.coupling, keep), case.feeds).holds


# ---------------------------------------------------------------- heads and their dims


def attention(net: Net, x: str) -> str:
    """Four heads of 4 dims; the sizes of the batch are read off tensors inside of the branch."""

    def apart(name: str) -> str:
        made = net.dense(x, 16, 16, name=name)
        batch = net.node("Gather", net.node("Shape", made), vector(net, f"{name}.at", 0), axis=0)
        rest = vector(net, f"{name}.rest", -1, 4, 4)
        shape = net.node("Concat", batch, rest, axis=0)
        return net.node("Transpose", net.node("Reshape", made, shape), perm=[0, 2, 1, 3])

    k = net.node("Transpose", apart("k"), perm=[0, 1, 3, 2])
    scores = net.node("Softmax", net.node("MatMul", apart("q"), k), axis=-1)
    mixed = net.node("Transpose", net.node("MatMul", scores, apart("v")), perm=[0, 2, 1, 3])
    merged = net.node("Reshape", mixed, vector(net, "merged", 0, 0, 16))
    return net.node("Add", x, net.dense(merged, 16, 16, name="o"))


@pytest.mark.parametrize("name", ["k:out[0]", "v:out[1]"])
def test_attention_goes_without_heads_or_without_dims_of_values(name: str) -> None:
    model = without(toy(attention, ("batch", "steps", 16)), name)
    assert sorted(ops(model)) == ["Add", "Add", "Identity"]


def test_dims_of_heads_that_go_do_not_matter() -> None:
    case = toy(attention, ("batch", "steps", 16))
    heads, dims = case.group("k:out[0]"), case.group("v:out[1]")
    table = np.tile(np.arange(2), (4, 1))
    keep = Keep.of({heads: np.zeros(0, np.int64), dims: table})
    model = cut(case.coupling, keep)
    assert prove(case.coupling, keep, model, case.feeds).holds


def test_a_size_that_is_read_off_what_goes_is_read_elsewhere() -> None:
    """The shape of a hidden tensor tells the number of rows, which the output is reshaped to."""

    def shaped(net: Net, x: str) -> str:
        hidden = net.relu(net.dense(x, 16, 12, name="inner"))
        rows = net.node("Gather", net.node("Shape", hidden), vector(net, "first", 0), axis=0)
        shape = net.node("Concat", rows, vector(net, "rest", -1, 4), axis=0)
        total = net.node("Add", x, net.dense(hidden, 12, 16, name="out"))
        y = net.node("Reshape", total, shape)
        return net.node("Reshape", y, vector(net, "back", 0, -1))

    case = toy(shaped, ("batch", 16))
    model = without(case, "inner")
    assert "MatMul" not in ops(model)
    for rows in (1, 3):
        x = case.feeds[0]["x"][:rows]
        assert run(model, {"x": x})[case.proto.graph.output[0].name].shape == (rows, 16)


# ---------------------------------------------------------------- together with other cuts


@pytest.mark.parametrize("seed", range(4))
def test_branches_go_while_other_groups_are_cut(seed: int) -> None:
    def deep(net: Net, x: str) -> str:
        stream = net.relu(net.conv(x, 6, 10, name="stem"))
        for k in range(3):
            inner = net.relu(net.conv(stream, 10, 5, name=f"inner{k}"))
            stream = net.node("Add", stream, net.conv(inner, 5, 10, name=f"outer{k}"))
        return net.conv(stream, 10, 4, name="head")

    case = toy(deep, ("batch", 6, 8, 8))
    rng = np.random.default_rng(seed)
    coupling: Coupling = case.coupling
    tables = {}
    for group in coupling.free:
        least = 0 if coupling.removable(group) else 1
        count = int(rng.integers(least, group.size // 2))
        tables[group] = np.sort(rng.permutation(group.size)[:count])
    tables[case.group("inner1")] = np.zeros(0, np.int64)
    keep = Keep.of(tables)
    assert prove(coupling, keep, cut(coupling, keep), case.feeds).holds
