"""Judges a pruned model on rows that neither it nor its settings have seen.

ONNX Runtime on the CPU, the same for every method. What is kept of a model are its correct rows,
so that two methods can be compared row by row, its agreement with the original and the divergence.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from counter import count
from quality_tasks import Array, Rows, Task, rows_of

PRODUCTS = ("MatMul", "FusedMatMul", "Attention")


class Judge:
    """One task's rows of one kind, and what the original answers there."""

    def __init__(self, task: Task, judge: str, out: Path) -> None:
        self.task, self.judge, self.out = task, judge, out
        self._rows: Rows | None = None
        self._original: Array | None = None

    @property
    def rows(self) -> Rows:
        """Read when the first model is judged."""
        if self._rows is None:
            self._rows = rows_of(self.task, self.judge)
        return self._rows

    @property
    def original(self) -> Array:
        """The original's logits [N, C]."""
        if self._original is None:
            path = self.out / "reference" / f"{self.task.name}-{self.judge}.npy"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_suffix(".part.npy")
                np.save(part, self.logits(self.task.model, "original"))
                part.replace(path)
            self._original = np.load(path, allow_pickle=False)
        return self._original

    def logits(self, model: Path, who: str) -> Array:
        """A model's logits [N, C]; a read of test data leaves a line in test-reads.log."""
        if self.judge == "test":
            with (self.out / "test-reads.log").open("a") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.task.name} {who}\n")
        return answers(model, self.rows)

    def __call__(self, model: Path, who: str) -> dict[str, Any]:
        """Accuracy, agreement and divergence of a model, and its correct rows."""
        return compared(self.logits(model, who), self.original, self.rows.labels)


def answers(model: Path, rows: Rows) -> Array:
    """Logits [N, C] in the order of the rows."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    found: dict[int, Array] = {}
    for numbers, feeds in rows.batches:
        found.update(zip(numbers, session.run(None, feeds)[0], strict=True))
    return np.stack([found[row] for row in range(len(rows.labels))])


def compared(logits: Array, original: Array, labels: Array) -> dict[str, Any]:
    """What a cell keeps: shares in [0, 1], KL in nats from the original's answers."""
    if not np.isfinite(logits).all():
        raise ValueError("the pruned model answers with numbers that are not finite")
    right, base = logits.argmax(1) == labels, original.argmax(1) == labels
    before, after = log_softmax(original), log_softmax(logits)
    return {
        "rows": len(labels),
        "accuracy": float(right.mean()),
        "base": float(base.mean()),
        "points": 100 * float(right.mean() - base.mean()),
        "agreement": float((logits.argmax(1) == original.argmax(1)).mean()),
        "kl": float((np.exp(before) * (before - after)).sum(1).mean()),
        "right": packed(right),
    }


def log_softmax(logits: Array) -> Array:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def packed(bits: Array) -> str:
    """Booleans [N] as text."""
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def unpacked(text: str, rows: int) -> Array:
    """The inverse of `packed`."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))[:rows].astype(bool)


# ---------------------------------------------------------------- cost


def weight_products(path: Path) -> int:
    """Elements of the two-dimensional weights that products read: their MACs per token."""
    graph = onnx.load(path, load_external_data=False).graph
    sizes = {t.name: t.dims[0] * t.dims[1] for t in graph.initializer if len(t.dims) == 2}
    return sum(sizes.get(n.input[1], 0) for n in graph.node if n.op_type in PRODUCTS)


def all_macs(task: Task, path: Path) -> int:
    """Every multiply-add of one sample, counted from a run."""
    if task.kind == "text":
        ids = np.full((1, task.tokens), 1000, np.int64)
        feeds = {"input_ids": ids, "attention_mask": ids // ids, "token_type_ids": 0 * ids}
    else:
        feeds = {"input": np.zeros((1, 3, 32, 32), np.float32)}
    return count(path, feeds)


class Cost:
    """Shares of the original's cost; the original is counted once."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.full: Mapping[str, int] = self.counts(task.model)

    def counts(self, path: Path) -> dict[str, int]:
        """Weight products (text) and all MACs."""
        found = {"macs": all_macs(self.task, path)}
        if self.task.kind == "text":
            found["products"] = weight_products(path)
        return found

    def shares(self, path: Path) -> dict[str, float]:
        """`share` is what the budget means, `macs` all of them."""
        shares = {name: n / self.full[name] for name, n in self.counts(path).items()}
        return {"share": shares.get("products", shares["macs"]), "macs": shares["macs"]}


def read_json(path: Path) -> dict[str, Any] | None:
    """A record, or None where there is none that is whole."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None
