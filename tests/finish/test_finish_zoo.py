"""Fusion and quantisation of an attention model whose heads were cut to different sizes."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from mipack import front
from mipack.pipeline import prune


def cut(folder: Path, **options: object) -> object:
    fast = {"keep": 0.5, "criterion": "magnitude", "refit": False}
    return prune(folder / "model.onnx", folder / "calib", **fast, **options).model


def test_pruned_attention_is_fused_quantised_and_judged(shared: Path) -> None:
    folder = shared / "zoo" / "bert_ts"
    model, calib = folder / "model.onnx", folder / "calib"
    small, steps = cut(folder, keep_unread=True), ["ort-fused", "int8-dynamic"]
    assert isinstance(small, ir.Model)
    found = front.finish(small, steps, calib, original=model)
    assert [s.name for s in found.stages] == ["original", "pruned", *steps]
    _, pruned, fused, whole = found.stages
    assert "fused 2 of 2 attention" in fused.notes
    assert any("keep the scale of the original" in note for note in fused.notes)
    assert not any("outputs change" in note for note in fused.notes)
    assert fused.kl is not None and pruned.kl is not None
    assert abs(fused.kl - pruned.kl) < 1e-4  # the same function in other ops
    assert whole.bytes < pruned.bytes
    assert [part["part"] for part in found.parts()] == ["pruning", "fusion", "precision"]


def test_attention_that_is_not_fused_has_its_reason(shared: Path) -> None:
    """Of the last layer only the first position is computed: no fused op has such a q."""
    folder = shared / "zoo" / "bert_ts"
    small = cut(folder)
    assert isinstance(small, ir.Model)
    fused = front.finish(small, ["ort-fused"], folder / "calib").stages[-1]
    assert "fused 1 of 2 attention" in fused.notes
    assert any("q is made from other positions than k" in note for note in fused.notes)
