"""Whatever a model or data comes as in Python, the result is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnx_ir as ir
import pytest
from toys import mlp

import mipack
from mipack.errors import InputError
from mipack.front import evaluate, slim
from mipack.graph.surgeon import from_surgeon, is_surgeon

TOY = mlp(6, 12, 10, 3)
FAST: dict[str, Any] = {"keep": 0.5, "criterion": "magnitude", "allocate": "uniform"}


def saved(folder: Path) -> Path:
    onnx.save(TOY.proto, folder / "toy.onnx")
    return folder / "toy.onnx"


def weights(result: mipack.PruneResult) -> dict[str, np.ndarray]:
    assert result.model is not None
    listed = result.model.graph.initializers.values()
    return {str(v.name): v.const_value.numpy() for v in listed if v.const_value is not None}


FORMS: list[tuple[str, Callable[[Path], Any]]] = [
    ("text", str),
    ("path", lambda path: path),
    ("message", onnx.load),
    ("onnx-ir", ir.load),
    ("graphsurgeon", lambda path: gs.import_onnx(onnx.load(path))),
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_every_form_of_a_model_gives_the_same(
    name: str, form: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = saved(tmp_path)
    expected = weights(mipack.prune(path, TOY.feeds, **FAST))
    result = mipack.prune(form(path), TOY.feeds, **FAST)
    found = weights(result)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    groups = [group.name for group in mipack.inspect(form(path)).groups]
    assert groups == [group.name for group in mipack.inspect(path).groups]
    same = evaluate(form(path), path, TOY.feeds)
    assert same.fidelity[0].cosine == pytest.approx(1.0)
    assert slim(form(path)).check.passed


def test_a_graph_is_left_as_it_is_and_need_not_be_sorted(tmp_path: Path) -> None:
    graph = gs.import_onnx(TOY.proto)
    graph.nodes.reverse()
    before = [node.name for node in graph.nodes]
    assert weights(mipack.prune(graph, TOY.feeds, **FAST))
    assert [node.name for node in graph.nodes] == before


def test_a_message_is_left_as_it_is() -> None:
    before = TOY.proto.SerializeToString(deterministic=True)
    mipack.prune(TOY.proto, TOY.feeds, **FAST)
    assert TOY.proto.SerializeToString(deterministic=True) == before


def test_overloads_that_graphsurgeon_lost_are_refused() -> None:
    graph = gs.import_onnx(TOY.proto)
    graph.functions = [gs.Function("twice", domain="d"), gs.Function("twice", domain="d")]
    with pytest.raises(InputError, match=r"several functions 'twice'.*overloads"):
        mipack.prune(graph, TOY.feeds, **FAST)


def test_a_graph_that_cannot_be_exported_is_said() -> None:
    graph = gs.import_onnx(TOY.proto)
    graph.inputs[0].dtype = None
    with pytest.raises(InputError, match="cannot be exported"):
        from_surgeon(graph)
    assert is_surgeon(graph) and not is_surgeon(TOY.proto)


@pytest.mark.parametrize("model", [None, 5, {"nodes": []}, b"bytes", np.zeros(3)])
def test_what_is_no_model_is_said(model: Any) -> None:
    with pytest.raises(InputError, match="is no model") as caught:
        mipack.prune(model, TOY.feeds, **FAST)
    assert "ModelProto" in caught.value.hint


def test_weights_in_a_file_that_is_not_known_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never read from wherever the process happens to be."""
    path, proto = tmp_path / "toy.onnx", onnx.ModelProto()
    proto.CopyFrom(TOY.proto)  # saving would leave it without its weights
    onnx.save(proto, path, save_as_external_data=True, size_threshold=0, location="w.bin")
    bare = onnx.load(path, load_external_data=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="keeps weights in a file"):
        mipack.prune(bare, TOY.feeds, **FAST)


# ---------------------------------------------------------------- feeds


def test_feeds_are_any_iterable() -> None:
    def stream() -> Iterator[dict[str, np.ndarray]]:
        yield from TOY.feeds

    expected = weights(mipack.prune(TOY.proto, list(TOY.feeds), **FAST))
    for feeds in (stream(), tuple(TOY.feeds), iter(TOY.feeds)):
        found = weights(mipack.prune(TOY.proto, feeds, **FAST))
        assert all(np.array_equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({"x": np.zeros((4, 6), np.float32)}, "one feed"),
        (5, "a int"),
        ([np.zeros((4, 6))], "feed 0 is a ndarray"),
        (["calib.npz"], "feed 0 is a str"),
        ([], "no feeds are given"),
    ],
)
def test_what_is_no_feeds_is_said(feeds: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        mipack.prune(TOY.proto, feeds, **FAST)
    assert "array" in caught.value.hint
