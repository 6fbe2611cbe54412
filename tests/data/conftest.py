"""Small signatures, a tiny tokenizer and pictures: real files of every kind in tmp_path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mipack.records import Signature, TensorSpec

WORDS = ("[PAD]", "[UNK]", "[CLS]", "a", "good", "bad", "film", "very")


def make_signature(*inputs: tuple[str, str, tuple[Any, ...] | None]) -> Signature:
    """A signature from (name, dtype, shape) of every input."""
    return Signature(tuple(TensorSpec(*spec) for spec in inputs), ())


@pytest.fixture
def signature() -> Callable[..., Signature]:
    return make_signature


@pytest.fixture
def one_input() -> Signature:
    return make_signature(("x", "float32", ("batch", 3)))


@pytest.fixture
def bert() -> Signature:
    names = ("input_ids", "attention_mask", "token_type_ids")
    return make_signature(*((name, "int64", ("batch", "sequence")) for name in names))


@pytest.fixture
def save_tokenizer() -> Callable[..., Path]:
    """Writes a tokenizer of seven words that puts [CLS] first."""

    def save(path: Path, *, truncate: int | None = None, left: bool = False) -> Path:
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import Whitespace
        from tokenizers.processors import TemplateProcessing

        vocabulary = {word: number for number, word in enumerate(WORDS)}
        tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A", special_tokens=[("[CLS]", 2)]
        )
        tokenizer.add_special_tokens(["[PAD]"])
        if truncate:
            tokenizer.enable_truncation(truncate)
        if left:
            tokenizer.enable_padding(direction="left", pad_id=0, length=64)
        tokenizer.save(str(path))
        return path

    return save


@pytest.fixture
def save_picture() -> Callable[..., Path]:
    """Writes a picture of one colour, or of the array given."""

    def save(
        path: Path, colour: Any = (255, 0, 0), *, size: tuple[int, int] = (8, 8), mode: str = "RGB"
    ) -> Path:
        from PIL import Image

        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(colour, np.ndarray):
            Image.fromarray(colour).save(path)
        else:
            Image.new(mode, size, colour).save(path)
        return path

    return save
