"""E g g' of a Hugging Face classifier's linear layers, by autograd in float64:

    python fisher.py CHECKPOINT FOLDER

FOLDER holds what exact_signal.py writes; prints {layer: relative difference} on the last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification


def main(checkpoint: Path, folder: Path) -> None:
    """Differences of all layers."""
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval().double()
    given = np.load(folder / "fisher.npz", allow_pickle=False)
    layers = {name: layer_of(model, name) for name in given.files}
    outputs: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(
            lambda _, __, y, name=name: outputs.__setitem__(name, y)  # type: ignore[misc]
        )
    rows = json.loads((folder / "rows.json").read_text())
    total: dict[str, Any] = dict.fromkeys(layers, 0.0)
    for ids in rows:
        x = torch.tensor([ids])
        logs = model(input_ids=x, attention_mask=torch.ones_like(x)).logits.log_softmax(-1)[0]
        for log in logs:
            found = torch.autograd.grad(log, [outputs[n] for n in layers], retain_graph=True)
            for name, gradient in zip(layers, found, strict=True):
                g = gradient.reshape(-1, gradient.shape[-1])
                total[name] = total[name] + float(log.exp()) * (g.T @ g).numpy()
    print(json.dumps({n: different(given[n], total[n] / len(rows)) for n in layers}))


def layer_of(model: torch.nn.Module, name: str) -> torch.nn.Module:
    """The layer whose path ends a node's name."""
    path = name.replace("|", ".").strip(".").rpartition(".")[0]
    ends = [path.split(".", k)[-1] for k in range(path.count(".") + 1)]
    modules = dict(model.named_modules())
    return modules[next(end for end in ends if end in modules)]


def different(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    """max |a - b| / max |b|."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
