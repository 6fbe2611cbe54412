"""The example scripts run as they are: on the bundled model, and on real ones where they are."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

FOLDER = Path(__file__).resolve().parents[2] / "models" / "examples"


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "o.onnx"


def test_pictures_on_the_bundled_model(
    digits: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        monkeypatch, "image_classifier", digits / "model.onnx", digits / "calib.npz",
        "--test", digits / "test.npz", "--labels", digits / "labels.npy",
        "--samples", 64, "--seconds", 0.2, "-o", out,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "accuracy of logits: 99.40 % -> " in said and "of the time" in said
    assert out.stat().st_size < (digits / "model.onnx").stat().st_size


def test_sentences_on_a_small_bert(
    shared: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own words: a tokenizer of a few dozen lies beside the model, as it should."""
    shutil.copy(shared / "zoo/bert_ts/model.onnx", out.with_name("model.onnx"))
    words = {"[UNK]": 0, **{f"w{number}": number for number in range(1, 40)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(out.with_name("tokenizer.json")))
    rng = np.random.default_rng(0)
    lines = [
        f"{' '.join(f'w{n}' for n in rng.integers(1, 40, rng.integers(3, 9)))}\t{at % 2}"
        for at in range(48)
    ]
    out.with_name("rows.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    run(
        monkeypatch, "text_classifier", out.with_name("model.onnx"), out.with_name("rows.tsv"),
        "--test", out.with_name("rows.tsv"), "--keep", 0.7, "--seconds", 0.2,
        "--shape", "batch=1,sequence=8", "-o", out,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "accuracy of logits" in said and "units stay" in said and "of the time" in said


@pytest.mark.heavy
def test_sentences_on_a_real_model(
    shared: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = shared / "models/minilm-sst2/model.onnx", shared / "data/sst2"
    few = out.with_name("few.tsv")
    few.write_text("".join((data / "dev.tsv").read_text().splitlines(keepends=True)[:65]))
    run(
        monkeypatch, "text_classifier", model, data / "train.tsv", "--test", few,
        "--samples", 32, "--seconds", 0.5, "--shape", "batch=1,sequence=16", "-o", out,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "accuracy of logits" in said and "units stay" in said and "of the time" in said


def test_embeddings(
    shared: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small BERT with what its classifier reads as the output."""
    source = shared / "zoo/bert_ts"
    model = onnx.load(source / "model.onnx")
    head = next(node for node in model.graph.node if "logits" in node.output)
    vector = onnx.helper.make_tensor_value_info(head.input[0], onnx.TensorProto.FLOAT, None)
    model.graph.node.remove(head)
    del model.graph.output[:]
    model.graph.output.append(vector)
    onnx.save(model, out.with_name("embedding.onnx"))
    feeds = [np.load(file) for file in sorted((source / "calib").glob("*.npz"))]
    sizes = min(feed["input_ids"].shape[1] for feed in feeds)
    joined = {name: np.concatenate([f[name][:, :sizes] for f in feeds]) for name in feeds[0].files}
    np.savez(out.with_name("sentences.npz"), **joined)
    run(
        monkeypatch, "sentence_embedding", out.with_name("embedding.onnx"),
        out.with_name("sentences.npz"), "--keep", 0.7, "--seconds", 0.2, "-o", out,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "the nearest sentence is the same for" in said and "of the time" in said


@pytest.mark.heavy
def test_pictures_on_a_real_model(
    shared: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = shared / "models/resnet56-cifar10/model.onnx", shared / "data/cifar10"
    run(
        monkeypatch, "image_classifier", model, data / "train.zip", "--test", data / "test.zip",
        "--classes", data / "classes.txt", "--mean", "0.485,0.456,0.406",
        "--std", "0.229,0.224,0.225", "--keep", 0.8, "--samples", 64, "-o", out,
    )  # fmt: skip
    assert "accuracy" in capsys.readouterr().out
