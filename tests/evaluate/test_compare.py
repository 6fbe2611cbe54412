"""Two real sessions over batches: scores, padding, headline output, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mipack.errors import InputError
from mipack.evaluate.compare import Evaluation, evaluate

Array = np.ndarray[Any, np.dtype[Any]]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@dataclass(frozen=True)
class Data:
    """What `evaluate` asks of a batch."""

    feeds: dict[str, Array]
    samples: int
    labels: Array | None = None


def serialize(nodes: list[Any], inputs: list[Any], outputs: list[Any], **arrays: Array) -> bytes:
    stored = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        stored,
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def linear(weight: Array, *, output: str = "y") -> bytes:
    """y = x @ weight."""
    node = helper.make_node("MatMul", ["x", "w"], [output])
    rank = [None] * weight.ndim
    return serialize([node], [("x", FLOAT, rank)], [(output, FLOAT, rank)], w=weight)


def labelled_and_scores(weight: Array) -> bytes:
    """The outputs of a classifier as scikit-learn exports it: label [n] int64, scores [n, c]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [("label", INT64, [None]), ("scores", FLOAT, [None, None])]
    return serialize(nodes, [("x", FLOAT, [None, None])], outputs, w=weight)


def with_total() -> bytes:
    """Outputs y = x and total = sum of all x, which has no samples."""
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
    ]
    outputs = [("y", FLOAT, [None, None]), ("total", FLOAT, [])]
    return serialize(nodes, [("x", FLOAT, [None, None])], outputs)


EYE = np.eye(3, dtype=np.float32)
SWAP = EYE[[1, 0, 2]]
"""Exchanges classes 0 and 1."""


def one_hot(labels: list[int]) -> Array:
    return EYE[labels]


def batches(labels: list[int], size: int = 2, *, pad: bool = False) -> Iterator[Data]:
    """The right answers one-hot; with `pad` the last batch is filled up with junk rows."""
    for start in range(0, len(labels), size):
        part = labels[start : start + size]
        x = one_hot(part)
        if pad:
            x = np.concatenate([x, np.full((size - len(part), 3), 7.0, np.float32)])
        yield Data({"x": x}, len(part), np.array(part))


def compare(first: bytes | Path, second: bytes | Path, data: Any, **options: Any) -> Evaluation:
    return evaluate([("big", first), ("small", second)], data, **options)


def test_accuracy_difference_flips_and_classes() -> None:
    found = compare(linear(EYE), linear(SWAP), batches([0, 1, 2, 2, 0]))
    score = found.score
    assert score is not None
    assert (score.metric, score.first, score.second) == ("accuracy", 1.0, 0.4)
    assert score.difference == pytest.approx(-60.0)
    assert score.interval is not None
    assert -100 <= score.interval[0] < -60 < score.interval[1]
    assert (score.lost, score.gained, score.unit) == (3, 0, "points")
    assert [(c.label, c.samples, c.first, c.second) for c in score.classes] == [
        (0, 2, 1.0, 0.0),
        (1, 1, 1.0, 0.0),
        (2, 2, 1.0, 1.0),
    ]
    assert (found.samples, found.agreement, found.flips) == (5, 0.4, 3)
    assert found.kl is not None
    assert found.kl > 0


def test_padding_rows_count_for_nothing() -> None:
    plain = compare(linear(EYE), linear(SWAP), batches([0, 1, 2, 2, 0]))
    padded = compare(linear(EYE), linear(SWAP), batches([0, 1, 2, 2, 0], pad=True))
    assert padded == plain


def test_a_model_equals_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear(EYE))
    found = compare(path, linear(EYE), batches([0, 1, 2, 2]))
    assert found.score is not None
    assert found.score.interval is not None
    assert found.score.difference == 0.0
    assert found.score.interval[0] < 0 < found.score.interval[1]
    assert (found.agreement, found.flips, found.kl) == (1.0, 0, 0.0)
    assert found.cosine == pytest.approx(1.0)


def test_without_labels_there_is_fidelity_only() -> None:
    data = [Data({"x": one_hot([0, 1])}, 2)]
    found = compare(linear(EYE), linear(SWAP), data)
    assert found.score is None
    assert found.agreement == 0.0


def test_result_is_plain_json() -> None:
    nan = np.full((3, 3), np.nan, np.float32)
    for second in (SWAP, nan):
        found = compare(linear(EYE), linear(second), batches([0, 1]))
        plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert plain["names"] == ["big", "small"]
        assert plain["score"]["classes"][0]["label"] == 0
        assert plain["fidelity"][0]["output"] == "y"


def test_headline_is_the_output_that_the_metric_reads() -> None:
    first, second = labelled_and_scores(EYE), labelled_and_scores(SWAP)
    found = compare(first, second, batches([0, 1, 2]))
    assert found.score is not None
    assert found.score.output == "scores"
    assert [entry.output for entry in found.fidelity] == ["scores", "label"]
    assert found.fidelity[1].agreement == pytest.approx(1 / 3)
    chosen = compare(first, second, [Data({"x": one_hot([0])}, 1)], output="label")
    assert chosen.fidelity[0].output == "label"


def test_an_output_without_samples_is_compared_as_one() -> None:
    found = compare(with_total(), with_total(), [Data({"x": one_hot([0, 1, 2])}, 2)])
    total = {entry.output: entry for entry in found.fidelity}["total"]
    assert (total.relative_l2, total.agreement) == (0.0, None)


def test_row_mask_leaves_out_padding_tokens() -> None:
    x = np.stack([one_hot([0, 2, 2]), one_hot([2, 2, 1])])  # [2, 3 tokens, 3 classes]
    mask = np.array([[0, 1, 1], [1, 1, 0]])
    data = [Data({"x": x, "mask": mask}, 2, np.array([[0, 2, 2], [2, 2, 1]]))]
    first, second = tokens(EYE), tokens(SWAP)
    found = compare(first, second, data, mask="mask", metric="token-accuracy")
    assert (found.agreement, found.fidelity[0].rows) == (1.0, 4)
    assert found.score is not None
    assert (found.score.first, found.score.second, found.score.lost) == (1.0, 1.0, None)
    assert compare(first, second, data, metric="token-accuracy").agreement == pytest.approx(4 / 6)


def tokens(weight: Array) -> bytes:
    """y = x @ weight for x [n, t, 3]."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    shape = [None, None, None]
    return serialize([node], [("x", FLOAT, shape)], [("y", FLOAT, shape)], w=weight)


def test_regression_is_told_in_its_own_unit() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    found = compare(linear(EYE), linear(EYE + 0.5), [Data({"x": x}, 40, x)], metric="mse")
    assert found.score is not None
    assert (found.score.unit, found.score.first, found.score.classes) == ("mse", 0.0, ())
    assert found.score.difference == pytest.approx(np.mean((0.5 * x.sum(axis=1)) ** 2), rel=1e-5)
    assert found.score.interval is not None
    assert 0 < found.score.interval[0] < found.score.difference < found.score.interval[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metric": "nonsense"}, "no metric 'nonsense'"),
        ({"output": "z"}, "no output 'z'"),
        ({"mask": "attention_mask"}, "no input 'attention_mask'"),
        ({"metric": "token-accuracy"}, "token-accuracy of big, output 'y'"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        compare(linear(EYE), linear(EYE), batches([0, 1]), **options)
    assert caught.value.hint


def test_models_that_do_not_compare() -> None:
    wide = np.ones((3, 4), np.float32)
    with pytest.raises(InputError, match=r"big gives float32 \[2, 3\] as 'y'.*\[2, 4\]"):
        compare(linear(EYE), linear(wide), batches([0, 1]))
    with pytest.raises(InputError, match="outputs y, small has z"):
        compare(linear(EYE), linear(EYE, output="z"), batches([0, 1]))
    with pytest.raises(InputError, match="small: ONNX Runtime refused"):
        compare(linear(EYE), linear(np.ones((5, 3), np.float32)), batches([0, 1]))


def test_no_data_and_labels_that_run_out() -> None:
    with pytest.raises(InputError, match="no data"):
        compare(linear(EYE), linear(EYE), [])
    data = [*batches([0, 1]), Data({"x": one_hot([0, 1])}, 2)]
    with pytest.raises(InputError, match="0 labels for a batch of 2"):
        compare(linear(EYE), linear(EYE), data)


def test_labels_out_of_range_name_the_model_and_the_output() -> None:
    data = [Data({"x": one_hot([0, 1])}, 2, np.array([0, 5]))]
    with pytest.raises(InputError, match=r"accuracy of big, output 'y': label 5 is out of range"):
        compare(linear(EYE), linear(EYE), data)
