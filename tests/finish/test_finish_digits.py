"""The steps on a small CNN: each alone and after fusion, in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper, parser

from mipack import front
from mipack.errors import InputError, VerificationError
from mipack.finish.judge import Judge
from mipack.graph.load import load
from mipack.runtime import workshop
from mipack.runtime.session import Session


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finish")


def test_static_after_fusion_shrinks_and_agrees(digits: Path, folder: Path) -> None:
    model, calib = digits / "model.onnx", digits / "calib.npz"
    found = front.finish(model, ["ort-fused", "int8-static"], calib, bench=True, seconds=0.2)
    first, fused, static = found.stages
    assert [stage.name for stage in found.stages] == ["original", "ort-fused", "int8-static"]
    assert first.agreement == 1.0 and first.kl == pytest.approx(0, abs=1e-9)
    assert "fused 0 of 0 attention" in fused.notes
    assert static.bytes < 0.4 * first.bytes
    assert static.agreement is not None and static.agreement > 0.95
    assert all(stage.ratio is not None and stage.interval is not None for stage in found.stages)
    fusion, precision = found.parts()
    assert (fusion["part"], precision["part"]) == ("fusion", "precision")
    assert static.ratio == pytest.approx(fusion["ratio"] * precision["ratio"])
    (written,) = found.save(folder / "static.onnx")
    ops = {node.op_type for node in onnx.load(written).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= ops
    with pytest.raises(InputError, match="exists"):
        found.save(folder / "static.onnx")
    with pytest.raises(InputError, match="already quantised"):
        front.finish(written, ["fp16"])


def test_half_precision_keeps_the_types_of_inputs_and_outputs(digits: Path, folder: Path) -> None:
    found = front.finish(digits / "model.onnx", ["fp16"], digits / "calib.npz", max_drop=3.0)
    half = found.stages[-1]
    assert half.bytes < 0.6 * found.stages[0].bytes
    (written,) = found.save(folder / "half.onnx")
    proto = onnx.load(written)
    assert {t.data_type for t in proto.graph.initializer} >= {TensorProto.FLOAT16}
    types = [v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)]
    assert set(types) == {TensorProto.FLOAT}
    with pytest.raises(InputError, match="half precision"):
        front.finish(written, ["int8-dynamic"])


def test_dynamic_leaves_convolutions_and_needs_no_data(digits: Path) -> None:
    found = front.finish(digits / "model.onnx", ["int8-dynamic"])
    (dynamic,) = found.stages[1:]
    assert any("convolutions stay in float" in note for note in dynamic.notes)
    assert dynamic.agreement is None and any("no data" in note for note in dynamic.notes)


def test_nothing_to_quantise_is_said(folder: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[batch, 1, 8, 8] x) => (float[batch, 2, 6, 6] y) { y = Conv(x, w) }
    """
    model = parser.parse_model(text)
    weight = np.ones((2, 1, 3, 3), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(model, folder / "conv.onnx")
    with pytest.raises(InputError, match="finds nothing to do"):
        front.finish(folder / "conv.onnx", ["int8-dynamic"])


def test_what_spoils_a_model_is_refused(digits: Path, folder: Path) -> None:
    """A model that answers otherwise loses too much; one with another signature is no finish."""
    batch = next(iter(_batches(digits)))
    original = load(digits / "model.onnx")
    proto = onnx.load(digits / "model.onnx")
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = np.zeros_like(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, folder / "spoiled.onnx")
    judge = Judge(original, [batch], real=True, mask=None, provider="cpu", most=5.0)
    assert judge.first().agreement == 1.0
    with pytest.raises(VerificationError, match="max-drop"):
        judge.stage("step", "precision", load(folder / "spoiled.onnx"), ())
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(proto, folder / "other.onnx")
    with pytest.raises(VerificationError, match="became"):
        judge.stage("step", "precision", load(folder / "other.onnx"), ())
    strict = Judge(original, [batch], real=True, mask=None, provider="cpu", most=0.01)
    with pytest.raises(InputError, match="too small to tell"):
        strict.first()


def _batches(digits: Path) -> list[object]:
    from mipack.data.dataset import ReadOptions
    from mipack.prepare import open_model, read_data

    path = digits / "model.onnx"
    data = read_data(path, open_model(path), digits / "calib.npz", ReadOptions())
    return list(data.batches(64))


def test_a_package_that_is_missing_is_named_with_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def child(module: str, name: str, **_: object) -> object:
        (Path(name) / workshop.ANSWER).write_text('{"missing": "sympy"}')
        return None

    monkeypatch.setattr(workshop, "run_child", child)
    with pytest.raises(InputError, match="sympy") as caught:
        workshop.work("fp16", folder / "a.onnx", folder / "b.onnx", {})
    assert "mipack[finish]" in caught.value.hint


def test_saturation_is_found_by_trying() -> None:
    """The rule and the plain definition agree about this very machine."""
    from mipack.runtime.precision import saturates

    graph = parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        agraph (uint8[1, 64] a, int8[64, 1] b) => (int32[1, 1] c) { c = MatMulInteger(a, b) }
        """
    )
    feeds = {"a": np.full((1, 64), 255, np.uint8), "b": np.full((64, 1), 63, np.int8)}
    (product,) = Session(graph.SerializeToString()).run(feeds).values()
    assert product == 255 * 63 * 64  # seven bits are exact everywhere
    assert isinstance(saturates(), bool)
