"""Text through a tokenizer: columns, padding, labels, caches, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mipack.data.dataset import Dataset, ReadOptions
from mipack.data.open import open_dataset
from mipack.errors import InputError
from mipack.records import Signature

Make = Callable[..., Signature]
Save = Callable[..., Path]
LINES = "a good film\n\nbad\nvery very bad film\ngood\n"


def read(path: Path, signature: Signature, beside: Path | None = None, **options: Any) -> Dataset:
    return open_dataset(path, signature, ReadOptions(**options), beside=beside)


def refused(path: Path, signature: Signature, beside: Path | None = None, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        list(read(path, signature, beside, **options).batches())
    assert "\n" not in str(caught.value)
    return f"{caught.value} | {caught.value.hint}"


@pytest.fixture
def lines(tmp_path: Path, save_tokenizer: Save) -> Path:
    """Four texts, with a tokenizer in the same folder."""
    save_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "texts").mkdir()
    path = tmp_path / "texts" / "lines.txt"
    path.write_text(LINES)
    return path


def test_batches_are_padded_to_their_longest_and_ordered_by_length(
    lines: Path, bert: Signature
) -> None:
    dataset = read(lines, bert, lines.parent.parent)
    assert dataset.samples == 4 and dataset.mask == "attention_mask"
    first, second = dataset.batches(2)
    assert first.index.tolist() == [1, 3]
    assert first.feeds["input_ids"].tolist() == [[2, 5], [2, 4]]
    assert second.feeds["input_ids"].tolist() == [[2, 3, 4, 6, 0], [2, 7, 7, 5, 6]]
    assert second.feeds["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1] * 5]
    assert second.feeds["token_type_ids"].dtype == np.int64
    assert "tokenizer tokenizer.json, padded to the longest of the batch" in dataset.description


def test_without_a_mask_nothing_is_padded(lines: Path, signature: Make) -> None:
    plain = signature(("input_ids", "int32", ("batch", "sequence")))
    batches = list(read(lines, plain, lines.parent.parent).batches())
    shapes = [batch.feeds["input_ids"].shape for batch in batches]
    assert sorted(shapes) == [(1, 4), (1, 5), (2, 2)]
    assert batches[0].feeds["input_ids"].dtype == np.int32


def test_a_static_length_pads_and_truncates(lines: Path, signature: Make) -> None:
    fixed = signature(
        ("input_ids", "int64", (1, 3)),
        ("attention_mask", "float32", (1, 3)),
        ("position_ids", "int64", (1, 3)),
    )
    batches = list(read(lines, fixed, lines.parent.parent).batches())
    assert [batch.samples for batch in batches] == [1, 1, 1, 1]
    assert batches[0].feeds["input_ids"].tolist() == [[2, 5, 0]]
    assert batches[0].feeds["attention_mask"].dtype == np.float32
    assert batches[3].feeds["input_ids"].shape == (1, 3)
    assert batches[3].feeds["position_ids"].tolist() == [[0, 1, 2]]


def test_the_tokenizer_keeps_its_own_truncation_and_side(
    lines: Path, signature: Make, save_tokenizer: Save
) -> None:
    path = save_tokenizer(lines.parent.parent / "left.json", truncate=4, left=True)
    gpt = signature(
        *((n, "int64", (None, None)) for n in ("input_ids", "attention_mask", "position_ids"))
    )
    (batch,) = read(lines, gpt, tokenizer=path).batches()
    assert batch.feeds["input_ids"].tolist()[0] == [0, 0, 2, 5]
    assert batch.feeds["attention_mask"].tolist()[0] == [0, 0, 1, 1]
    assert batch.feeds["position_ids"].tolist()[0] == [0, 0, 0, 1]
    assert batch.feeds["input_ids"].shape == (4, 4)


def test_caches_are_empty(lines: Path, signature: Make) -> None:
    decoder = signature(
        ("input_ids", "int64", ("batch", "sequence")),
        ("attention_mask", "int64", ("batch", "past + sequence")),
        ("past_key_values.0.key", "float16", ("batch", 2, "past", 8)),
        ("past.stacked", "float32", (2, "batch", 4, "past", 8)),
    )
    batch = next(read(lines, decoder, lines.parent.parent).batches(2))
    assert batch.feeds["past_key_values.0.key"].shape == (2, 2, 0, 8)
    assert batch.feeds["past_key_values.0.key"].dtype == np.float16
    assert batch.feeds["past.stacked"].shape == (2, 2, 4, 0, 8)


def test_inputs_of_other_names_are_mapped(lines: Path, signature: Make) -> None:
    other = signature(("ids", "int64", ("n", "t")), ("keep", "bool", ("n", "t")))
    message = refused(lines, other, lines.parent.parent)
    assert "text does not feed the model's input 'ids'" in message
    assert "--input ids=FIELD" in message
    mapped = read(
        lines, other, lines.parent.parent, inputs={"ids": "input_ids", "keep": "attention_mask"}
    )
    assert mapped.mask == "keep"
    assert next(mapped.batches()).feeds["keep"].dtype == np.bool_


@pytest.mark.parametrize(
    ("specs", "inputs", "words"),
    [
        ([("x", "float32", ("n", 3))], {}, "--input x=FIELD"),
        ([("attention_mask", "int64", ("n", "t"))], {}, "no input of the model takes token ids"),
        ([("input_ids", "float32", ("n", "t"))], {}, "input_ids cannot feed"),
        ([("input_ids", "int64", ("n", "t", 1))], {}, "input_ids cannot feed"),
        ([("input_ids", "int64", ("n", "t"))], {"input_ids": "words"}, "no field 'words'"),
        (
            [("input_ids", "int64", ("n", 4)), ("attention_mask", "int64", ("n", 5))],
            {},
            "different sizes of axis 1: [4, 5]",
        ),
    ],
)
def test_models_that_text_cannot_feed(
    lines: Path, signature: Make, specs: Any, inputs: Any, words: str
) -> None:
    assert words in refused(lines, signature(*specs), lines.parent.parent, inputs=inputs)


def test_the_tokenizer_must_be_there_and_whole(lines: Path, bert: Signature) -> None:
    assert "there is no tokenizer | give --tokenizer" in refused(lines, bert)
    missing = lines.parent / "nowhere.json"
    assert "nowhere.json: no such tokenizer" in refused(lines, bert, tokenizer=missing)
    broken = lines.parent.parent / "broken.json"
    broken.write_text("{}")
    assert "not a tokenizer.json" in refused(lines, bert, tokenizer=broken)
    folder = lines.parent.parent
    assert read(lines, bert, tokenizer=folder).samples == 4


def test_only_the_chosen_texts_are_tokenized(
    lines: Path, bert: Signature, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mipack.data import text

    seen: list[str] = []

    class Spy:
        def __init__(self, inner: Any) -> None:
            self._inner, self.truncation = inner, inner.truncation

        def encode_batch(self, texts: list[str]) -> Any:
            seen.extend(texts)
            return self._inner.encode_batch(texts)

    load = text.load_tokenizer

    def load_spied(*args: Any, **kwargs: Any) -> Any:
        tokenizer, padding = load(*args, **kwargs)
        return Spy(tokenizer), padding

    monkeypatch.setattr(text, "load_tokenizer", load_spied)
    dataset = read(lines, bert, lines.parent.parent, samples=2)
    for _ in range(2):
        assert sum(batch.samples for batch in dataset.batches()) == 2
    assert len(seen) == 2


def test_the_digest_follows_texts_and_tokenizer(
    lines: Path, bert: Signature, save_tokenizer: Save
) -> None:
    dataset = read(lines, bert, lines.parent.parent)
    other = save_tokenizer(lines.parent.parent / "other.json", truncate=3)
    assert dataset.digest == read(lines, bert, lines.parent.parent).digest
    assert dataset.digest != read(lines, bert, tokenizer=other).digest
    lines.write_text(LINES.replace("good", "bad"))
    assert dataset.digest != read(lines, bert, lines.parent.parent).digest


def write_table(lines: Path, name: str, text: str) -> Path:
    path = lines.parent / name
    path.write_text(text, encoding="utf-8")
    return path


def tokens(dataset: Dataset) -> list[list[int]]:
    (batch,) = dataset.batches()
    return [[int(i) for i in row if i] for row in batch.feeds["input_ids"][np.argsort(batch.index)]]


def test_tables_find_their_text_and_labels(lines: Path, bert: Signature) -> None:
    tsv = write_table(lines, "a.tsv", 'sentence\tlabel\n"good film\t1\nbad\t0\n')
    csv = write_table(lines, "a.csv", 'label,words,n\n1,"good, very\ngood",7\n0,bad,8\n')
    for path, expected in ((tsv, [[2, 1, 4, 6], [2, 5]]), (csv, [[2, 4, 1, 7, 4], [2, 5]])):
        dataset = read(path, bert, lines.parent.parent)
        assert tokens(dataset) == expected  # a quote is text in .tsv, quoting in .csv
        assert dataset.labels is not None and dataset.labels.tolist() == [1, 0]


def test_columns_can_be_named(lines: Path, bert: Signature, tmp_path: Path) -> None:
    path = write_table(lines, "a.csv", "q,a,mood\ngood,bad,up\nbad,good,down\nfilm,film,up\n")
    message = refused(path, bert, lines.parent.parent)
    assert "which column" in message and "--text-column: q, a, mood" in message
    options = {"text_column": "a", "label_column": "mood"}
    dataset = read(path, bert, lines.parent.parent, **options)
    assert tokens(dataset) == [[2, 5], [2, 4], [2, 6]]
    assert dataset.labels is not None and dataset.labels.tolist() == [1, 0, 1]
    classes = tmp_path / "classes.txt"
    classes.write_text("up\nsideways\ndown\n")
    labels = read(path, bert, lines.parent.parent, classes=classes, **options).labels
    assert labels is not None and labels.tolist() == [0, 2, 0]
    for wrong in ({"text_column": "z"}, {"text_column": "a", "label_column": "z"}):
        assert "no column 'z' | every row has q, a" in refused(
            path, bert, lines.parent.parent, **wrong
        )


def test_json_lines(lines: Path, bert: Signature) -> None:
    rows = [{"text": "good", "label": 1}, {"text": "bad", "label": 0, "extra": [1]}]
    path = write_table(lines, "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    dataset = read(path, bert, lines.parent.parent)
    assert tokens(dataset) == [[2, 4], [2, 5]]
    assert dataset.labels is not None and dataset.labels.tolist() == [1, 0]
    assert "row 1 has no text in 'label'" in refused(
        path, bert, lines.parent.parent, text_column="label"
    )


def test_labels_by_name_are_not_guessed(lines: Path, bert: Signature) -> None:
    path = write_table(lines, "a.tsv", "text\tlabel\ngood\tup\nbad\tdown\n")
    assert read(path, bert, lines.parent.parent).labels is None
    named = read(path, bert, lines.parent.parent, label_column="label")
    assert named.labels is not None and named.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.tsv", "text\tlabel\ngood\n", "line 2 has 1 fields, the header 2"),
        ("a.csv", 'text,label\n"good,1\n', "a.csv: line"),
        ("a.csv", "good,1\nbad,0\n", "the first line does not name the columns"),
        ("a.csv", "", "the first line does not name"),
        ("a.csv", "text,label\n", "no rows in it"),
        ("a.csv", "text,label\ngood,\nbad,1\n", "sample 1 has no label"),
        ("a.jsonl", "{", "line 1 is not JSON"),
        ("a.jsonl", "[1]", "line 1 is not a JSON object"),
        ("a.jsonl", '{"x": 1}', "which column holds the text?"),
        ("a.txt", "\n \n", "no rows in it"),
    ],
)
def test_broken_tables_are_named(
    lines: Path, bert: Signature, name: str, text: str, words: str
) -> None:
    path = write_table(lines, name, text)
    options = {"label_column": "label"} if "no label" in words else {}
    assert words in refused(path, bert, lines.parent.parent, **options)


def test_text_that_is_not_utf8_is_named(lines: Path, bert: Signature) -> None:
    path = lines.parent / "a.txt"
    path.write_bytes(b"caf\xe9\n")
    assert "a.txt: not readable as UTF-8" in refused(path, bert, lines.parent.parent)


def test_labels_outside_the_classes_are_refused(lines: Path, bert: Signature) -> None:
    path = write_table(lines, "a.tsv", "text\tlabel\ngood\t2\nbad\t0\n")
    classes = lines.parent.parent / "classes.txt"
    classes.write_text("bad\ngood\n")
    message = refused(path, bert, lines.parent.parent, classes=classes)
    assert "labels run from 0 to 2" in message and "2 classes, 0 to 1" in message


def test_the_real_sentences_and_pictures_are_read(shared: Path, bert: Signature) -> None:
    options = ReadOptions(samples=8)
    dataset = open_dataset(
        shared / "data/sst2/train.tsv", bert, options, beside=shared / "models/minilm-sst2"
    )
    (batch,) = dataset.batches()
    assert batch.samples == 8 and set(np.unique(batch.labels)) <= {0, 1}
    assert batch.feeds["input_ids"][:, 0].tolist() == [101] * 8
