"""The CUDA path: same statistics as on the CPU. Skips itself where no session gets the provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mipack import prune
from mipack.errors import InputError
from mipack.runtime.session import working_provider


@pytest.mark.gpu
def test_cuda_gives_the_same_plan(digits: Path, tmp_path: Path) -> None:
    try:
        working_provider("cuda")
    except InputError as error:
        pytest.skip(str(error))
    saved = [tmp_path / "cpu.npz", tmp_path / "cuda.npz"]
    plans = [
        prune(
            digits / "model.onnx", digits / "calib.npz", keep=0.5, provider=name, moments=file
        ).plan
        for name, file in zip(("cpu", "cuda"), saved, strict=True)
    ]
    assert [len(g.keep) for g in plans[0].groups] == [len(g.keep) for g in plans[1].groups]
    first, second = (np.load(file, allow_pickle=False) for file in saved)
    for key in first.files:
        if first[key].dtype.kind == "f":
            np.testing.assert_allclose(first[key], second[key], rtol=1e-3, atol=1e-3)


def test_auto_is_the_cpu_where_cuda_cannot_run() -> None:
    assert working_provider("auto") in ("cpu", "cuda")
    assert working_provider("cpu") == "cpu"
