"""The two real models of the quality benchmark, their data, and which rows may be read for what.

Rows of train are split once, by a fixed seed: `choose` picks the settings of peers, `validate`
judges while mipack is being made, and every calibration set is drawn from what is left, so that it
shares no text with the two. `test` is for the final run; whoever reads it is logged.
"""

from __future__ import annotations

import random
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers.job import Feeds, padded, pictures, sentences, tokens

Array = np.ndarray[Any, np.dtype[Any]]

SPLIT_SEED = 20
JUDGES = ("choose", "validate", "test")
HEADER = "sentence\tlabel"


@dataclass(frozen=True)
class Task:
    """A model, its data and what it is asked.

    `sizes` are the rows of `choose` and `validate`; `reading` what mipack must be told to read the
    calibration file; `shape` where time is measured; `tokens` the length at which all MACs are
    counted.
    """

    name: str
    title: str
    kind: str
    model: Path
    data: Path
    sizes: tuple[int, int]
    budgets: tuple[float, ...]
    reading: tuple[str, ...]
    shape: str
    tokens: int = 1

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the model's order (images)."""
        return (self.data / "classes.txt").read_text().split()


def tasks(root: Path) -> dict[str, Task]:
    """By name."""
    pixels = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    return {
        "minilm": Task(
            "minilm",
            "MiniLM, SST-2",
            "text",
            root / "models/minilm-sst2/model.onnx",
            root / "data/sst2",
            (1000, 4000),
            (0.6, 0.4, 0.3, 0.2, 0.1),
            ("--text-column", "sentence"),
            "batch=8,sequence=128",
            25,  # the mean length of SST-2's sentences
        ),
        "resnet": Task(
            "resnet",
            "ResNet-56, CIFAR-10",
            "image",
            root / "models/resnet56-cifar10/model.onnx",
            root / "data/cifar10",
            (1000, 2000),
            (0.7, 0.5, 0.35),
            pixels,
            "batch=8",
        ),
    }


# ---------------------------------------------------------------- which rows


def split(contents: Sequence[str], sizes: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """Row numbers of the parts that judge, and of the pool: rows whose content is in no part."""
    order = random.Random(SPLIT_SEED).sample(range(len(contents)), len(contents))
    parts, start = [], 0
    for size in sizes:
        parts.append(order[start : start + size])
        start += size
    held = {contents[row] for row in order[:start]}
    return parts, sorted(row for row in order[start:] if contents[row] not in held)


def calibration(pool: Sequence[int], seed: int, samples: int) -> list[int]:
    """The rows of one calibration set; a larger one of a seed holds the smaller."""
    if samples > len(pool):
        raise SystemExit(f"{samples} samples are more than the {len(pool)} rows that may be used")
    return random.Random(seed).sample(pool, len(pool))[:samples]


def contents(task: Task) -> list[str]:
    """What identifies each row of train: the line of the table, the name of the picture."""
    if task.kind == "text":
        return (task.data / "train.tsv").read_text().splitlines()[1:]
    with zipfile.ZipFile(task.data / "train.zip") as folder:
        return [name for name in folder.namelist() if name.endswith(".jpg")]


def same_text(lines: Sequence[str]) -> list[str]:
    """Lines without their label, so that one text is one content."""
    return [line.rsplit("\t", 1)[0].strip() for line in lines]


def parts_of(task: Task) -> tuple[dict[str, list[int]], list[int]]:
    """Rows of train per judge, and the pool."""
    rows = contents(task)
    found, pool = split(same_text(rows) if task.kind == "text" else rows, task.sizes)
    return dict(zip(JUDGES, found, strict=False)), pool


# ---------------------------------------------------------------- calibration files


@dataclass(frozen=True)
class Samples:
    """One calibration set on disk, without labels and with them."""

    plain: Path
    labelled: Path


def samples_of(task: Task, out: Path, seed: int, samples: int, *, whole: bool = False) -> Samples:
    """The files of one calibration set, written where they do not lie yet; with `whole` drawn from
    all of train, as peers.md draws them."""
    suffix = ".tsv" if task.kind == "text" else ".zip"
    stem = out / "calib" / f"{task.name}-{seed}-{samples}{'-whole' if whole else ''}"
    found = Samples(stem.with_suffix(f".plain{suffix}"), stem.with_suffix(f".labelled{suffix}"))
    if not (found.plain.exists() and found.labelled.exists()):
        if whole:
            rows = random.Random(seed).sample(range(len(contents(task))), samples)
        else:
            rows = calibration(parts_of(task)[1], seed, samples)
        stem.parent.mkdir(parents=True, exist_ok=True)
        (_write_texts if task.kind == "text" else _write_pictures)(task, rows, found)
    return found


def _write_texts(task: Task, rows: Sequence[int], found: Samples) -> None:
    lines = contents(task)
    chosen = [lines[row] for row in rows]
    texts = [HEADER.split("\t")[0], *(line.rsplit("\t", 1)[0] for line in chosen)]
    replace(found.plain, "\n".join(texts) + "\n")
    replace(found.labelled, "\n".join([HEADER, *chosen]) + "\n")


def _write_pictures(task: Task, rows: Sequence[int], found: Samples) -> None:
    names = contents(task)
    with zipfile.ZipFile(task.data / "train.zip") as source:
        for path in (found.plain, found.labelled):
            part = path.with_suffix(".part")
            with zipfile.ZipFile(part, "w") as target:
                for number, row in enumerate(rows):
                    folder = f"{names[row].split('/')[0]}/" if path == found.labelled else ""
                    info = zipfile.ZipInfo(f"{folder}{number:05d}.jpg")
                    target.writestr(info, source.read(names[row]))
            part.replace(path)


def replace(path: Path, text: str) -> None:
    """Write a file at once: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


# ---------------------------------------------------------------- rows that judge


@dataclass(frozen=True)
class Rows:
    """What a judge reads: batches (row numbers, feeds), and labels [N]."""

    batches: tuple[tuple[list[int], Feeds], ...]
    labels: Array


def rows_of(task: Task, judge: str) -> Rows:
    """The rows of one judge, batched."""
    if task.kind == "text":
        texts, labels = _texts(task, judge)
        ids = tokens(texts, task.model.parent / "tokenizer.json")
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        batches = [order[start : start + 64] for start in range(0, len(order), 64)]
        return Rows(tuple((b, padded([ids[row] for row in b])) for b in batches), labels)
    pixels, labels = pictures(task.data / f"{_file(judge)}.zip", task.classes)
    if judge != "test":
        rows = parts_of(task)[0][judge]
        pixels, labels = pixels[rows], labels[rows]
    chosen = [list(range(len(labels)))[s : s + 100] for s in range(0, len(labels), 100)]
    return Rows(tuple((b, {"input": pixels[b]}) for b in chosen), labels)


def _file(judge: str) -> str:
    return "test" if judge == "test" else "train"


def _texts(task: Task, judge: str) -> tuple[list[str], Array]:
    if judge == "test":
        tables = [sentences(task.data / f"{part}.tsv") for part in ("dev", "test")]
        return [*tables[0][0], *tables[1][0]], np.concatenate([labels for _, labels in tables])
    texts, labels = sentences(task.data / "train.tsv")
    rows = parts_of(task)[0][judge]
    return [texts[row] for row in rows], labels[rows]
