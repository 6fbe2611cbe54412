"""Small models to serve, and the stand-in server on their packages, if it runs here."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

MODELS = {
    # a number per sample: no axis is left behind the batch
    "totals": """<ir_version: 9, opset_import: ["" : 17]>
        totals (float[N, 4] x) => (float[N] total, float[N, 4] y)
        <int64[1] axes = {1}>
        { y = Relu(x)  total = ReduceSum<keepdims = 0>(x, axes) }""",
    # two samples, no more, no fewer
    "fixed": """<ir_version: 9, opset_import: ["" : 17]>
        fixed (float[2, 4] x) => (float[2, 4] y, float[1, 1] sum)
        { y = Relu(x)  sum = ReduceSum(x) }""",
    "words": """<ir_version: 9, opset_import: ["" : 17]>
        words (string[N, 2] text, int64[N, L] ids) => (string[N, 2] same, int64[N, L] next)
        <int64[1] one = {1}>
        { same = Identity(text)  next = Add(ids, one) }""",
    # its first axis is of any size and counts no samples
    "found": """<ir_version: 9, opset_import: ["" : 17]>
        found (float[N, 4] x) => (int64[K, 2] places)
        { signs = Relu(x)  at = NonZero(signs)  places = Transpose(at) }""",
    # a hint of its neighbours is in every answer
    "blurred": """<ir_version: 9, opset_import: ["" : 17]>
        blurred (float[N, 4] x) => (float[N, 4] y)
        <float[1] little = {0.003}>
        { top = ReduceMax(x)  some = Mul(top, little)  y = Add(x, some) }""",
    "mixed": """<ir_version: 9, opset_import: ["" : 17]>
        mixed (float[N, 4] x) => (float[N, 4] y) { y = Softmax<axis = 0>(x) }""",
}


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `NAME.onnx` for every model above and `NAME.npz`, data for it."""
    folder = tmp_path_factory.mktemp("toys")
    rng = np.random.default_rng(0)
    for name, text in MODELS.items():
        onnx.save(onnx.parser.parse_model(text), folder / f"{name}.onnx")
        rows = 2 if name == "fixed" else 6
        np.savez(folder / f"{name}.npz", x=rng.normal(size=(rows, 4)).astype(np.float32))
    text = np.array([["a", "longer"], ["", "ß"], ["x", "y"]])
    np.savez(folder / "words.npz", text=text, ids=np.arange(9).reshape(3, 3))
    return folder


@pytest.fixture(scope="session")
def environment() -> Path:
    """The environment of the stand-in server; where there is none the tests say so aloud."""
    import standin

    try:
        return standin.environment()
    except standin.Unavailable as error:
        warnings.warn(f"NO SERVER TESTED: {error}", stacklevel=1)
        pytest.skip(str(error))
