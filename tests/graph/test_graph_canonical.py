"""Canonical form: no number changes, and rules find what they can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from laws.lawkit import Build
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mipack.errors import InputError
from mipack.graph.canonical import canonical
from mipack.graph.load import from_proto, load, runnable, to_proto
from mipack.runtime.session import Session
from mipack.verify.oracle import distance

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"
MODELS = (
    "functions_hand", "functions_onnxscript", "bert_op11_dropout", "cnn_constant_nodes",
    "mobilenet_fp16", "if_branches", "moe_loop_ts", "sequence_ops_hand", "tied_shared_hand",
    "dead_code_hand", "bert_qdq", "mlp_bf16", "resnet_external", "cnn_op9", "gemma_ts",
    "tabular_onehot_ts", "llama_int4_nbits",
)  # fmt: skip
X = {"x": np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)}


def run(model: ir.Model | ModelProto, feeds: dict[str, Any] = X) -> dict[str, Any]:
    """With optimisation off: what the file says and nothing else."""
    model = from_proto(model) if isinstance(model, ModelProto) else model
    with runnable(model) as source:
        return Session(source, optimize=False).run(feeds)


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def settled(b: Build, *outputs: str, opset: int = 18) -> ir.Model:
    """The canonical form of a built graph, after checking that it changes no number."""
    proto = b.proto(outputs, opset)
    before = proto.SerializeToString()
    form = canonical(from_proto(proto))
    assert_same(run(proto), run(form))
    assert_same(run(form), run(canonical(form)))
    assert proto.SerializeToString() == before
    return form


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("name", MODELS)
def test_zoo_models_keep_their_numbers(shared: Path, name: str) -> None:
    path = ZOO / name / "model.onnx"
    model = load(path)
    form = canonical(model)
    listed_as_inputs = {v.name for v in model.graph.inputs} & set(model.graph.initializers)
    for file in sorted((path.parent / "calib").glob("*.npz"))[:2]:
        with np.load(file, allow_pickle=False) as feeds:
            before, after = run(load(path), dict(feeds)), run(form, dict(feeds))
        if listed_as_inputs:  # the runtime takes other kernels for weights that a run may replace
            assert all(distance(before[key], after[key]) <= 1e-5 for key in before)
        else:
            assert_same(before, after)


def test_the_model_given_stays_as_it_is(tmp_path: Path) -> None:
    b = Build(x=("B", 16))
    one = b.const(np.ones(24))
    h = b.Mul(b.Identity(b.lin("x", 16, 24)), one)
    model = from_proto(b.proto([b.lin(b.Add(h, one), 24, 5)], 18))
    before = to_proto(model).SerializeToString()
    to_proto(canonical(model))
    assert to_proto(model).SerializeToString() == before


# ---------------------------------------------------------------- what vanishes


def test_identities_vanish() -> None:
    b = Build(x=("B", 16))
    h = b.Identity(b.Identity(b.Relu(b.Identity("x"))))
    form = settled(b, b.Add(h, b.Identity(b.w(16))))
    assert ops(form) == ["Relu", "Add"]


def test_an_identity_that_makes_an_output_stays() -> None:
    b = Build(x=("B", 16))
    h = b.Relu("x")
    form = settled(b, b.Identity("x"), b.Identity(h), h)
    assert ops(form).count("Identity") == 2


def test_an_identity_that_is_an_output_and_is_read_on() -> None:
    b = Build(x=("B", 16))
    h = b.Identity(b.Relu("x"))
    form = settled(b, h, b.lin(h, 16, 5))
    assert form.graph.outputs[0].name == h


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
def test_inference_dropout_vanishes(opset: int) -> None:
    b = Build(x=("B", 16))
    h = b.Dropout(b.Relu("x"), ratio=0.4) if opset < 12 else b.Dropout(b.Relu("x"), np.float32(0.4))
    assert "Dropout" not in ops(settled(b, b.lin(h, 16, 5), opset=opset))


def test_dropout_that_says_it_does_not_train_vanishes() -> None:
    b = Build(x=("B", 16))
    h = b.Dropout(b.Relu("x"), np.float32(0.4), b.const(False))
    assert "Dropout" not in ops(settled(b, b.lin(h, 16, 5)))


def test_dropout_that_trains_stays() -> None:
    b = Build(x=("B", 16))
    h = b.Dropout(b.Relu("x"), np.float32(0.0), b.const(True), seed=1)
    assert "Dropout" in ops(settled(b, b.lin(h, 16, 5)))


def test_dropout_whose_mask_is_read_stays() -> None:
    b = Build(x=("B", 16))
    h, mask = b.Dropout(b.Relu("x"), n=2)
    assert "Dropout" in ops(settled(b, b.Where(mask, h, np.float32(0))))


def test_dead_nodes_vanish() -> None:
    b = Build(x=("B", 16))
    b.lin(b.Relu("x"), 16, 24)
    form = settled(b, b.lin("x", 16, 5))
    assert ops(form) == ["MatMul", "Add"]
    assert len(form.graph.initializers) == 2


# ---------------------------------------------------------------- constants


def test_every_kind_of_constant_node_becomes_an_initializer() -> None:
    b = Build(x=("B", 16))
    h = b.Add("x", b.Constant(value_float=1.5))
    h = b.Mul(h, b.Constant(value_floats=[2.0] * 16))
    h = b.Add(h, b.Constant(value=numpy_helper.from_array(np.ones((1, 16), np.float32))))
    h = b.Reshape(h, b.Constant(value_ints=[-1, 4, 4]))
    h = b.Gather(h, b.Constant(value_int=2), axis=1)
    form = settled(b, h)
    assert "Constant" not in ops(form)


def test_a_sparse_constant_is_said_to_be_no_valid_graph_or_kept() -> None:
    b = Build(x=("B", 16))
    values = numpy_helper.from_array(np.ones(2, np.float32), "values")
    places = numpy_helper.from_array(np.array([1, 5]), "places")
    h = b.Add("x", b.Constant(sparse_value=helper.make_sparse_tensor(values, places, [16])))
    try:
        form = canonical(from_proto(b.proto([h], 18)))
    except InputError:
        return
    assert_same(run(b.proto([h], 18)), run(form))


def test_nodes_over_constants_are_computed() -> None:
    b = Build(x=("B", 16))
    weight = b.Transpose(b.Mul(b.w(5, 16), np.float32(0.5)), perm=[1, 0])
    form = settled(b, b.MatMul("x", weight))
    assert ops(form) == ["MatMul"]
    (only,) = form.graph.initializers.values()
    assert only.name == weight  # a name that survives is kept


def test_a_shared_matrix_stays_one_weight() -> None:
    """Its Transpose is not computed in advance: that would make two of one."""
    b = Build(x=("B", 16))
    weight = b.w(16, 16)
    form = settled(b, b.MatMul(b.Relu(b.MatMul("x", weight)), b.Transpose(weight, perm=[1, 0])))
    assert "Transpose" in ops(form)
    assert len(form.graph.initializers) == 1


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_random_numbers_are_drawn_anew_in_every_run(op: str) -> None:
    b = Build(x=("B", 16))
    table = b.const(np.full((4, 16), 0.5))
    proto = b.proto([b.Add("x", b.ReduceSum(getattr(b, op)(table, seed=1.0), [0]))], 18)
    assert op in ops(canonical(from_proto(proto)))


def test_sequences_of_constants() -> None:
    b = Build(x=("B", 16))
    listed = b.SequenceConstruct(b.w(16), b.w(16))
    settled(b, b.Add("x", b.SequenceAt(listed, np.int64(1))))


def test_optional_constants() -> None:
    b = Build(x=("B", 16))
    maybe = b.Optional(b.w(16))
    settled(b, b.Add("x", b.OptionalGetElement(maybe)))


def test_vectors_are_private_and_matrices_shared() -> None:
    b = Build(x=("B", 16))
    vector, matrix, number = b.w(16), b.w(16, 16), b.const(2.0)
    h = b.Mul(b.Add(b.MatMul("x", matrix), vector), number)
    h = b.Mul(b.Add(b.MatMul(h, matrix), vector), number)
    form = settled(b, h)
    uses = {len(v.uses()) for v in form.graph.initializers.values() if len(v.shape or ()) < 2}
    assert uses == {1}
    assert len(form.graph.initializers[matrix].uses()) == 2
    assert vector in form.graph.initializers


@pytest.mark.parametrize("shape", [(1, 16), (16, 1), (1, 16, 1), (1, 1, 1, 1)])
def test_a_vector_in_a_shape_with_ones_is_private(shape: tuple[int, ...]) -> None:
    b = Build(x=("B", 16))
    vector, h = b.w(*shape), b.MatMul(b.Unsqueeze("x", [2]), b.Unsqueeze("x", [1]))
    form = settled(b, b.Add(b.Mul(b.Where(b.Greater(h, vector), vector, h), vector), vector))
    assert [len(v.uses()) for v in form.graph.initializers.values()] == [1] * 6
    assert vector in form.graph.initializers


def test_a_weight_with_one_column_stays_shared() -> None:
    """Only the uses that spread it over a result are its own."""
    b = Build(x=("B", 16))
    column = b.w(16, 1)
    both = b.Add(b.MatMul("x", column), b.MatMul(b.Relu("x"), column))
    form = settled(b, both, b.MatMul("x", b.Mul(b.Add(column, b.ReduceSum("x")), column)))
    by_op = {}
    for node in form.graph:
        by_op.setdefault(node.op_type, []).extend(v.name for v in node.inputs if v.is_initializer())
    assert by_op["MatMul"] == [column, column]
    assert len({*by_op["MatMul"], *by_op["Add"], *by_op["Mul"]}) == 3


def test_equal_matrices_are_one_weight() -> None:
    b = Build(x=("B", 16))
    matrix = b.rng.standard_normal((16, 16)).astype(np.float32)
    h = b.MatMul(b.Relu(b.MatMul("x", matrix)), matrix)
    h = b.MatMul(h, b.Transpose(matrix.T, perm=[1, 0]))  # equal once it is computed
    h = b.MatMul(h, matrix.T)
    form = settled(b, h)
    assert sorted(len(v.uses()) for v in form.graph.initializers.values()) == [1, 3]


def test_a_difference_in_the_last_number_or_in_the_type_tells_matrices_apart() -> None:
    b = Build(x=("B", 16))
    matrix = b.rng.standard_normal((16, 16)).astype(np.float32)
    other = matrix.copy()
    other[-1, -1] = np.nextafter(other[-1, -1], 9, dtype=np.float32)
    half = b.Cast(b.MatMul(b.Cast("x", to=10), matrix.astype(np.float16)), to=1)
    form = settled(b, b.MatMul(b.MatMul(half, matrix), other), b.MatMul("x", matrix[:, :8]))
    assert len(form.graph.initializers) == 4


def test_equal_constants_that_are_no_weights_stay_apart() -> None:
    """Of one value throughout, vectors, integers, spread over results, or outputs."""
    b = Build(x=("B", 16))
    matrix = b.rng.standard_normal((16, 16)).astype(np.float32)
    row, places = matrix[:1], np.arange(6).reshape(2, 3)
    h = b.MatMul(b.MatMul("x", np.ones((16, 16), np.float32)), np.ones((16, 16), np.float32))
    spread = b.Add(b.Mul(b.ReduceSum(h), matrix), matrix)
    columns = b.Add(b.MatMul(h, row.T), b.MatMul("x", row.T))
    picked = b.Add(b.Gather(h, places, axis=1), b.Gather("x", places, axis=1))
    form = settled(b, spread, columns, picked, b.const(matrix), b.const(matrix))
    assert all(len(v.uses()) <= 1 for v in form.graph.initializers.values())
    assert len(form.graph.initializers) == 10


def test_one_vector_for_both_operands_of_a_node() -> None:
    b = Build(x=("B", 16))
    vector = b.w(16)
    form = settled(b, b.Where(b.Greater("x", vector), vector, vector))
    assert all(len(v.uses()) == 1 for v in form.graph.initializers.values())


def test_a_vector_that_is_an_output() -> None:
    b = Build(x=("B", 16))
    vector = b.w(16)
    form = settled(b, vector, b.Add(b.Mul("x", vector), vector))
    assert vector in {v.name for v in form.graph.outputs}


def test_private_copies_have_new_names() -> None:
    b = Build(x=("B", 16))
    vector = b.w(16)
    b.weights.append(numpy_helper.from_array(np.ones(16, np.float32), f"{vector}.copy"))
    form = settled(b, b.Add(b.Add(b.Add("x", vector), vector), f"{vector}.copy"))
    assert len(form.graph.initializers) == 3


def test_text_constants() -> None:
    b = Build(x=("B", 16))
    words = b.const(np.array(["a", "b"], object))
    same = b.Cast(b.Equal(words, b.Identity(words)), to=TensorProto.FLOAT)
    settled(b, b.Add("x", b.ReduceSum(same, keepdims=0)), opset=19)


def test_text_made_of_constants() -> None:
    b = Build(x=("B", 16))
    words = b.StringConcat(b.const(np.array(["a", "b"], object)), b.const(np.array(["c"], object)))
    known = b.Cast(b.Equal(words, b.const(np.array(["bc"], object))), to=TensorProto.FLOAT)
    settled(b, b.Add("x", b.ReduceSum(known, keepdims=0)), opset=20)


def test_bfloat16_in_between_constants() -> None:
    b = Build(x=("B", 16))
    weight = b.Cast(b.Cast(b.w(16, 5), to=TensorProto.BFLOAT16), to=TensorProto.FLOAT)
    settled(b, b.MatMul("x", weight))


# ---------------------------------------------------------------- names and order


def test_unnamed_nodes_get_names_and_twins_are_told_apart() -> None:
    """Later stages know nodes by name; ONNX neither wants names nor wants them unique."""
    b = Build(x=("B", 16))
    proto = b.proto([b.lin(b.Relu(b.lin("x", 16, 24)), 24, 5)], 18)
    for node in proto.graph.node[:2]:
        node.name = "twin"
    form = canonical(from_proto(proto))
    names = [node.name for node in form.graph]
    assert all(names)
    assert len(set(names)) == len(names)
    assert "twin" in names


def test_unsorted_nodes_are_sorted() -> None:
    b = Build(x=("B", 16))
    proto = b.proto([b.lin(b.Relu(b.lin("x", 16, 24)), 24, 5)], 18)
    expected = run(proto)
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert_same(expected, run(canonical(from_proto(proto))))


def test_a_cycle_is_named() -> None:
    b = Build(x=("B", 16))
    first = b.Add("x", "later")
    b.nodes.append(helper.make_node("Relu", [first], ["later"]))
    with pytest.raises(InputError, match="cycle"):
        canonical(from_proto(b.proto([first], 18)))


def test_the_long_name_of_the_standard_domain() -> None:
    b = Build(x=("B", 16))
    h = b.Identity(b.MatMul("x", b.w(16, 24), domain="ai.onnx"), domain="ai.onnx")
    proto = b.proto([b.lin(h, 24, 5)], 18)
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 18))
    form = canonical(from_proto(proto))
    assert_same(run(proto), run(form))
    assert "Identity" not in ops(form)


# ---------------------------------------------------------------- functions and bodies


def test_functions_are_inlined() -> None:
    b = Build(x=("B", 16))
    inner = helper.make_function(
        "own", "Scaled", ["a"], ["c"],
        [helper.make_node("Constant", [], ["k"], value_float=3.0),
         helper.make_node("Mul", ["a", "k"], ["c"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    outer = helper.make_function(
        "own", "Twice", ["a"], ["c"],
        [helper.make_node("Scaled", ["a"], ["b"], domain="own"),
         helper.make_node("Scaled", ["b"], ["c"], domain="own")],
        [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)],
    )  # fmt: skip
    h = b.Twice(b.lin("x", 16, 24), domain="own")
    proto = b.proto([b.lin(b.Twice(h, domain="own"), 24, 5)], 18)
    proto.functions.extend([inner, outer])
    form = canonical(from_proto(proto))
    assert_same(run(proto), run(form))
    assert not form.functions
    assert ops(form).count("Mul") == 4
    names = [node.name for node in form.graph]
    assert len(set(names)) == len(names)


def branches(b: Build, captured: str) -> str:
    """If(sum(x) > 0) captured + c else captured * c; both bodies call their constant `c`."""
    bodies = []
    for op, number in (("Add", 2.0), ("Mul", 3.0)):
        constant = helper.make_node(
            "Constant", [], ["c"], value=numpy_helper.from_array(np.full(24, number, np.float32))
        )
        node = helper.make_node(op, [captured, "c"], [f"{op}.out"])
        result = helper.make_tensor_value_info(f"{op}.out", TensorProto.FLOAT, None)
        bodies.append(helper.make_graph([constant, node], op, [], [result]))
    positive = b.Greater(b.ReduceSum("x", keepdims=0), np.float32(0))
    return str(b.If(positive, then_branch=bodies[0], else_branch=bodies[1]))


@pytest.mark.parametrize("sign", [1, -1])
def test_constants_of_branches_are_lifted(sign: int) -> None:
    b = Build(x=("B", 16))
    h = b.Identity(b.lin("x", 16, 24))  # what a body captures may vanish from under it
    proto = b.proto([b.lin(branches(b, h), 24, 5)], 18)
    form = canonical(from_proto(proto))
    feeds = {"x": sign * np.abs(X["x"])}
    assert_same(run(proto, feeds), run(form, feeds))
    inside = [node.op_type for node in form.graph.all_nodes() if node.graph is not form.graph]
    assert sorted(inside) == ["Add", "Mul"]


def test_declared_shapes_are_dropped() -> None:
    """They may lie already, and will after a cut."""
    b = Build(x=("B", 16))
    proto = b.proto([b.lin(b.lin("x", 16, 24), 24, 5)], 18)
    wrong = onnx.helper.make_tensor_value_info(proto.graph.node[1].output[0], 1, [99, 99])
    proto.graph.value_info.append(wrong)
    form = canonical(from_proto(proto))
    assert form.graph.node(1).outputs[0].shape is None
