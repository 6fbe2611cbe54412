"""Fixtures for every test: where the bundled example and the larger test material are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Threads that spin between small products are slow where tests share the cores (see cli/app.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository: models and data too large to commit."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder 'shared' beside the repository, which is not there")
    return folder


@pytest.fixture(scope="session")
def digits() -> Path:
    """The bundled example: model.onnx, calib.npz, test.npz, labels.npy."""
    return ROOT / "models" / "digits"
