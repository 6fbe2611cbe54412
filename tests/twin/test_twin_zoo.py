"""The graph as torch functions gives what ONNX Runtime gives, on every float model of the zoo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mipack.graph.canonical import canonical
from mipack.graph.load import load, runnable
from mipack.runtime.session import Session
from mipack.twin.twin import Twin

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"
MODELS = sorted(path.parent.name for path in ZOO.glob("*/model.onnx")) or ["(no zoo)"]
INTEGERS = ("quantizeLinear", "QuantizeLinear", "QLinear", "MatMulNBits", "ArrayFeatureExtractor")
"""Parts of the names of ops without a derivative, or that no gradient passes."""


@pytest.mark.skipif(not ZOO.is_dir(), reason="../shared/zoo is not here")
@pytest.mark.parametrize("name", MODELS)
def test_twin_equals_the_runtime(name: str) -> None:
    model = canonical(load(ZOO / name / "model.onnx"))
    missing = Twin.unsupported(model)
    if missing:
        assert any(any(part in text for part in INTEGERS) for text in missing), missing[:3]
        pytest.skip(f"quantised or without a derivative: {missing[0]}")
    with runnable(model) as source:
        session = Session(source, optimize=False)
    twin, outputs = Twin(model), [value.name or "" for value in model.graph.outputs]
    file = sorted((ZOO / name / "calib").glob("*.npz"))[0]
    with np.load(file, allow_pickle=False) as arrays:
        feeds = dict(arrays)
    want, got = session.run(feeds), twin.run(feeds, outputs)
    for output in outputs:
        if isinstance(want[output], np.ndarray):
            assert distance(got[output].detach().numpy(), want[output]) <= tolerance(model)


def tolerance(model: object) -> float:
    """float32 rounds to 6e-8 an operation, half precision to 5e-4."""
    halves = any(
        value.const_value.dtype.name == "FLOAT16"
        for value in model.graph.initializers.values()  # type: ignore[attr-defined]
    )
    return 5e-3 if halves else 2e-5


def distance(got: np.ndarray, want: np.ndarray) -> float:
    """max |a - b| / max |b| over finite places; infinite where shapes or those differ."""
    if got.shape != want.shape:
        return float("inf")
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)) or not finite.any():
        return 0.0 if np.array_equal(finite, np.isfinite(a)) else float("inf")
    return float(np.abs(a[finite] - b[finite]).max() / max(np.abs(b[finite]).max(), 1e-9))
