"""Fusion and quantisation of an attention model whose heads were cut to different sizes."""

from __future__ import annotations

from pathlib import Path

import mipack
from mipack import front
from mipack.pipeline import prune


def test_pruned_attention_is_fused_quantised_and_judged(shared: Path) -> None:
    folder = shared / "zoo" / "bert_ts"
    model, calib = folder / "model.onnx", folder / "calib"
    small = prune(model, calib, keep=0.5, criterion="magnitude", refit=False).model
    assert small is not None
    read = mipack.ReadOptions()
    found = front.finish(small, ["ort-fused", "int8-dynamic"], calib, original=model, read=read)
    assert [s.name for s in found.stages] == ["original", "pruned", "ort-fused", "int8-dynamic"]
    _, pruned, fused, whole = found.stages
    assert "fused 2 of 2 attention" in fused.notes
    assert any("keep the scale of the original" in note for note in fused.notes)
    assert fused.kl is not None and pruned.kl is not None
    assert abs(fused.kl - pruned.kl) < 1e-4  # the same function in other ops
    assert whole.bytes < pruned.bytes
    assert {part["part"] for part in found.parts()} == {"pruning", "fusion", "precision"}
