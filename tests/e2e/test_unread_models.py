"""Leaving out what nobody reads, on real files: MiniLM, and every model of the zoo."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mipack.data.dataset import ReadOptions
from mipack.front import slim
from mipack.prepare import open_model, prepare, read_data
from mipack.verify.slim import slim as left_out

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"
MODELS = sorted(path.parent.name for path in ZOO.glob("*/model.onnx")) or ["(no zoo)"]
READ_IN_PART = (
    "albert_dyn", "albert_ts", "bert_dyn", "bert_external", "bert_op11_dropout", "bert_op13",
    "bert_ort_fused", "bert_ort_mha_fastgelu", "bert_ort_saved", "bert_ts", "clip_dyn", "cvt_ts",
    "deit_ts", "distilbert_ts_op14", "electra_ts_op11", "squeezebert_ts", "vit_dyn", "vit_ts",
)  # fmt: skip
"""Models of which a part of the last layer is read, and numbers that are not rounded."""


def optimised(model: Path, folder: Path) -> Counter[str]:
    """The ops that ONNX Runtime makes of a model."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(folder / "optimised.onnx").graph.node)


def test_the_last_layer_of_a_classifier(shared: Path, tmp_path: Path) -> None:
    """A seventh of the multiply-adds at 128 tokens; ONNX Runtime fuses what it fused before."""
    path = shared / "models/minilm-sst2/model.onnx"
    found = slim(path, sizes={"batch": 2, "sequence": 128})
    assert 0.855 < found.after.macs / found.before.macs < 0.865
    found.save(tmp_path / "slim.onnx")
    before, after = (optimised(m, tmp_path) for m in (path, tmp_path / "slim.onnx"))
    fused = ("LayerNormalization", "BiasGelu", "FusedMatMul", "FusedGemm", "Softmax", "MatMul")
    assert {op: after[op] for op in fused} == {op: before[op] for op in fused}


@pytest.mark.heavy
@pytest.mark.parametrize("name", MODELS)
def test_the_zoo(name: str) -> None:
    """The outputs are the same on all calibration files, and nothing crashes."""
    path = ZOO / name / "model.onnx"
    if not path.exists():
        pytest.skip("needs the folder 'shared' beside the repository, which is not there")
    model = open_model(path)
    data = read_data(path, model, path.parent / "calib", ReadOptions())
    prepared = prepare(path, data)
    files = [dict(np.load(f)) for f in sorted((path.parent / "calib").glob("*.npz"))]
    found = left_out(prepared.model, prepared.feeds, files, probe=prepared.coupling.probe)
    assert not found.problem
    assert found.left or name not in READ_IN_PART
