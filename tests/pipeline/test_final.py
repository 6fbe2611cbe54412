"""The second step of trust refuses whatever differs from the proven cut in an unreported way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from toys import Net, Toy

from mipack.errors import VerificationError
from mipack.graph.adjust import add_weight, set_weight, value_of
from mipack.graph.names import node_names
from mipack.refit.bottom_up import local
from mipack.refit.choose import Candidate, Choice
from mipack.result import Check
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep
from mipack.verify.final import verify


def toy() -> Toy:
    """Two residual branches; the readers `b` (MatMul), `c` (Gemm) and `d` have no bias."""
    net = Net(1)
    x = net.input("x", ("batch", 6))
    h = net.relu(net.dense(x, 6, 8, name="a"))
    b = net.dense(h, 8, 5, name="b", bias=False)
    c = net.node("Gemm", h, net.weight("c.w", (8, 5)), name="c")
    y = net.node("Sub", net.relu(b), net.relu(c), name="y")
    feeds = [{"x": net.rng.normal(size=(40, 6)).astype(np.float32)}]
    return Toy(net.proto({y: ("batch", 5)}), feeds)


class Case:
    """A proven cut and its refit, which a test spoils."""

    def __init__(self) -> None:
        self.toy = toy()
        keep = Keep({self.toy.group("a").atom: np.arange(4)})
        self.proven = cut(self.toy.coupling, keep)
        made = local(self.toy.coupling, self.toy.sites, keep, self.proven, self.toy.calibration)
        self.final, self.changed = made.model, made.changed
        self.divergence = {"plain": 0.5, "bottom-up": 0.1}

    def checks(self) -> tuple[Check, ...]:
        choice = Choice(Candidate("bottom-up", self.final, self.changed), self.divergence)
        return verify(self.toy.coupling.model, self.proven, choice, self.toy.batches)


def test_an_honest_refit_passes_every_check() -> None:
    checks = Case().checks()
    assert len(checks) == 4 and all(check.passed for check in checks)
    assert "4 refitted weights, 1 bias additions" in checks[0].detail


def test_the_plain_cut_passes() -> None:
    case = Case()
    case.final, case.changed = case.proven.clone(), ()
    case.divergence = {"plain": 0.5, "bottom-up": 0.5}
    assert all(check.passed for check in case.checks())


# ---------------------------------------------------------------- what must be refused


def nodes(case: Case) -> dict[str, ir.Node]:
    return node_names(case.final.graph)


def other_value(case: Case) -> None:
    set_weight(case.final.graph, "a.w", value_of(case.final.graph, "a.w") * np.float32(1.0001))


def other_type(case: Case) -> None:
    weight = value_of(case.final.graph, "b.w")
    case.final.graph.initializers["b.w"].const_value = ir.tensor(weight.astype(np.float64))


def other_shape(case: Case) -> None:
    set_weight(case.final.graph, "b.w", np.zeros((4, 1), np.float32))


def unreported(case: Case) -> None:
    case.changed = tuple(name for name in case.changed if name != "b.w")


def new_weight(case: Case) -> None:
    add_weight(case.final.graph, "stowaway", np.ones(3, np.float32))


def new_node(case: Case) -> None:
    relu = nodes(case)["relu2"]
    added = ir.node("Abs", [relu.outputs[0]], name="added")
    added.outputs[0].name = "added"
    case.final.graph.insert_after(relu, added)
    nodes(case)["y"].replace_input_with(0, added.outputs[0])


def new_addition(case: Case) -> None:
    """An Add of a reported weight elsewhere than behind its own reader."""
    relu, bias = nodes(case)["relu2"], case.final.graph.initializers["b.bias"]
    added = ir.node("Add", [relu.outputs[0], bias], name="added")
    added.outputs[0].name = "added"
    case.final.graph.insert_after(relu, added)
    nodes(case)["y"].replace_input_with(0, added.outputs[0])


def removed_node(case: Case) -> None:
    relu = nodes(case)["relu2"]
    source = relu.inputs[0]
    assert source is not None
    relu.outputs[0].replace_all_uses_with(source)
    case.final.graph.remove(relu, safe=True)


def other_op(case: Case) -> None:
    nodes(case)["relu2"].op_type = "Abs"


def other_domain(case: Case) -> None:
    nodes(case)["relu2"].domain = "elsewhere"


def other_attribute(case: Case) -> None:
    nodes(case)["c"].attributes["alpha"] = ir.AttrFloat32("alpha", 0.5)


def swapped_operands(case: Case) -> None:
    """x - y becomes y - x: the same nodes, attributes and weights."""
    y = nodes(case)["y"]
    first, second = y.inputs
    y.replace_input_with(0, second)
    y.replace_input_with(1, first)


def rewired(case: Case) -> None:
    """A node reads another value of the same shape."""
    y = nodes(case)["y"]
    y.replace_input_with(1, y.inputs[0])


def other_operand(case: Case) -> None:
    """A bias is put where the proven cut had none and nobody reported it."""
    bias = add_weight(case.final.graph, "own", np.zeros(8, np.float32))
    nodes(case)["y"].replace_input_with(1, bias)


def renamed_output(case: Case) -> None:
    case.final.graph.outputs[0].name = "z"


def dropped_output_shape(case: Case) -> None:
    case.final.graph.outputs[0].shape = ir.Shape(["batch", 6])


def infinite(case: Case) -> None:
    set_weight(case.final.graph, "b.w", np.full((4, 5), np.nan, np.float32))


def worse(case: Case) -> None:
    case.divergence = {"plain": 0.5, "bottom-up": 0.6}


def not_a_number(case: Case) -> None:
    case.divergence = {"plain": 0.5, "bottom-up": float("nan")}


SPOILED = {
    other_value: "structure",
    other_type: "structure",
    other_shape: "structure",
    unreported: "structure",
    new_weight: "structure",
    new_node: "structure",
    new_addition: "structure",
    removed_node: "structure",
    other_op: "structure",
    other_domain: "structure",
    other_attribute: "structure",
    swapped_operands: "structure",
    rewired: "structure",
    other_operand: "structure",
    renamed_output: "structure",
    dropped_output_shape: "signature",
    infinite: "finite",
    worse: "no worse",
    not_a_number: "no worse",
}


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_refused(spoil: Callable[[Case], None]) -> None:
    case = Case()
    spoil(case)
    with pytest.raises(VerificationError, match=SPOILED[spoil]) as caught:
        case.checks()
    assert "nothing was written" in caught.value.hint and "\n" not in str(caught.value)


def test_what_was_infinite_before_may_be_so_after() -> None:
    """Rows in which the original overflows are not held against the cut."""
    case = Case()
    case.toy.batches[0].feeds["x"][:3] = np.inf
    assert all(check.passed for check in case.checks())


def test_constants_in_attributes_count() -> None:
    """A tensor deep in an attribute may not change either."""
    net = Net(2)
    x = net.input("x", ("batch", 6))
    h = net.relu(net.dense(x, 6, 8, name="a"))
    shape = net.node("Shape", net.dense(h, 8, 5, name="b"), name="shape")
    filled = net.node("ConstantOfShape", shape, name="filled")
    y = net.node("Add", filled, net.node("Identity", "b.add"), name="y")
    feeds = [{"x": net.rng.normal(size=(40, 6)).astype(np.float32)}]
    made = Toy(net.proto({y: ("batch", 5)}), feeds)
    proven = cut(made.coupling, Keep({made.group("a").atom: np.arange(4)}))
    final = proven.clone()
    value = ir.tensor(np.array([1e-6], np.float32))
    node_names(final.graph)["filled"].attributes["value"] = ir.AttrTensor("value", value)
    with pytest.raises(VerificationError, match="filled"):
        verify(made.coupling.model, proven, Choice(Candidate("plain", final), {}), made.batches)
