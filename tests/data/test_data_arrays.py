"""Readers of .npz, .npy and .pb, and every way their content can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mipack.data.dataset import Dataset, ReadOptions
from mipack.data.open import from_feeds, open_dataset
from mipack.errors import InputError
from mipack.records import Signature

ALL = ReadOptions(samples=None)
GOOD = np.arange(12, dtype=np.float32).reshape(4, 3)


def read(dataset: Dataset) -> np.ndarray:
    return np.concatenate([batch.feeds["x"] for batch in dataset.batches()])


def refused(path: Path, signature: Signature, options: ReadOptions = ALL) -> str:
    """The message and hint with which reading everything fails."""
    with pytest.raises(InputError) as caught:
        list(open_dataset(path, signature, options).batches())
    assert "\n" not in str(caught.value)
    return f"{caught.value} | {caught.value.hint}"


def test_a_folder_of_npz_is_read_in_order_of_names(tmp_path: Path, one_input: Signature) -> None:
    np.savez(tmp_path / "b.npz", x=GOOD + 100)
    np.savez_compressed(tmp_path / "a.npz", x=GOOD)
    dataset = open_dataset(tmp_path, one_input, ALL)
    assert dataset.samples == 8
    np.testing.assert_array_equal(read(dataset), np.concatenate([GOOD, GOOD + 100]))
    assert "array files: 2 read as 8 rows" in dataset.description


def test_the_only_array_feeds_the_only_input_whatever_its_name(
    tmp_path: Path, one_input: Signature
) -> None:
    np.savez(tmp_path / "a.npz", features=GOOD)
    np.save(tmp_path / "b.npy", GOOD)
    for name in ("a.npz", "b.npy"):
        np.testing.assert_array_equal(read(open_dataset(tmp_path / name, one_input, ALL)), GOOD)


def test_input_option_names_the_array(tmp_path: Path, one_input: Signature) -> None:
    np.savez(tmp_path / "a.npz", x=GOOD, other=GOOD + 1)
    options = ReadOptions(samples=None, inputs={"x": "other"})
    dataset = open_dataset(tmp_path / "a.npz", one_input, options)
    np.testing.assert_array_equal(read(dataset), GOOD + 1)
    assert dataset.digest != open_dataset(tmp_path / "a.npz", one_input, ALL).digest


@pytest.mark.parametrize(
    ("given", "declared"),
    [("float64", "float32"), ("float32", "float16"), ("int32", "int64"), ("bool", "int64"),
     ("int64", "int32"), ("int64", "bool"), ("float32", "bfloat16"), ("bool", "float32")],
)  # fmt: skip
def test_types_that_keep_their_meaning_are_converted(
    signature: Callable[..., Signature], given: str, declared: str
) -> None:
    array = np.array([[1, 0, 1]]).astype(given)
    dataset = from_feeds([{"x": array}], signature(("x", declared, ("n", 3))), ALL)
    assert read(dataset).dtype.name == declared
    assert read(dataset).astype(int).tolist() == [[1, 0, 1]]
    assert f"converted from {given}" in dataset.description[1]


def test_bfloat16_survives_a_file_that_forgets_its_name(
    tmp_path: Path, signature: Callable[..., Signature]
) -> None:
    np.savez(tmp_path / "a.npz", x=GOOD.astype(ml_dtypes.bfloat16))
    dataset = open_dataset(tmp_path / "a.npz", signature(("x", "bfloat16", (None, 3))), ALL)
    np.testing.assert_array_equal(read(dataset).astype(np.float32), GOOD)


def test_strings_are_fed_as_they_are(signature: Callable[..., Signature]) -> None:
    dataset = from_feeds([{"x": np.array([["a", "bc"]])}], signature(("x", "str", ("n", 2))), ALL)
    assert read(dataset).tolist() == [["a", "bc"]]


@pytest.mark.parametrize(
    ("array", "declared", "words"),
    [
        (np.zeros((4, 3, 1), np.float32), "float32", "array 'x' has rank 3 [4, 3, 1], but"),
        (np.zeros((4, 5), np.float32), "float32", "size 5 on axis 1, but the model's input 'x'"),
        (np.zeros((4, 3), np.int64), "float32", "array 'x' is int64, but the model's input 'x' is"),
        (np.zeros((4, 3), np.float32), "int64", "save it as int64"),
        (np.zeros((4, 3), np.complex64), "float32", "complex64"),
        (np.full((4, 3), np.nan, np.float32), "float32", "array 'x' holds NaN"),
        (np.full((4, 3), np.inf), "float32", "array 'x' holds NaN or infinite"),
        (np.full((4, 3), 1e30), "float16", "array 'x' holds NaN or infinite"),
        (np.full((4, 3), 2**40), "int32", "values that int32 cannot hold"),
        (np.full((4, 3), 2), "bool", "values that bool cannot hold"),
        (np.full((4, 3), {}, object), "float32", "pickles are never loaded"),
        (np.zeros((0, 3), np.float32), "float32", "no samples in it"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    tmp_path: Path,
    signature: Callable[..., Signature],
    array: np.ndarray,
    declared: str,
    words: str,
) -> None:
    np.savez(tmp_path / "bad.npz", x=array)
    message = refused(tmp_path / "bad.npz", signature(("x", declared, ("batch", 3))))
    assert words in message
    assert "bad.npz" in message


def test_nan_may_mean_missing_but_infinity_never_does(tmp_path: Path, one_input: Signature) -> None:
    options = ReadOptions(samples=None, allow_nan=True)
    np.savez(tmp_path / "a.npz", x=np.full((1, 3), np.nan, np.float32))
    assert np.isnan(read(open_dataset(tmp_path / "a.npz", one_input, options))).all()
    np.savez(tmp_path / "b.npz", x=np.full((1, 3), np.inf, np.float32))
    assert "holds infinite values" in refused(tmp_path / "b.npz", one_input, options)


def test_a_missing_array_names_it_and_what_is_there(
    tmp_path: Path, signature: Callable[..., Signature]
) -> None:
    two = signature(("x", "float32", ("n", 3)), ("z", "float32", ("n", 3)))
    np.savez(tmp_path / "a.npz", x=GOOD, y=GOOD)
    message = refused(tmp_path / "a.npz", two)
    assert "no array 'z' for the model's input 'z'" in message
    assert "it holds x, y" in message
    assert "--input z=FIELD" in message
    np.save(tmp_path / "b.npy", GOOD)
    assert "the model has 2" in refused(tmp_path / "b.npy", two)


def test_unequal_lengths_of_one_axis_are_refused(
    tmp_path: Path, signature: Callable[..., Signature]
) -> None:
    two = signature(("x", "float32", ("n", 3)), ("z", "float32", ("n", 3)))
    np.savez(tmp_path / "a.npz", x=GOOD, z=GOOD[:2])
    assert "'x' has 4 samples, for 'z' 2" in refused(tmp_path / "a.npz", two)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY\x01\x00", b"text"])
@pytest.mark.parametrize("name", ["a.npz", "a.npy", "input_0.pb"])
def test_damaged_files_are_named(
    tmp_path: Path, one_input: Signature, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert name in refused(tmp_path / name, one_input)


def test_truncated_files_are_named(tmp_path: Path, one_input: Signature) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((500, 3), np.float32))
    np.save(tmp_path / "a.npy", np.zeros((500, 3), np.float32))
    for name in ("a.npz", "a.npy"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert f"{name}: the file cannot be read" in refused(tmp_path / name, one_input)


def test_a_pickle_is_not_loaded_even_under_the_name_of_an_array(
    tmp_path: Path, one_input: Signature
) -> None:
    np.save(tmp_path / "a.npy", np.array([[print]], object), allow_pickle=True)
    assert "pickles are never loaded" in refused(tmp_path / "a.npy", one_input)


def test_labels_from_a_file_follow_the_subset(tmp_path: Path, one_input: Signature) -> None:
    np.savez(tmp_path / "a.npz", x=np.repeat(np.arange(9.0)[:, None], 3, axis=1))
    np.save(tmp_path / "y.npy", np.arange(9, dtype=np.int32))
    options = ReadOptions(samples=4, labels=tmp_path / "y.npy")
    dataset = open_dataset(tmp_path, one_input, options)  # y.npy is not taken for data
    assert dataset.labels is not None and dataset.labels.tolist() == read(dataset)[:, 0].tolist()
    for batch in dataset.batches(3):
        assert batch.labels is not None and len(batch.labels) == batch.samples
        assert batch.labels.tolist() == batch.feeds["x"][:, 0].tolist()


def test_labels_from_an_array_beside_the_inputs(tmp_path: Path, one_input: Signature) -> None:
    np.savez(tmp_path / "a.npz", x=GOOD, y=np.array([3, 1, 2, 0]))
    dataset = open_dataset(tmp_path, one_input, ReadOptions(label_column="y"))
    assert dataset.labels is not None and dataset.labels.tolist() == [3, 1, 2, 0]
    assert "no array 'z'" in refused(tmp_path, one_input, ReadOptions(label_column="z"))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(3), "3 labels for 4 samples"),
        (np.arange(4.0), "labels are float64 of shape [4]"),
        (np.zeros((4, 1), int), "shape [4, 1]"),
        (np.full(4, None), "not a readable"),
    ],
)
def test_labels_that_are_none_are_refused(
    tmp_path: Path, one_input: Signature, labels: np.ndarray, words: str
) -> None:
    np.savez(tmp_path / "a.npz", x=GOOD)
    np.save(tmp_path / "y.npy", labels, allow_pickle=True)
    options = ReadOptions(labels=tmp_path / "y.npy")
    assert words in refused(tmp_path / "a.npz", one_input, options)


def test_the_mask_is_found_named_or_switched_off(
    bert: Signature, signature: Callable[..., Signature]
) -> None:
    feed = {spec.name: np.ones((2, 4), np.int64) for spec in bert.inputs}
    assert from_feeds([feed], bert, ALL).mask == "attention_mask"
    named = ReadOptions(mask="token_type_ids")
    assert from_feeds([feed], bert, named).mask == "token_type_ids"
    assert from_feeds([feed], bert, ReadOptions(mask="none")).mask is None
    plain = signature(("x", "int64", ("n", 4)))
    assert from_feeds([{"x": feed["input_ids"]}], plain, ALL).mask is None


@pytest.mark.parametrize("options", [ReadOptions(mask="m"), ReadOptions(inputs={"m": "x"})])
def test_options_about_unknown_inputs_are_refused(
    one_input: Signature, options: ReadOptions
) -> None:
    with pytest.raises(InputError, match="m: the model has no such input") as caught:
        from_feeds([{"x": GOOD}], one_input, options)
    assert caught.value.hint == "its inputs are x"


def save_pb(path: Path, array: np.ndarray) -> None:
    from onnx import numpy_helper

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(numpy_helper.from_array(array).SerializeToString())


def test_onnx_test_data_is_read_by_number(
    tmp_path: Path, signature: Callable[..., Signature]
) -> None:
    two = signature(("x", "float32", ("n", 3)), ("z", "int64", ("n",)))
    for at in (0, 2, 10):
        folder = tmp_path / f"test_data_set_{at}"
        save_pb(folder / "input_0.pb", GOOD + at)
        save_pb(folder / "input_1.pb", np.full(4, at))
        save_pb(folder / "output_0.pb", np.zeros(4))
    (tmp_path / "model.onnx").write_bytes(b"")
    dataset = open_dataset(tmp_path, two, ALL)
    (batch,) = dataset.batches()
    assert batch.feeds["z"].tolist() == [0] * 4 + [2] * 4 + [10] * 4
    assert batch.feeds["x"][-1].tolist() == (GOOD[-1] + 10).tolist()
    one = open_dataset(tmp_path / "test_data_set_2", two, ALL)
    assert one.samples == 4


def test_a_single_tensor_file_feeds_a_single_input(tmp_path: Path, one_input: Signature) -> None:
    save_pb(tmp_path / "tensor.pb", GOOD)
    np.testing.assert_array_equal(read(open_dataset(tmp_path / "tensor.pb", one_input, ALL)), GOOD)


def test_tensor_files_that_do_not_match_are_refused(
    tmp_path: Path, one_input: Signature, signature: Callable[..., Signature]
) -> None:
    save_pb(tmp_path / "a" / "input_1.pb", GOOD)
    assert "input_1.pb has no input to feed" in refused(tmp_path / "a", one_input)
    two = signature(("x", "float32", ("n", 3)), ("z", "float32", ("n", 3)))
    assert "no array 'x'" in refused(tmp_path / "a", two)
    save_pb(tmp_path / "b" / "output_0.pb", GOOD)
    assert "no input_*.pb" in refused(tmp_path / "b", one_input)


def test_a_tensor_file_cannot_reach_other_files(tmp_path: Path, one_input: Signature) -> None:
    from onnx import TensorProto

    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[4, 3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "input_0.pb").write_bytes(tensor.SerializeToString())
    assert "another file" in refused(tmp_path, one_input)
