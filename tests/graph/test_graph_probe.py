"""Probing: shapes as pairs, what is known, and pairs of feeds that tell every dimension apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from laws.lawkit import Build
from onnx import TensorProto, helper

import mipack.graph.load as files
from mipack.errors import InputError, UnsupportedError
from mipack.graph.canonical import canonical
from mipack.graph.feeds import probed
from mipack.graph.load import from_proto, signature
from mipack.graph.probe import Probe, probe, require_finite


def model(b: Build, *outputs: str, opset: int = 18) -> ir.Model:
    return canonical(from_proto(b.proto(outputs, opset)))


def look(b: Build, *outputs: str, opset: int = 18) -> Probe:
    first, second, _ = b.feeds()
    return probe(model(b, *outputs, opset=opset), (first, second))


# ---------------------------------------------------------------- what two runs show


def test_shapes_are_pairs() -> None:
    b = Build(x=("B", "S", 16))
    h = b.lin("x", 16, 24)
    heads = b.heads(h, 4, 6)
    merged = b.Reshape(heads, [-1, 6])
    seen = look(b, b.lin(merged, 6, 5))
    assert seen.shapes["x"] == ((2, 3), (7, 11), (16, 16))
    assert seen.shapes[h] == ((2, 3), (7, 11), (24, 24))
    assert seen.shapes[heads] == ((2, 3), (4, 4), (7, 11), (6, 6))
    assert seen.shapes[merged] == ((2 * 4 * 7, 3 * 4 * 11), (6, 6))
    assert seen.shapes["w1"] == ((16, 16), (24, 24))
    assert seen.dtypes[h] == "float32"


def test_declared_shapes_are_not_believed() -> None:
    b = Build(x=("B", 16))
    h = b.lin("x", 16, 24)
    proto = b.proto([b.lin(h, 24, 5)], 18)
    proto.graph.value_info.append(helper.make_tensor_value_info(h, TensorProto.FLOAT, [7, 7]))
    first, second, _ = b.feeds()
    seen = probe(canonical(from_proto(proto)), (first, second))
    assert seen.shapes[h] == ((2, 3), (24, 24))


def test_known_values_come_from_shapes_and_constants_and_agree() -> None:
    b = Build(x=("B", "S", 16))
    h = b.lin("x", 16, 24)
    sizes = b.Shape(h)
    width, rows = b.Gather(sizes, np.int64(2)), b.Gather(sizes, np.int64(0))
    half = b.Div(width, np.int64(2))
    root = b.Sqrt(b.Cast(width, to=TensorProto.FLOAT))
    data = b.ArgMax(h, axis=2)
    scaled = b.Mul(b.Div(h, root), b.Cast(b.Add(half, rows), to=TensorProto.FLOAT))
    seen = look(b, b.Add(scaled, b.Cast(data, to=TensorProto.FLOAT)))
    assert (int(seen.known[width]), int(seen.known[half])) == (24, 12)
    assert float(seen.known[root]) == pytest.approx(24**0.5)
    assert not {sizes, rows, h, data} & seen.known.keys()
    assert {sizes, width, rows, half} <= seen.shape_arithmetic
    assert not {root, data, h} & seen.shape_arithmetic  # numbers of activations: rules apply
    both = seen.vectors[sizes]
    assert (both[0].tolist(), both[1].tolist()) == ([2, 7, 24], [3, 11, 24])


def test_filled_and_expanded_tensors_are_data() -> None:
    b = Build(x=("B", "S", 16))
    sizes = b.Shape("x", start=2)
    filled, wide = b.ConstantOfShape(sizes), b.Expand(b.w(1), sizes)
    seen = look(b, b.Add("x", b.Add(filled, wide)))
    assert not {filled, wide} & (seen.known.keys() | seen.shape_arithmetic)
    assert sizes in seen.known


def test_a_matrix_used_twice_is_no_shape_arithmetic() -> None:
    b = Build(x=("B", 16))
    weight = b.w(16, 16)
    turned = b.Transpose(weight, perm=[1, 0])
    seen = look(b, b.MatMul(b.MatMul("x", weight), turned))
    assert turned not in seen.shape_arithmetic
    assert seen.shapes[turned] == ((16, 16), (16, 16))


def test_values_without_one_rank_have_no_shape() -> None:
    b = Build(x=("B", 16))
    parts = b.SplitToSequence("x", np.int64(8), axis=1)
    chosen = b.SequenceAt(parts, np.int64(1))
    seen = look(b, chosen)
    assert seen.shapes[parts] is None
    assert seen.shapes[chosen] == ((2, 3), (8, 8))


def test_inner_values_of_both_branches_are_looked_at() -> None:
    b = Build(x=("B", 16))
    bodies = [
        helper.make_graph(
            [helper.make_node("Relu", ["x"], [f"{name}.inner"])], name, [],
            [helper.make_tensor_value_info(f"{name}.inner", TensorProto.FLOAT, None)],
        )
        for name in ("yes", "no")
    ]  # fmt: skip
    y = b.If(b.const(True), then_branch=bodies[0], else_branch=bodies[1])
    seen = look(b, y)
    assert seen.shapes[y] == ((2, 3), (16, 16))
    assert seen.shapes["yes.inner"] == seen.shapes["no.inner"] == ((2, 3), (16, 16))


def test_a_model_too_large_for_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Build(x=("B", 16))
    y = b.lin(b.lin("x", 16, 24), 24, 5)
    whole = look(b, y)
    monkeypatch.setattr(files, "EXTERNAL_ABOVE", 100)
    seen = look(b, y)
    assert seen.shapes == whole.shapes


def test_refused_feeds_are_an_input_error() -> None:
    b = Build(x=("B", 16))
    form = model(b, b.lin("x", 16, 5))
    feeds: dict[str, Any] = {"x": np.zeros((2, 17), np.float32)}
    with pytest.raises(InputError, match="refused"):
        probe(form, (feeds, feeds))


def test_ops_without_a_kernel_are_unsupported() -> None:
    b = Build(x=("B", 16))
    form = model(b, b.Mystery("x", domain="nowhere"))
    with pytest.raises(UnsupportedError, match="Mystery"):
        probe(form, b.feeds()[:2])


def test_nan_in_a_weight_is_named() -> None:
    b = Build(x=("B", 16))
    weight = np.ones((16, 5), np.float32)
    weight[3, 2] = np.nan
    form = model(b, b.MatMul("x", b.const(weight)))
    with pytest.raises(InputError, match="'w1' holds NaN"):
        require_finite(form)
    b = Build(x=("B", 16))
    require_finite(model(b, b.Add("x", b.const(np.full(16, -np.inf)))))


# ---------------------------------------------------------------- pairs of feeds


def pair(b: Build, outputs: list[str], real: list[dict[str, Any]] | None = None) -> Probe:
    form = model(b, *outputs)
    return probed(form, signature(form), real or [])[0]


def dynamic(seen: Probe, name: str) -> list[tuple[int, int]]:
    shape = seen.shapes[name]
    assert shape is not None
    return [size for size in shape if size[0] != size[1]]


def test_made_up_feeds_tell_all_dimensions_apart() -> None:
    b = Build(x=("B", "S", 16), y=("B", "T", 16))
    seen = pair(b, [b.lin("x", 16, 5), b.lin("y", 16, 5)])
    sizes = dynamic(seen, "x") + dynamic(seen, "y")
    assert len(sizes) == 4
    assert sizes[0] == sizes[2]  # one name, one size
    numbers = [n for size in set(sizes) for n in size]
    assert min(numbers) > 1
    assert len({size[0] for size in set(sizes)}) == 3


def test_inputs_without_names_of_dimensions() -> None:
    b = Build(x=("B", 16))
    proto = b.proto([b.lin("x", 16, 5)], 18)
    proto.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    form = canonical(from_proto(proto))
    seen, _ = probed(form, signature(form), [])
    assert len(dynamic(seen, "x")) == 1


def test_static_models_are_probed_as_they_are() -> None:
    b = Build(x=(3, 16))
    assert pair(b, [b.lin("x", 16, 5)]).shapes["x"] == ((3, 3), (16, 16))


@pytest.mark.parametrize("lengths", [(9, 5), (9, 9), (1, 7)])
def test_real_batches_are_taken_at_two_sizes(lengths: tuple[int, int]) -> None:
    b = Build(x=("B", "S", 16))
    real = [{"x": np.ones((k + 1, n, 16), np.float32)} for k, n in enumerate(lengths)]
    seen = pair(b, [b.lin("x", 16, 5)], real)
    assert len(dynamic(seen, "x")) == 2
    assert min(n for size in seen.shapes["x"] or () for n in size) > 1


def test_sizes_that_a_model_wants_even() -> None:
    """[B, S, 16] read as pairs of positions: odd lengths are refused."""
    b = Build(x=("B", "S", 16))
    h = b.Reshape("x", b.Concat(b.Shape("x", end=1), [-1, 2, 16], axis=0))
    seen = pair(b, [b.lin(h, 16, 5)])
    assert len(dynamic(seen, "x")) == 2
    assert all(n % 2 == 0 for n in (seen.shapes["x"] or ())[1])


def test_two_inputs_that_must_agree_without_saying_so() -> None:
    """Other names, one size: `batch` and `batch_1` are made the same where apart is refused."""
    b = Build(x=("B", 16), y=("C", 16))
    sizes = {"B", "C"}
    seen = pair(b, [b.Add(b.lin("x", 16, 5), b.lin("y", 16, 5))])
    assert len(sizes) == 2
    assert dynamic(seen, "x") == dynamic(seen, "y") != []


def test_one_length_only_is_refused_but_the_batch_is_dynamic() -> None:
    """The declared length is a symbol, yet a table of 9 rows is added to it."""
    b = Build(x=("B", "S", 16))
    real = [{"x": np.ones((4, 9, 16), np.float32)}] * 2
    seen = pair(b, [b.lin(b.Add("x", b.w(9, 16, scale=1.0)), 16, 5)], real)
    shape = seen.shapes["x"]
    assert shape is not None
    assert shape[0][0] != shape[0][1]
    assert shape[1] == (9, 9)


def test_made_up_inputs_that_are_refused_say_what_to_supply() -> None:
    b = Build(x=("B", "S", 16))
    h = b.Add("x", b.w(9, 16, scale=1.0))
    with pytest.raises(InputError, match="made-up inputs were refused") as caught:
        pair(b, [b.lin(h, 16, 5)])
    assert "--calib" in caught.value.hint
    assert "x" in caught.value.hint


def test_real_inputs_that_are_refused_say_what_the_runtime_said() -> None:
    b = Build(x=("B", 16))
    real = [{"x": np.ones((4, 17), np.float32)}]
    with pytest.raises(InputError, match="refused"):
        pair(b, [b.lin("x", 16, 5)], real)


def test_slices_show_the_same_as_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large models are run several times, each time with some of their values exposed."""
    b = Build(x=("B", "S", 16))
    h = b.attend(*(b.heads(b.lin("x", 16, 12), 3, 4) for _ in range(3)), 3, 4)
    form = canonical(from_proto(b.proto([b.lin(h, 12, 5)], 17)))
    whole = probe(form, b.feeds()[:2])
    monkeypatch.setattr("mipack.graph.probe.EXPOSED_BYTES", 1_000)
    monkeypatch.setattr("mipack.graph.probe.SMALL", 16)
    sliced = probe(form, b.feeds()[:2])
    assert (sliced.shapes, sliced.dtypes) == (whole.shapes, whole.dtypes)
    assert sliced.known.keys() <= whole.known.keys()
