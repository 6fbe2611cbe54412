"""Reading model files: what is kept, and what a damaged file is called."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from laws.lawkit import Build
from onnx import ModelProto, StringStringEntryProto, TensorProto, helper, numpy_helper

from mipack.errors import InputError, UnsupportedError
from mipack.graph import load as files
from mipack.graph.adjust import make_overridable
from mipack.graph.load import digest, from_proto, in_parts, load, runnable, signature, to_proto
from mipack.runtime.session import Session


def small(opset: int = 18) -> ModelProto:
    b = Build(x=("B", 16))
    return b.proto([b.lin(b.Relu(b.lin("x", 16, 24)), 24, 5)], opset)


def written(folder: Path, proto: ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def external(folder: Path, proto: ModelProto, data: str = "weights.bin") -> Path:
    path = folder / "model.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location=data, size_threshold=0)
    return path


def edit_external(path: Path, **entries: str) -> None:
    """Change what the file says of its external data."""
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        kept = [e for e in tensor.external_data if e.key not in entries]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)
        for key, value in entries.items():
            if value:
                tensor.external_data.append(StringStringEntryProto(key=key, value=value))
    path.write_bytes(proto.SerializeToString())


def output(path: Path) -> np.ndarray:
    with runnable(load(path)) as source:
        (y,) = Session(source).run({"x": np.ones((3, 16), np.float32)}).values()
    return y


# ---------------------------------------------------------------- what a session is handed


def conv_and_more(half: bool) -> ModelProto:
    """A convolution, products of floats or halves, and a weight that feeds may replace."""
    b = Build(x=("B", 3, 8, 8))
    flat = b.Reshape(b.Relu(b.conv("x", 3, 16, 3)), [0, -1])
    dense = b.lin(b.Cast(flat, to=TensorProto.FLOAT16) if half else flat, 16 * 64, 12)
    proto = b.proto([dense], 18)
    if half:
        for tensor in proto.graph.initializer:
            if list(tensor.dims)[-1:] == [12]:
                array = numpy_helper.to_array(tensor).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return proto


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_a_model_in_parts_answers_as_its_file_does(half: bool, optimize: bool) -> None:
    model = from_proto(conv_and_more(half))
    before = [value.const_value for value in model.graph.initializers.values()]
    parts = in_parts(model)
    handed = {weight.array.dtype.name for weight in parts.weights.values()}
    assert handed == ({"float16"} if half else {"float32"})
    assert len(parts.message) < sum(w.array.nbytes for w in parts.weights.values())
    feeds = {"x": np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)}
    with runnable(model) as source:
        (want,) = Session(source, optimize=optimize).run(feeds).values()
    (got,) = Session(parts, optimize=optimize).run(feeds).values()
    np.testing.assert_array_equal(got, want)
    after = [value.const_value for value in model.graph.initializers.values()]
    assert all(one is other for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.UINT8])
def test_weights_of_other_types_are_handed_over_where_no_message_holds_them(
    kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(1).integers(0, 9, size=(16, 512)).reshape(-1).tolist()
    stored = helper.make_tensor("w", kind, [16, 512], values)
    b = Build(x=("B", 16))
    proto = b.proto([b.MatMul("x", b.Cast("w", to=TensorProto.FLOAT))], 18)
    proto.graph.initializer.append(stored)
    model, feeds = from_proto(proto), {"x": np.ones((3, 16), np.float32)}
    assert not in_parts(model).weights
    with runnable(model) as source:
        (want,) = Session(source).run(feeds).values()
    monkeypatch.setattr(files, "EXTERNAL_ABOVE", 1000)
    parts = in_parts(model)
    assert list(parts.weights) == ["w"]
    (got,) = Session(parts).run(feeds).values()
    np.testing.assert_array_equal(got, want)


def test_weights_that_a_run_may_replace_stay_in_the_message() -> None:
    model = from_proto(conv_and_more(False))
    name = max(
        model.graph.initializers, key=lambda n: model.graph.initializers[n].const_value.nbytes
    )  # type: ignore[union-attr]
    make_overridable(model, [name])
    parts = in_parts(model)
    assert name not in parts.weights
    session, feeds = Session(parts), {"x": np.ones((2, 3, 8, 8), np.float32)}
    (plain,) = session.run(feeds).values()
    nothing = np.zeros_like(model.graph.initializers[name].const_value.numpy())  # type: ignore[union-attr]
    (other,) = session.run({**feeds, name: nothing}).values()
    assert plain.std(axis=1).max() > 0 and not np.array_equal(plain, other)


def test_inner_values_of_a_model_in_parts_are_outputs_on_request() -> None:
    model = from_proto(small())
    inner = next(iter(model.graph)).outputs[0].name or ""
    session = Session(in_parts(model, [inner, inner]))
    assert session.outputs.count(inner) == 1
    assert session.run({"x": np.ones((2, 16), np.float32)})[inner].shape == (2, 24)


# ---------------------------------------------------------------- what is kept


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    proto = small()
    proto.producer_name, proto.ir_version, proto.doc_string = "somebody", 8, "words"
    helper.set_model_props(proto, {"license": "Apache-2.0"})
    model = load(written(tmp_path, proto))
    again = to_proto(model)
    assert (again.ir_version, again.producer_name) == (8, "somebody")
    assert {p.key: p.value for p in again.metadata_props} == {"license": "Apache-2.0"}
    assert [(o.domain, o.version) for o in again.opset_import] == [("", 18)]
    assert [n.name for n in again.graph.node] == [n.name for n in proto.graph.node]
    assert [list(n.output) for n in again.graph.node] == [list(n.output) for n in proto.graph.node]
    names = [i.name for i in proto.graph.initializer]
    assert [i.name for i in again.graph.initializer] == names


def test_the_signature_is_what_is_declared(tmp_path: Path) -> None:
    declared = signature(load(written(tmp_path, small())))
    (x,) = declared.inputs
    assert (x.name, x.dtype, x.shape) == ("x", "float32", ("B", 16))
    assert [spec.shape for spec in declared.outputs] == [None]


def test_initializers_among_the_inputs_are_no_inputs() -> None:
    proto = small()
    first = proto.graph.initializer[0]
    proto.graph.input.append(
        helper.make_tensor_value_info(first.name, TensorProto.FLOAT, list(first.dims))
    )
    assert [spec.name for spec in signature(from_proto(proto)).inputs] == ["x"]


def test_a_message_given_by_a_caller_stays_the_callers() -> None:
    """Tensors are shared with the message and take the names of values: never the caller's."""
    proto = small()
    before = proto.SerializeToString()
    model = from_proto(proto)
    for value in list(model.graph.initializers.values()):
        value.name = f"{value.name}.other"
    to_proto(model)
    assert proto.SerializeToString() == before


def test_digest_tells_weights_and_graph_apart() -> None:
    first, same, other = small(), small(), small()
    weight = numpy_helper.to_array(other.graph.initializer[0]).copy()
    weight[0, 0] += 1
    other.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(weight, other.graph.initializer[0].name)
    )
    rewired = small()
    rewired.graph.node[2].op_type = "Tanh"
    digests = [digest(from_proto(p)) for p in (first, same, other, rewired)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


# ---------------------------------------------------------------- external data


def test_external_data_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir(), elsewhere.mkdir()
    path = external(there, small())
    whole = written(elsewhere, small())
    monkeypatch.chdir(elsewhere)
    assert np.array_equal(output(path), output(whole))
    monkeypatch.chdir(there)
    assert np.array_equal(output(Path("model.onnx")), output(whole))


def test_external_data_in_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = external(tmp_path, small(), "data/weights.bin")
    assert output(path).shape == (3, 5)


def test_a_digest_does_not_depend_on_where_weights_are(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = external(tmp_path / "a", small())
    assert digest(load(path)) == digest(load(written(tmp_path, small())))


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "a/../../weights.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = external(inner, small())
    (tmp_path / "weights.bin").write_bytes((inner / "weights.bin").read_bytes())
    edit_external(path, location=location)
    with pytest.raises(InputError, match="lies outside the model's folder"):
        load(path)


def test_external_data_behind_a_link_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = external(inner, small())
    os.replace(inner / "weights.bin", tmp_path / "weights.bin")
    (inner / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(InputError, match="lies outside the model's folder"):
        load(path)


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    path = external(tmp_path, small())
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"weights\.bin of 'w1' is missing"):
        load(path)


@pytest.mark.parametrize("length", [None, ""], ids=["with its length", "without"])
def test_truncated_external_data_is_named(tmp_path: Path, length: str | None) -> None:
    path = external(tmp_path, small())
    if length is not None:
        edit_external(path, length=length)
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"weights\.bin is truncated"):
        load(path)


@pytest.mark.parametrize(
    "entries", [{"offset": "many"}, {"length": "12"}, {"offset": "-4"}], ids=str
)
def test_wrong_places_of_external_data_are_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    path = external(tmp_path, small())
    edit_external(path, **entries)
    with pytest.raises(InputError, match="external data"):
        load(path)


# ---------------------------------------------------------------- files that are none


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        load(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="is not a file"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, world", b"\x89PNG\r\n\x1a\n" + bytes(64), bytes(range(256))]
)
def test_not_an_onnx_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not an ONNX"):
        load(path)


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.1])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    content = small().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError):
        load(path)


@pytest.mark.parametrize("opset", [1, 8])
def test_old_opsets_are_refused(tmp_path: Path, opset: int) -> None:
    with pytest.raises(UnsupportedError, match=f"opset {opset}; mipack reads opset 9"):
        load(written(tmp_path, small(opset)))


def test_the_oldest_opset_is_read(tmp_path: Path) -> None:
    assert load(written(tmp_path, small(9))).graph.opset_imports[""] == 9


def test_sparse_initializers_are_refused(tmp_path: Path) -> None:
    proto = small()
    values = numpy_helper.from_array(np.ones(1, np.float32), "thin")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    with pytest.raises(UnsupportedError, match=r"sparse tensor \(thin\)"):
        load(written(tmp_path, proto))


def test_a_graph_that_is_no_graph(tmp_path: Path) -> None:
    """Two nodes make one value."""
    proto = small()
    proto.graph.node[1].output[0] = proto.graph.node[0].output[0]
    with pytest.raises(InputError):
        load(written(tmp_path, proto))
