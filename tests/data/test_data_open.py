"""Which reader takes a path, and what is refused before any reader starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mipack.data.dataset import ReadOptions
from mipack.data.open import READERS, open_dataset
from mipack.errors import InputError
from mipack.records import Signature


def refused(path: Path, signature: Signature, options: ReadOptions) -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(path, signature, options)
    return f"{caught.value} | {caught.value.hint}"


def test_no_two_readers_claim_one_suffix() -> None:
    suffixes = [suffix for reader in READERS for suffix in reader.suffixes]
    assert len(suffixes) == len(set(suffixes))


def test_a_missing_path_is_refused(tmp_path: Path, one_input: Signature) -> None:
    assert "nowhere: no such file" in refused(tmp_path / "nowhere", one_input, ReadOptions())


def test_an_empty_folder_is_refused(tmp_path: Path, one_input: Signature) -> None:
    (tmp_path / ".hidden.npz").write_bytes(b"")
    assert "is empty | expected .npz" in refused(tmp_path, one_input, ReadOptions())


def test_a_folder_without_usable_files_says_what_is_expected(
    tmp_path: Path, one_input: Signature
) -> None:
    (tmp_path / "notes.md").write_text("x")
    assert "no data that can be read" in refused(tmp_path, one_input, ReadOptions())
    assert ".jsonl" in refused(tmp_path / "notes.md", one_input, ReadOptions())


def test_mixed_content_is_listed(tmp_path: Path, one_input: Signature) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3), np.float32))
    (tmp_path / "b.txt").write_text("x")
    message = refused(tmp_path, one_input, ReadOptions())
    assert "arrays (1), lines of text (1)" in message


def test_files_named_by_options_are_not_data(tmp_path: Path, one_input: Signature) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    np.save(tmp_path / "labels.npy", np.zeros(2, int))
    options = ReadOptions(labels=tmp_path / "labels.npy")
    assert open_dataset(tmp_path, one_input, options).samples == 2


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (ReadOptions(mean=(0.5,)), "--mean"),
        (ReadOptions(resize=4), "--resize"),
        (ReadOptions(text_column="t"), "--text-column"),
        (ReadOptions(tokenizer=Path("t")), "--tokenizer"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    tmp_path: Path, one_input: Signature, options: ReadOptions, name: str
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    assert f"{name} means nothing here" in refused(tmp_path, one_input, options)
