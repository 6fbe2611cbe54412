"""Which groups may go entirely: by what reads them, never by what they are called."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from toys import Net, Toy, cnn, mlp

from mipack.couple.solve import Coupling
from mipack.prepare import prepare
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep

ROWS = ("batch", 16)
TOKENS = ("batch", "steps", 16)
IMAGES = ("batch", 8, 6, 6)


def toy(make: Callable[[Net, str], str], shape: tuple[int | str, ...] = ROWS) -> Toy:
    net = Net(1)
    y = make(net, net.input("x", shape))
    sizes = {"batch": 9, "steps": 7}
    feeds = [net.rng.normal(size=[sizes.get(d, d) for d in shape]).astype(np.float32)]
    return Toy(net.proto({y: [*shape[:-1], None]}), [{"x": feeds[0]}])


def may_go(coupling: Coupling) -> list[str]:
    """The names of what may go, without the axis."""
    return sorted(g.name.split(":")[0] for g in coupling.groups if coupling.removable(g))


def branch(net: Net, x: str, name: str, n: int = 16) -> str:
    """Two dense layers, the group between them called after the first."""
    hidden = net.relu(net.dense(x, n, 12, name=name))
    return net.dense(hidden, 12, n, name=f"{name}.out")


def residual(net: Net, x: str) -> str:
    stream = net.relu(net.dense(x, 16, 16, name="stem"))
    for name in ("first", "second"):
        stream = net.node("Add", stream, branch(net, stream, name))
    return net.dense(stream, 16, 5, name="head")


def attention(net: Net, x: str, heads: int = 4, size: int = 4) -> str:
    """One layer of attention with a residual stream around it."""

    def apart(name: str, perm: list[int]) -> str:
        made = net.dense(x, 16, heads * size, name=name)
        shape = net.weight(f"{name}.shape", np.array([0, 0, heads, size], np.int64))
        return net.node("Transpose", net.node("Reshape", made, shape), perm=perm)

    q, k = apart("q", [0, 2, 1, 3]), apart("k", [0, 2, 3, 1])
    scores = net.node("Softmax", net.node("MatMul", q, k), axis=-1)
    mixed = net.node("MatMul", scores, apart("v", [0, 2, 1, 3]))
    merged = net.node("Transpose", mixed, perm=[0, 2, 1, 3])
    flat = net.weight("flat", np.array([0, 0, heads * size], np.int64))
    out = net.dense(net.node("Reshape", merged, flat), heads * size, 16, name="o")
    return net.node("Add", x, out)


def test_inner_neurons_of_residual_branches_may_go_and_the_stream_not() -> None:
    assert may_go(toy(residual).coupling) == ["first", "second"]


def test_layers_in_a_row_stay() -> None:
    assert may_go(mlp(16, 12, 10, 5).coupling) == []


def test_channels_inside_a_residual_block_may_go() -> None:
    assert may_go(cnn().coupling) == ["inner"]


def test_heads_and_dims_of_values_may_go_but_not_those_of_scores() -> None:
    """Without dims of queries and keys attention is uniform, which is no constant."""
    coupling = toy(attention, TOKENS).coupling
    heads, values, scores = (
        next(g for g in coupling.groups if g.name == name)
        for name in ("q:out[0]", "v:out[1]", "q:out[1]")
    )
    assert coupling.removable(heads) and coupling.removable(values)
    assert not coupling.removable(scores)
    problem = coupling.branches.without([scores.atom]).problem
    assert problem is not None and "MatMul" in problem.text


def test_of_two_branches_without_a_stream_one_stays() -> None:
    def parallel(net: Net, x: str) -> str:
        return net.node("Add", branch(net, x, "left"), branch(net, x, "right"))

    assert len(may_go(toy(parallel).coupling)) == 1


def test_a_branch_with_another_inside_may_go_whole_or_in_parts() -> None:
    def nested(net: Net, x: str) -> str:
        outer = net.dense(x, 16, 16, name="outer")
        outer = net.node("Add", outer, branch(net, outer, "inside"))
        return net.node("Add", x, net.dense(net.relu(outer), 16, 16, name="last"))

    coupling = toy(nested).coupling
    assert may_go(coupling) == ["inside", "outer"]
    both = coupling.branches.without([g.atom for g in coupling.groups if coupling.removable(g)])
    assert both.problem is None


def test_parts_of_a_branch_may_go_but_not_all_of_them() -> None:
    """Two ways inside a branch meet in a sum that a weight reads: without both it sees a
    constant."""

    def forked(net: Net, x: str) -> str:
        met = net.node("Add", branch(net, x, "left"), branch(net, x, "right"))
        return net.node("Add", x, net.dense(met, 16, 16, name="last"))

    coupling = toy(forked).coupling
    assert {"left", "right"} <= set(may_go(coupling))
    atoms = [g.atom for g in coupling.groups if g.name.split(":")[0] in ("left", "right")]
    problem = coupling.branches.without(atoms).problem
    assert problem is not None and problem.atoms and problem.atoms <= set(atoms)


def test_a_part_of_a_concatenation_may_go() -> None:
    def joined(net: Net, x: str) -> str:
        other = net.relu(net.dense(x, 16, 10, name="other"))
        return net.dense(net.node("Concat", x, other, axis=-1), 26, 5, name="head")

    assert may_go(toy(joined).coupling) == ["other"]


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceL2"])
def test_what_is_summed_without_a_weight_stays(op: str) -> None:
    """Nothing says in which bias the lost mean would go."""

    def summed(net: Net, x: str) -> str:
        inner = net.relu(net.dense(x, 16, 12, name="inner"))
        if op == "ReduceSum":
            total = net.node(op, inner, net.weight("axes", np.array([-1], np.int64)), keepdims=1)
        else:
            total = net.node(op, inner, axes=[-1], keepdims=1)
        return net.node("Add", x, total)

    assert may_go(toy(summed).coupling) == []


def test_a_constant_is_not_put_to_work() -> None:
    """Without the first of three layers the third would still be computed, of a constant; without
    the second both others go."""

    def deep(net: Net, x: str) -> str:
        first = net.relu(net.dense(x, 16, 12, name="first"))
        second = net.relu(net.dense(first, 12, 10, name="second"))
        return net.node("Add", x, net.dense(second, 10, 16, name="third"))

    coupling = toy(deep).coupling
    assert may_go(coupling) == ["second"]


def test_what_a_quantised_weight_reads_stays() -> None:
    """No float weight to take the mean from."""

    def quantised(net: Net, x: str) -> str:
        hidden = net.relu(net.dense(x, 16, 12, name="inner"))
        whole = net.weight("w8", net.rng.integers(-9, 9, (12, 16)).astype(np.int8))
        real = net.node("DequantizeLinear", whole, net.weight("scale", np.array(0.05)))
        return net.node("Add", x, net.node("MatMul", hidden, real))

    coupling = toy(quantised).coupling
    assert any(group.free and group.size == 12 for group in coupling.groups)
    assert may_go(coupling) == []


# ---------------------------------------------------------------- cost


def bottleneck(net: Net, x: str) -> str:
    narrow = net.relu(net.conv(x, 8, 4, name="narrow", k=1))
    inner = net.relu(net.conv(narrow, 4, 6, name="inner"))
    return net.node("Add", x, net.conv(inner, 6, 8, name="wide", k=1))


@pytest.mark.parametrize(
    ("make", "shape"),
    [(residual, ROWS), (attention, TOKENS), (bottleneck, IMAGES)],
    ids=["mlp", "attention", "bottleneck"],
)
def test_the_cost_without_a_group_is_that_of_the_model_without_it(
    make: Callable[[Net, str], str], shape: tuple[int | str, ...]
) -> None:
    """Also of layers that do not carry the group: without values, queries and keys are idle."""
    case = toy(make, shape)
    coupling = case.coupling
    groups = [group for group in coupling.groups if coupling.removable(group)]
    assert groups
    for group in groups:
        keep = Keep.of({group: np.zeros((*group.shape[:-1], 0), np.int64)})
        left = prepare(cut(coupling, keep), case.data).coupling
        assert coupling.cost.macs({group.atom: 0}) == left.cost.macs({})
        assert coupling.cost.macs({group.atom: 0}) < coupling.cost.macs({group.atom: 1})


def test_what_costs_nothing_without_a_group() -> None:
    coupling = toy(bottleneck, IMAGES).coupling
    atoms = {group.name: group.atom for group in coupling.free}
    assert atoms["narrow:out"] in coupling.cost.without(atoms["inner:out"])
    assert atoms["inner:out"] not in coupling.cost.without(atoms["narrow:out"])
