"""onnxsim's structured pruning, as it is, on the ONNX model.

Text: after ORT's fusion, Wanda for FFN and heads, then its refit (`heads`: share of heads cut; FFN
follows from the budget). Image: `wanda` or plain norms, `global` or the same sparsity everywhere,
`refit` or not, at the sparsity whose MACs fit, found by bisection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxsim
from job import Job, image_batches, main, neurons_cut, text_batches


def text(job: Job) -> Mapping[str, Any]:
    """The call of shared peers.md 3."""
    from onnxruntime.transformers.optimizer import optimize_model

    calib = [feeds for feeds, _ in text_batches(job, by_length=True)]
    heads = job.settings["heads"]
    cut = neurons_cut(job.budget, heads)

    def base() -> onnx.ModelProto:
        return optimize_model(
            str(job.model), model_type="bert", num_heads=12, hidden_size=384, opt_level=0
        ).model

    pruned = onnxsim.apply_structured_wanda_pruning(base(), calibration_data=calib, sparsity=cut)
    pruned = onnxsim.apply_attention_head_wanda_pruning(
        pruned, calibration_data=calib, sparsity=heads
    )
    if job.settings.get("refit", True):
        pruned = onnxsim.apply_pruning_finetune(base(), pruned, calibration_data=calib)
    onnx.save(pruned, job.out)
    return {"neurons_cut": cut}


def image(job: Job) -> Mapping[str, Any]:
    """One variant at the sparsity that leaves the budget's MACs."""
    calib = [feeds for feeds, _ in image_batches(job)]
    full = macs(onnx.load(job.model))
    low, high = 0.0, 1.0
    for _ in range(9):
        sparsity = (low + high) / 2
        pruned = cut_channels(job, calib, sparsity)
        share = macs(pruned) / full
        if abs(share - job.budget) < 0.002:
            break
        low, high = (sparsity, high) if share > job.budget else (low, sparsity)
    if job.settings.get("refit", False):
        pruned = onnxsim.apply_pruning_finetune(
            onnx.load(job.model), pruned, calibration_data=calib
        )
    onnx.save(pruned, job.out)
    return {"sparsity": sparsity, "share": share}


def cut_channels(job: Job, calib: list[dict[str, Any]], sparsity: float) -> onnx.ModelProto:
    """The pruned model of one call."""
    every = job.settings.get("global", False)
    model = onnx.load(job.model)
    if job.settings.get("wanda", False):
        return onnxsim.apply_structured_wanda_pruning(
            model, calibration_data=calib, sparsity=sparsity, global_sparsity=every
        )
    return onnxsim.apply_structured_pruning(model, sparsity=sparsity, global_sparsity=every)


def macs(model: onnx.ModelProto) -> int:
    """Multiply-adds of the convolutions for a 32 x 32 picture: the side halves at stride 2."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    side, total = 32, 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            side //= next(a.ints[0] for a in node.attribute if a.name == "strides")
            total += int(np.prod(shapes[node.input[1]])) * side * side
    return total


if __name__ == "__main__":
    main(lambda job: text(job) if job.kind == "text" else image(job))
