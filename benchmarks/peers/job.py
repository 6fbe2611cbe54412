"""What a peer's script is given, and the samples in the form that peers read.

    python PEER.py JOB.json

JOB.json holds the fields of `Job`; the script writes the pruned model to `out` and prints one JSON
document of what it found on its last line. These scripts run in an environment of the peers' own
(quality_peers.py makes it) and import nothing of mipack.
"""

from __future__ import annotations

import csv
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

Array = np.ndarray[Any, np.dtype[Any]]
Feeds = dict[str, Array]

MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


@dataclass(frozen=True)
class Job:
    """One run of a peer.

    `kind` is `text` or `image`; `calib` a table (sentence, label) or a zip with class folders;
    `budget` the share of the encoder's weight MatMuls (text) or of all MACs (image) that may stay;
    `settings` the peer's own choices.
    """

    model: Path
    kind: str
    calib: Path
    out: Path
    budget: float
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    classes: Path | None = None
    checkpoint: Path | None = None

    @classmethod
    def load(cls, path: Path) -> Job:
        """The job in a file."""
        given = json.loads(path.read_text())
        for name in ("model", "calib", "out", "classes", "checkpoint"):
            given[name] = Path(given[name]) if given.get(name) else None
        return cls(**given)


def main(prune: Callable[[Job], Mapping[str, Any] | None]) -> None:
    """The body of every peer's script."""
    found = prune(Job.load(Path(sys.argv[1])))
    print(json.dumps(dict(found or {})))


HEADS_SHARE = 1 / 3
"""Of a layer's weight MatMuls where the FFN is four times as wide as the model."""


def neurons_cut(budget: float, heads: float) -> float:
    """The share of FFN neurons to cut beside this share of heads."""
    return 1 - (budget - HEADS_SHARE * (1 - heads)) / (1 - HEADS_SHARE)


# ---------------------------------------------------------------- samples


def sentences(path: Path) -> tuple[list[str], Array]:
    """Texts and labels [N] of a table."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"] for row in rows], np.array([int(row["label"]) for row in rows])


def tokens(texts: list[str], tokenizer: Path) -> list[list[int]]:
    """Ids of each text, truncated as the tokenizer says, not padded."""
    reader = Tokenizer.from_file(str(tokenizer))
    reader.no_padding()
    return [encoded.ids for encoded in reader.encode_batch(texts)]


def padded(ids: list[list[int]]) -> Feeds:
    """A batch [N, longest] as the model's inputs take it."""
    shape = len(ids), max(map(len, ids))
    feeds = {
        name: np.zeros(shape, np.int64)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    for row, text in enumerate(ids):
        feeds["input_ids"][row, : len(text)] = text
        feeds["attention_mask"][row, : len(text)] = 1
    return feeds


def text_batches(job: Job, *, by_length: bool, size: int = 32) -> Iterator[tuple[Feeds, Array]]:
    """Batches (feeds, labels), in the order of the file or sorted by length."""
    texts, labels = sentences(job.calib)
    ids = tokens(texts, job.model.parent / "tokenizer.json")
    order = list(range(len(ids)))
    if by_length:
        order.sort(key=lambda i: len(ids[i]))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield padded([ids[i] for i in chosen]), labels[chosen]


def pictures(path: Path, classes: list[str]) -> tuple[Array, Array]:
    """Pixels [N, 3, H, W] as ResNet-56 takes them, and labels [N], of a zip with class folders."""
    with zipfile.ZipFile(path) as folder:
        names = [name for name in folder.namelist() if name.endswith(".jpg")]
        raw = [np.asarray(Image.open(BytesIO(folder.read(name))).convert("RGB")) for name in names]
    pixels = np.stack(raw).transpose(0, 3, 1, 2).astype(np.float32) / 255
    labels = [classes.index(PurePosixPath(name).parent.name) for name in names]
    return (pixels - MEAN) / STD, np.array(labels)


def image_batches(job: Job, *, size: int = 64) -> Iterator[tuple[Feeds, Array]]:
    """Batches (feeds, labels) of pictures in the order of the file."""
    assert job.classes is not None
    pixels, labels = pictures(job.calib, job.classes.read_text().split())
    for start in range(0, len(pixels), size):
        yield {"input": pixels[start : start + size]}, labels[start : start + size]
