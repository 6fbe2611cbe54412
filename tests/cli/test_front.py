"""The functions behind the commands, as a Python user calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mipack.front as front
from mipack.errors import InputError


@pytest.mark.parametrize("name", front.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert callable(getattr(front, name))


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prune'"):
        _ = front.prune


def test_inspect_returns_a_record(digits: Path) -> None:
    found = front.inspect(digits / "model.onnx")
    names = [row.name for row in found.free]
    assert names == ["/stem:out", "/widen:out", "/block/conv1:out", "/hidden1:out", "/hidden2:out"]
    assert found.sizes.keys() == {"batch"}
    assert not found.unknown_ops


def test_evaluate_takes_feeds_in_memory(digits: Path) -> None:
    with np.load(digits / "test.npz") as data:
        feeds = [{"image": data["image"][at : at + 8]} for at in range(0, 24, 8)]
    model = digits / "model.onnx"
    found = front.evaluate(model, model, feeds)
    assert (found.samples, found.agreement, found.score) == (24, 1.0, None)


def test_bench_needs_a_model() -> None:
    with pytest.raises(InputError, match="needs a model"):
        front.bench([])
