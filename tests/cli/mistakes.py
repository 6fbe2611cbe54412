"""What the tests of bad input share: a small model to spoil, and what the user sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser
from typer.testing import CliRunner, Result

from mipack.cli.app import app

OLD = b"what was there before"
DENSE = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[batch, 8] x) => (float[batch, 3] y)
{
    h = Gemm(x, w1, b1)
    r = Relu(h)
    y = Gemm(r, w2, b2)
}
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def said(result: Result) -> list[str]:
    """The lines on stderr; a traceback or anything but one error and its hint fails the test."""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ") and len(lines[0]) > len("error: "), lines
    assert len(lines) <= 2 and all(line.startswith("  hint: ") for line in lines[1:]), lines
    assert "Traceback" not in result.output
    return lines


def build(path: Path, text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """A model in ONNX text with these initializers, saved."""
    model = parser.parse_model(text)
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, path)
    return model


def dense(path: Path, **arrays: np.ndarray) -> onnx.ModelProto:
    """Two dense layers with a Relu between them; `arrays` replaces weights."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 16), "b1": (16,), "w2": (16, 3), "b2": (3,)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()} | arrays
    return build(path, DENSE, **weights)


def rows(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path
