"""Writing model files: whole or not at all, data beside the file where it was."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from test_graph_load import external, output, small, written

import mipack.graph.load as files
from mipack.errors import InputError
from mipack.graph.canonical import canonical
from mipack.graph.load import load, runnable, save, write_text


def test_a_round_trip_keeps_everything(tmp_path: Path) -> None:
    proto = small()
    proto.producer_name, proto.producer_version, proto.domain = "somebody", "1.2", "here"
    proto.ir_version, proto.doc_string, proto.model_version = 8, "words", 3
    proto.graph.doc_string = "a graph"
    proto.graph.node[0].doc_string = "a node"
    helper.set_model_props(proto, {"license": "Apache-2.0"})
    out = tmp_path / "out.onnx"
    assert save(load(written(tmp_path, proto)), out) == (out,)
    again = onnx.load(out)
    for field in ("producer_name", "producer_version", "domain", "ir_version", "doc_string",
                  "model_version", "metadata_props", "opset_import"):  # fmt: skip
        assert getattr(again, field) == getattr(proto, field)
    assert again.graph.name == "law"
    assert again.graph.doc_string == "a graph"
    assert list(again.graph.node) == list(proto.graph.node)
    assert list(again.graph.input) == list(proto.graph.input)
    assert list(again.graph.output) == list(proto.graph.output)
    assert [i.SerializeToString() for i in again.graph.initializer] == [
        i.SerializeToString() for i in proto.graph.initializer
    ]


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    model = load(written(tmp_path, small()))
    for name in ("a", "b"):
        save(model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_old_files_list_initializers_among_inputs(tmp_path: Path) -> None:
    """Canonical form takes them out, saving puts those that are still there back."""
    proto = small(9)
    for tensor in proto.graph.initializer[:2]:
        value = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims))
        proto.graph.input.append(value)
    model = canonical(load(written(tmp_path, proto)))
    assert [v.name for v in model.graph.inputs] == ["x"]
    save(model, tmp_path / "out.onnx")
    again = onnx.load(tmp_path / "out.onnx")
    assert [v.name for v in again.graph.input] == [v.name for v in proto.graph.input]
    assert np.allclose(output(tmp_path / "out.onnx"), output(tmp_path / "model.onnx"))


# ---------------------------------------------------------------- data beside the file


def test_external_data_stays_external(tmp_path: Path) -> None:
    model = load(external(tmp_path, small()))
    out = tmp_path / "sub" / "out.onnx"
    out.parent.mkdir()
    assert save(model, out) == (out.with_name("out.onnx.data"), out)
    listed = onnx.load(out, load_external_data=False).graph.initializer
    assert {e.value for t in listed for e in t.external_data if e.key == "location"} == {
        "out.onnx.data"
    }
    assert np.array_equal(output(out), output(tmp_path / "model.onnx"))


def test_external_data_is_replaced_never_appended_to(tmp_path: Path) -> None:
    model = load(external(tmp_path, small()))
    out = tmp_path / "out.onnx"
    sizes = []
    for _ in range(3):
        save(model, out)
        sizes.append(out.with_name("out.onnx.data").stat().st_size)
    assert len(set(sizes)) == 1
    assert np.array_equal(output(out), output(tmp_path / "model.onnx"))


def test_a_model_is_whole_after_its_data_was_written(tmp_path: Path) -> None:
    """What was saved beside a file is not needed to go on with the model."""
    model = load(external(tmp_path, small()))
    expected = output(tmp_path / "model.onnx")
    for file in save(model, tmp_path / "out.onnx"):
        file.unlink()
    (tmp_path / "weights.bin").unlink()
    save(model, tmp_path / "again.onnx")
    assert np.array_equal(output(tmp_path / "again.onnx"), expected)


def test_canonical_form_remembers_external_data(tmp_path: Path) -> None:
    model = canonical(load(external(tmp_path, small())))
    assert len(save(model, tmp_path / "out.onnx")) == 2


def test_large_weights_go_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(written(tmp_path, small()))
    expected = output(tmp_path / "model.onnx")
    monkeypatch.setattr(files, "EXTERNAL_ABOVE", 1000)
    out = tmp_path / "out.onnx"
    assert len(save(model, out)) == 2
    assert np.array_equal(output(out), expected)


def test_weights_that_fit_no_message_run_from_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, from external data that stays memory-mapped, and nothing is left behind."""
    path = external(tmp_path, small())
    expected = output(path)
    monkeypatch.setattr(files, "EXTERNAL_ABOVE", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = load(path)
    lazy = [v.const_value for v in model.graph.initializers.values()]
    assert any(isinstance(t, ir.ExternalTensor) for t in lazy)
    with runnable(model) as source:
        assert isinstance(source, Path)
    assert np.array_equal(output(path), expected)
    with runnable(canonical(model)) as source:
        assert isinstance(source, Path)
    assert sorted(os.listdir(tmp_path)) == ["model.onnx", "weights.bin"]


def test_a_file_without_external_data_leaves_none(tmp_path: Path) -> None:
    """OUT is overwritten by a model that fits into one file: old data would mislead."""
    out = tmp_path / "out.onnx"
    save(load(external(tmp_path, small())), out)
    plain = load(written(tmp_path, small()))
    assert save(plain, out) == (out,)
    assert not out.with_name("out.onnx.data").exists()


# ---------------------------------------------------------------- whole or not at all


class Failure(Exception):
    pass


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [Failure, OSError(28, "No space left on device")])
def test_a_failure_leaves_the_old_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: type[Exception] | OSError,
) -> None:
    model = load(written(tmp_path, small()))
    out = tmp_path / "out.onnx"
    out.write_bytes(b"the old file")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(files.os, step, fail)
    raised = InputError if isinstance(error, OSError) else Failure
    with pytest.raises(raised) as caught:
        save(model, out)
    assert out.read_bytes() == b"the old file"
    assert sorted(os.listdir(tmp_path)) == ["model.onnx", "out.onnx"]
    if isinstance(error, OSError):
        assert "cannot write" in str(caught.value)
        assert "No space left" in str(caught.value)
        assert caught.value.hint  # type: ignore[attr-defined]


def test_a_failure_while_writing_data_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.onnx"
    model = load(external(tmp_path, small()))
    save(model, out)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.ir, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save(model, out)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    model = load(written(tmp_path, small()))
    with pytest.raises(InputError, match="cannot write"):
        save(model, tmp_path / "absent" / "out.onnx")
    assert not (tmp_path / "absent").exists()


def test_text_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "plan.json"
    write_text(target, "{}\n")
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(InputError, match="cannot write"):
        write_text(target, "[]")
    assert target.read_text() == "{}\n"
    assert os.listdir(tmp_path) == ["plan.json"]
