"""Surgery: weights sliced, sizes respelled, nothing else touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from laws.lawkit import Build, Studied, coupled, study
from onnx import TensorProto

from mipack.couple.solve import couple
from mipack.graph.canonical import canonical
from mipack.graph.load import from_proto, runnable, to_proto
from mipack.graph.probe import probe
from mipack.layout import leaves
from mipack.runtime.session import Session
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep


def cut_to(studied: Studied, kept: Mapping[int, Sequence[int]]) -> ir.Model:
    """Cut the only group of each given size (of all families: the first units everywhere)."""
    tables, within = {}, {}
    for group in studied.cuttable:
        if group.size in kept:
            outer = [context.size[0] for context in group.within]
            tables[group.atom] = np.broadcast_to(kept[group.size], (*outer, len(kept[group.size])))
            within[group.atom] = group.within
    assert len(tables) >= len(kept), [(g.name, g.size) for g in studied.coupling.groups]
    return cut(studied.coupling, Keep(tables, within))


def operand(model: ir.Model, op: str, slot: int, which: int = 0) -> list[int]:
    """A constant operand of the n-th node of an op, flattened."""
    node = [node for node in model.graph if node.op_type == op][which]
    value = node.inputs[slot]
    assert value is not None and value.const_value is not None
    return np.reshape(value.const_value.numpy(), -1).tolist()


def attribute(model: ir.Model, op: str, name: str) -> Any:
    node = next(node for node in model.graph if node.op_type == op)
    return node.attributes[name].value


def weights(model: ir.Model) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(v.const_value.shape.numpy())
        for name, v in model.graph.initializers.items()
        if v.const_value is not None
    }


def dense(opset: int = 18) -> Studied:
    b = Build(x=("B", 16))
    return study(b, b.lin(b.Relu(b.lin("x", 16, 8)), 8, 5), opset)


# ---------------------------------------------------------------- weights


def test_weights_are_sliced_at_the_kept_units() -> None:
    studied = dense()
    model = cut_to(studied, {8: [1, 4, 7]})
    before, after = studied.coupling.constants, model.graph.initializers
    np.testing.assert_array_equal(after["w1"].const_value.numpy(), before["w1"][:, [1, 4, 7]])
    np.testing.assert_array_equal(after["w3"].const_value.numpy(), before["w3"][[1, 4, 7]])
    np.testing.assert_array_equal(after["w6"].const_value.numpy(), before["w6"][[1, 4, 7]])
    np.testing.assert_array_equal(after["w8"].const_value.numpy(), before["w8"])


def test_the_coupled_model_stays_as_it_is() -> None:
    studied = dense()
    before = to_proto(studied.coupling.model).SerializeToString()
    cut_to(studied, {8: [0]})
    assert to_proto(studied.coupling.model).SerializeToString() == before


def test_nothing_kept_back_changes_nothing() -> None:
    studied = dense()
    before = to_proto(studied.coupling.model).SerializeToString()
    assert to_proto(cut(studied.coupling, Keep({}))).SerializeToString() == before


def test_signature_metadata_and_types_are_kept() -> None:
    b = Build(x=("B", 16))
    half = b.Cast(b.lin("x", 16, 8), to=10)
    h = b.Cast(b.MatMul(half, b.const(np.ones((8, 6)), np.float16)), to=11)
    y = b.Cast(b.MatMul(b.Relu(h), b.const(np.ones((6, 5)), np.float64)), to=1)
    studied = study(b, y)
    studied.coupling.model.metadata_props["license"] = "Apache-2.0"
    model = cut_to(studied, {8: [0, 1], 6: [2, 3]})
    proto = to_proto(model)
    assert [v.name for v in proto.graph.input] == ["x"]
    assert [v.name for v in proto.graph.output] == [y]
    assert {p.key for p in proto.metadata_props} == {"license"}
    types = {v.const_value.dtype.numpy().name for v in model.graph.initializers.values()}
    assert types == {"float32", "float16", "float64"}
    assert (2, 2) in weights(model).values()


# ---------------------------------------------------------------- sizes written in nodes


def test_a_reshape_target_keeps_what_follows_by_itself() -> None:
    b = Build(x=("B", "S", 16))
    h = b.Reshape(b.lin("x", 16, 24), [0, -1, 4, 6])
    model = cut_to(study(b, b.lin(b.Reshape(b.Relu(h), [0, 0, -1]), 24, 5)), {4: [0, 3], 6: [1]})
    assert operand(model, "Reshape", 1, 0) == [0, -1, 2, 1]
    assert operand(model, "Reshape", 1, 1) == [0, 0, -1]


def test_two_readers_of_one_target_get_one_each() -> None:
    b = Build(x=("B", 16))
    target = b.const([-1, 4, 6])
    h = b.Reshape(b.lin("x", 16, 24), target)
    g = b.Reshape(b.lin("x", 16, 24), b.Identity(target))
    out = b.Concat(
        b.lin(b.Reshape(b.Relu(h), [0, 24]), 24, 5), b.lin(b.Reshape(g, [0, 24]), 24, 5), axis=1
    )
    studied = study(b, out)
    one = studied.cuttable[0]
    model = cut(studied.coupling, Keep({one.atom: np.array([0, 1])}))
    assert sorted(map(tuple, (operand(model, "Reshape", 1, k) for k in (0, 1)))) == [
        (-1, 2, 6),
        (-1, 4, 6),
    ]


def test_a_copied_size_that_belongs_to_another_axis_is_written_down() -> None:
    """[B, 4, 2] -> [B, 2, 0, 2]: the 0 copies the last axis, for the second half of the 4."""
    b = Build(x=("B", 16))
    h = b.Add(b.Reshape(b.lin("x", 16, 8), [0, 4, 2]), b.w(2, scale=1.0))
    h = b.Reshape(b.Relu(h), [0, 2, 0, 2])
    studied = study(b, b.lin(b.Reshape(h, [0, 8]), 8, 5))
    outer, _, last = leaves(studied.coupling.axes["w1"][1])
    model = cut(studied.coupling, Keep({last: np.array([1])}))
    assert operand(model, "Reshape", 1, 0) == [0, 4, 1]
    assert operand(model, "Reshape", 1, 1) == [0, 2, 2, 1]
    model = cut(studied.coupling, Keep({outer: np.array([0])}))
    assert operand(model, "Reshape", 1, 1) == [0, 1, 0, 2]


def test_computed_sizes_keep_their_expression() -> None:
    """Concat(batch, 4, length, 6): only the elements that are cut are written anew."""
    b = Build(x=("B", "S", 16))
    sizes = b.Shape("x")
    batch, length = b.Gather(sizes, [0]), b.Gather(sizes, [1])
    target = b.Concat(batch, length, [4], [6], axis=0)
    h = b.Relu(b.Reshape(b.lin("x", 16, 24), target))
    studied = study(b, b.lin(b.Reshape(h, b.Concat(batch, length, [24], axis=0)), 24, 5))
    model = cut_to(studied, {4: [0, 1, 2], 6: [5]})
    ops = [node.op_type for node in model.graph]
    assert ops.count("Concat") == 2
    assert not {"Where", "Mul", "Div"} & set(ops)
    first = next(node for node in model.graph if node.op_type == "Reshape").inputs[1]
    assert first is not None
    pieces = [v for v in first.producer().inputs if v.const_value is not None]  # type: ignore[union-attr]
    assert [v.const_value.numpy().tolist() for v in pieces] == [[3], [1]]  # type: ignore[union-attr]


def test_shape_of_a_cut_tensor_is_converted_only_where_it_is_read() -> None:
    b = Build(x=("B", 16))
    h = b.Relu(b.lin("x", 16, 8))
    rows = b.Cast(b.Gather(b.Shape(h), np.int64(0)), to=1)
    plain = cut_to(study(b, b.lin(b.Div(h, rows), 8, 5)), {8: [0, 1]})
    assert [node.op_type for node in plain.graph].count("Div") == 1
    b = Build(x=("B", 16))
    h = b.Relu(b.lin("x", 16, 8))
    width = b.Cast(b.Gather(b.Shape(h), np.int64(1)), to=1)
    converted = cut_to(study(b, b.lin(b.Div(h, width), 8, 5)), {8: [0, 1]})
    assert [node.op_type for node in converted.graph].count("Div") == 2
    back = next(n for n in converted.graph if n.op_type == "Mul")
    assert back.inputs[1].const_value.numpy().tolist() == [1, 8]


def test_a_shape_that_is_an_output_tells_the_original_sizes() -> None:
    b = Build(x=("B", 16))
    h = b.Relu(b.lin("x", 16, 8))
    sizes, y = b.Shape(h), b.lin(h, 8, 5)
    proto = b.proto([sizes, y], 18)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    studied = coupled(proto, b.feeds())
    model = cut_to(studied, {8: [0, 1]})
    assert [v.name for v in model.graph.outputs] == [sizes, y]
    with runnable(model) as source:
        assert Session(source).run(b.feeds()[0])[sizes].tolist() == [2, 8]
    assert studied.proof(0) < 1e-5


def test_a_dynamic_axis_with_a_cut_factor_is_scaled() -> None:
    """[B, 4, 6] -> [B * 4, 6] with B * 4 computed: the sizes are scaled, not written down."""
    b = Build(x=("B", 16))
    h = b.Reshape(b.lin("x", 16, 24), [0, 4, 6])
    count = b.Gather(b.Shape("x"), [0])
    rows = b.Concat(b.Mul(count, [4]), [6], axis=0)
    h = b.Reshape(b.Relu(b.Reshape(h, rows)), b.Concat(count, [24], axis=0))
    studied = study(b, b.lin(h, 24, 5))
    model = cut_to(studied, {4: [0, 2]})
    for seed in (0, 1):
        studied.law(seed)
    assert [node.op_type for node in model.graph].count("Div") == 1


@pytest.mark.parametrize("form", ["attribute", "equal parts", "operand", "count"])
def test_split_sizes_are_written_down(form: str) -> None:
    b = Build(x=("B", 16))
    h, opset = b.lin("x", 16, 12), 11 if form in ("attribute", "equal parts") else 18
    options: dict[str, Any] = {"attribute": {"split": [6, 6]}, "count": {"num_outputs": 2}}
    given = ([6, 6],) if form == "operand" else ()
    p, q = b.Split(h, *given, n=2, axis=1, **options.get(form, {}))
    studied = study(b, b.Add(b.lin(b.Relu(p), 6, 5), b.lin(b.Tanh(q), 6, 5)), opset)
    first, second = studied.cuttable
    keep = Keep({first.atom: np.array([0, 1, 2, 3]), second.atom: np.array([5])})
    model = cut(studied.coupling, keep)
    if opset < 13:
        assert list(attribute(model, "Split", "split")) == [4, 1]
    else:
        assert operand(model, "Split", 1) == [4, 1]
        node = next(node for node in model.graph if node.op_type == "Split")
        assert "num_outputs" not in node.attributes


def test_slice_bounds_move() -> None:
    b = Build(x=("B", 16))
    h = b.lin("x", 16, 12)
    p, q = b.Slice(h, [0], [-8], [1]), b.Slice(h, [4], [2**40], [1])
    studied = study(b, b.Add(b.lin(b.Relu(p), 4, 5), b.lin(b.Relu(q), 8, 5)))
    model = cut_to(studied, {4: [1, 2, 3], 8: [0, 7]})
    assert [operand(model, "Slice", slot, 0) for slot in (1, 2)] == [[0], [3]]
    assert [operand(model, "Slice", slot, 1) for slot in (1, 2)] == [[3], [5]]


def test_slice_bounds_in_attributes_move() -> None:
    b = Build(x=("B", 16))
    h = b.lin("x", 16, 12)
    p = b.Slice(h, starts=[0, 4], ends=[1000, 12], axes=[0, 1])
    studied = study(b, b.Add(b.lin(b.Relu(p), 8, 5), b.lin(h, 12, 5)), 9)
    model = cut_to(studied, {4: [1], 8: [0, 7]})
    assert list(attribute(model, "Slice", "starts")) == [0, 1]
    assert list(attribute(model, "Slice", "ends")) == [1000, 3]


def test_padding_repeats_broadcasts_and_picks_move() -> None:
    b = Build(x=("B", 16))
    h = b.Pad(b.lin("x", 16, 7), [0, 2, 0, 3], np.float32(1))
    model = cut_to(study(b, b.lin(b.Relu(h), 12, 5)), {7: [0, 1, 2], 2: [1], 3: [0, 2]})
    assert operand(model, "Pad", 1) == [0, 1, 0, 2]
    b = Build(x=("B", 16))
    h = b.Reshape(b.Tile(b.lin("x", 16, 8), [1, 3]), [0, 3, 8])
    h = b.Relu(b.Mul(h, b.w(3, 1, scale=1.0)))
    model = cut_to(study(b, b.lin(b.Reshape(h, [0, 24]), 24, 5)), {3: [0, 2], 8: [1]})
    assert operand(model, "Tile", 1) == [1, 2]
    assert operand(model, "Reshape", 1) == [0, 2, 1]
    b = Build(x=("B", 16))
    h = b.Mul(b.Expand(b.lin("x", 16, 1), b.const([1, 8])), b.lin("x", 16, 8))
    model = cut_to(study(b, b.lin(h, 8, 5)), {8: [0, 1, 5]})
    assert operand(model, "Expand", 1) == [1, 3]
    b = Build(x=("B", 16))
    h = b.Relu(b.lin("x", 16, 12))
    studied = study(b, b.lin(b.Mul(h, b.Gather(h, [-5], axis=1)), 12, 5))
    model = cut_to(studied, {7: [0, 6], 4: [3]})
    assert operand(model, "Gather", 1) == [2]


def test_groups_in_attributes_follow() -> None:
    b = Build(x=("B", 3, "W", "H"))
    h = b.conv(b.Relu(b.conv("x", 3, 12)), 12, 8, group=4)
    h = b.GroupNormalization(h, b.w(8), b.w(8), num_groups=4)
    model = cut_to(study(b, b.conv(h, 8, 5, 1), 21), {4: [0, 1, 3], 3: [2]})
    node = [node for node in model.graph if node.op_type == "Conv"][1]
    assert node.attributes["group"].value == 3
    assert attribute(model, "GroupNormalization", "num_groups") == 3
    assert node.inputs[1].const_value.shape == (6, 1, 3, 3)


# ---------------------------------------------------------------- once more


def reshaping() -> tuple[Build, str]:
    """A graph in which every kind of size is respelled, among them those read from shapes."""
    b = Build(x=("B", "S", 16))
    sizes = b.Shape("x")
    batch, length = b.Gather(sizes, [0]), b.Gather(sizes, [1])
    h = b.lin("x", 16, 24)
    half = b.Div(b.Shape(h, start=2), [2])
    h = b.Mul(b.Slice(h, [0], half, [2]), b.Slice(h, half, b.const([1000]), [2]))
    heads = b.Reshape(h, b.Concat(batch, length, [4], [3], axis=0))
    rows = b.Concat(b.Mul(batch, length), b.Shape(heads, start=2), axis=0)
    flat = b.Relu(b.Reshape(heads, rows))
    padded = b.Pad(b.Reshape(flat, b.Concat(batch, length, [12], axis=0)), [0, 0, 2, 0, 0, 2])
    scale = b.Sqrt(b.Cast(b.Gather(b.Shape(heads), np.int64(3)), to=1))
    p, q = b.Split(b.Div(padded, scale), n=2, axis=2, num_outputs=2)
    return b, str(b.Add(b.lin(b.Tanh(p), 8, 5), b.lin(b.Relu(q), 8, 5)))


def shaved(studied: Studied) -> Keep:
    """All units but the first of each group."""
    tables, within = {}, {}
    for group in studied.cuttable:
        outer = [context.size[0] for context in group.within]
        tables[group.atom] = np.broadcast_to(np.arange(1, group.size), (*outer, group.size - 1))
        within[group.atom] = group.within
    return Keep(tables, within)


def again(model: ir.Model, studied: Studied) -> Studied:
    """A cut model as if it came from a file."""
    form = canonical(from_proto(to_proto(model)))
    first, second, _ = studied.feeds
    return Studied(couple(form, probe(form, (first, second))), studied.feeds)


def test_a_pruned_model_can_be_pruned_again() -> None:
    studied = study(*reshaping())
    for seed in range(3):
        studied.law(seed)
        model = cut(studied.coupling, shaved(studied))
        names = [v.name for node in model.graph for v in node.outputs]
        names += [*model.graph.initializers, "x"]
        assert len(set(names)) == len(names)
        nodes = [node.name for node in model.graph]
        assert len(set(nodes)) == len(nodes)
        studied = again(model, studied)


def test_names_of_an_earlier_run_are_never_taken() -> None:
    studied = study(*reshaping())
    once = cut(studied.coupling, shaved(studied))
    kept = set(once.graph.initializers)
    studied = again(once, studied)
    twice = cut(studied.coupling, shaved(studied))
    new = set(twice.graph.initializers) - kept
    before = {name: v.const_value.numpy() for name, v in once.graph.initializers.items()}
    for name in set(twice.graph.initializers) & kept:
        after = twice.graph.initializers[name].const_value.numpy()
        whole = after.shape == before[name].shape
        assert not whole or np.array_equal(after, before[name]), f"{name} means something else now"
    assert new


def test_nothing_unread_is_left() -> None:
    studied = study(*reshaping())
    for seed in range(3):
        model = cut(studied.coupling, studied.keep(seed))
        for node in model.graph:
            assert any(v.uses() or v.is_graph_output() for v in node.outputs), node.name
        for name, value in model.graph.initializers.items():
            assert value.uses() or value.is_graph_output(), name


def test_a_list_of_runs_follows_what_is_left_of_them() -> None:
    """[4, 5, 6, 7, 8, 0, 1, 2, 3] without unit 1 of the first run and 0, 3 of the second."""
    b = Build(x=("B", 16))
    h = b.Gather(b.Sigmoid(b.lin("x", 16, 9)), [*range(4, 9), *range(4)], axis=1)
    studied = study(b, b.lin(h, 9, 5), 18)
    pruned = cut_to(studied, {4: [0, 2, 3], 5: [1, 2, 4]})
    assert operand(pruned, "Gather", 1) == [3, 4, 5, 0, 1, 2]


def test_positions_before_the_runs_shift_them() -> None:
    """Units 0 to 4 are not listed, but cutting them moves those that are."""
    b = Build(x=("B", 16))
    h = b.lin("x", 16, 12)
    few = b.lin(b.Gather(b.Sigmoid(h), [*range(9, 12), *range(5, 9)], axis=1), 7, 6)
    studied = study(b, b.lin(b.Add(few, b.lin(h, 12, 6)), 6, 5), 18)
    pruned = cut_to(studied, {5: [1, 3]})
    assert operand(pruned, "Gather", 1) == [6, 7, 8, 2, 3, 4, 5]


def attending() -> Studied:
    b = Build(x=("B", "S", 16))
    packed = b.Attention("x", b.w(16, 72), b.w(72), domain="com.microsoft", num_heads=4)
    return study(b, b.lin(packed, 24, 5))


def test_a_default_that_follows_a_size_is_written_down_where_it_is_cut() -> None:
    pruned = cut_to(attending(), {6: [0, 2]})
    assert attribute(pruned, "Attention", "scale") == pytest.approx(6**-0.5)
    assert attribute(pruned, "Attention", "qkv_hidden_sizes") == (8, 8, 8)


def test_a_default_stays_a_default_where_its_size_stays() -> None:
    pruned = cut_to(attending(), {4: [1, 3]})
    node = next(node for node in pruned.graph if node.op_type == "Attention")
    assert set(node.attributes) == {"num_heads", "qkv_hidden_sizes"}


def test_a_scale_that_is_given_stays() -> None:
    b = Build(x=("B", "S", 16))
    q, k, v = (b.lin("x", 16, 24) for _ in range(3))
    y = b.MultiHeadAttention(q, k, v, domain="com.microsoft", num_heads=4, scale=0.3)
    pruned = cut_to(study(b, b.lin(y, 24, 5)), {6: [0, 2]})
    assert attribute(pruned, "MultiHeadAttention", "scale") == pytest.approx(0.3)


def two_layers_of_one_table() -> tuple[Studied, str]:
    """The first layer reads the table twice, the second once."""
    b = Build(x=("B", 6, 16))
    table = b.w(6, 8)
    h = b.lin(b.Mul(b.Sigmoid(b.Add(b.lin("x", 16, 8), table)), table), 8, 16)
    return study(b, b.lin(b.Add(b.lin(h, 16, 8), table), 8, 5)), table


def test_each_layer_reads_the_positions_of_a_table_that_it_keeps() -> None:
    studied, table = two_layers_of_one_table()
    first, second = (g for g in studied.cuttable if g.size == 8)
    kept = {first: np.array([0, 2, 7]), second: np.array([1, 2])}
    pruned = cut(studied.coupling, Keep.of(kept))
    gathers = [node for node in pruned.graph if node.op_type == "Gather"]
    assert sorted(operand(pruned, "Gather", 1, k) for k in range(2)) == [[0, 2, 7], [1, 2]]
    assert [len(node.outputs[0].uses()) for node in gathers] == [2, 1]
    assert {node.inputs[0].name for node in gathers if node.inputs[0]} == {table}
    assert weights(pruned)[table] == (6, 8)


def test_a_layer_that_stays_whole_reads_the_whole_table() -> None:
    studied, table = two_layers_of_one_table()
    second = [g for g in studied.cuttable if g.size == 8][1]
    pruned = cut(studied.coupling, Keep.of({second: np.array([1, 2])}))
    reads = [node.op_type for node, _ in pruned.graph.initializers[table].uses()]
    assert sorted(reads) == ["Add", "Gather", "Mul"]


def test_a_table_of_one_layer_is_cut_itself() -> None:
    b = Build(x=("B", 6, 16))
    table = b.w(6, 8)
    h = b.Mul(b.Sigmoid(b.Add(b.lin("x", 16, 8), table)), table)
    pruned = cut_to(study(b, b.lin(h, 8, 5)), {8: [1, 2, 5]})
    assert weights(pruned)[table] == (6, 3)
    assert all(node.op_type != "Gather" for node in pruned.graph)


def test_axes_of_one_unit_tell_no_layers_apart() -> None:
    """[S, 1] and views of it with more ones: the other table is one layer's, and is cut itself."""
    b = Build(x=("B", 6, 16))
    column, row = b.w(6, 1), b.w(1, 8)
    places = b.Mul(column, b.Cast(b.Size("x"), to=TensorProto.FLOAT))
    table = b.Add(places, row)
    h = b.Mul(b.lin("x", 16, 8), b.Unsqueeze(table, [0]))
    h = b.Add(b.lin(b.Add(h, b.Unsqueeze(b.Cos(table), [0])), 8, 24), places)
    studied = study(b, b.lin(h, 24, 5))
    assert not studied.coupling.said.edges
    assert weights(cut_to(studied, {8: [1, 2, 5]}))[row] == (1, 3)
