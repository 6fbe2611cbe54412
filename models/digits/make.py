"""Makes the bundled example: trains a small network on scikit-learn's digits and exports it.

    python models/digits/make.py [FOLDER]       # default: the folder of this script

Writes model.onnx, calib.npz (images, no labels), test.npz (images) and labels.npy (their classes).
The 1,797 images of 8x8 pixels are split by a seeded shuffle; one machine always writes the same
bytes.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 0
TRAIN, CALIB = 1000, 300  # images; the remaining 497 are the test set
EPOCHS, BATCH = 30, 50
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
OPSET = 17
MIN_ACCURACY, MAX_BYTES = 0.97, 2_000_000

Images = NDArray[np.float32]  # [n, 1, 8, 8], pixels in 0..1
Labels = NDArray[np.int64]  # [n], classes 0..9


class Split(NamedTuple):
    """The three disjoint parts of the digits."""

    train: tuple[Images, Labels]
    calib: Images
    test: tuple[Images, Labels]


class Block(nn.Module):
    """A residual block: relu(x + conv(relu(conv(x)))), [n, c, h, w] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class Net(nn.Module):
    """[n, 1, 8, 8] -> logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.widen = nn.Conv2d(32, 64, 3, padding=1)
        self.block = Block(64)
        self.hidden1 = nn.Linear(64 * 4 * 4, 128)
        self.hidden2 = nn.Linear(128, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))  # [n, 32, 8, 8]
        x = F.relu(self.widen(x))  # [n, 64, 8, 8]
        x = self.block(F.max_pool2d(x, 2))  # [n, 64, 4, 4]
        x = torch.flatten(x, 1)  # [n, 1024]
        x = F.relu(self.hidden1(x))  # [n, 128]
        x = F.relu(self.hidden2(x))  # [n, 64]
        logits: Tensor = self.head(x)  # [n, 10]
        return logits


def split_digits() -> Split:
    """The digits in a seeded random order, cut into train, calibration and test."""
    pixels, classes = load_digits(return_X_y=True)  # [1797, 64] in 0..16, [1797]
    order = np.random.default_rng(SEED).permutation(len(pixels))
    x = (pixels[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = classes[order].astype(np.int64)
    end = TRAIN + CALIB
    return Split(train=(x[:TRAIN], y[:TRAIN]), calib=x[TRAIN:end], test=(x[end:], y[end:]))


def train(images: Images, labels: Labels) -> Net:
    """The network after EPOCHS passes over the images, AdamW under a one-cycle schedule."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in one order, so the same bytes each time
    net, x, y = Net(), torch.from_numpy(images), torch.from_numpy(labels)
    steps = EPOCHS * -(-len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(x)), BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x[rows]), y[rows], label_smoothing=0.05)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return net.eval()


def export(net: Net, path: Path) -> None:
    """Write the network as ONNX: `image` [batch, 1, 8, 8] float32 -> `logits` [batch, 10]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this exporter writes one plain file
        torch.onnx.export(
            net,
            (torch.zeros(2, 1, 8, 8),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    model = onnx.load(path)
    strip(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def strip(model: onnx.ModelProto) -> None:
    """Drop notes of the exporter (doc strings, metadata): they may hold paths of this machine."""
    for item in (model, model.graph, *model.graph.node):
        item.doc_string = ""
        del item.metadata_props[:]


def accuracy(path: Path, images: Images, labels: Labels) -> float:
    """The share of right answers of the exported file under ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": images})  # [n, 10]
    return float((logits.argmax(axis=1) == labels).mean())


def make(folder: Path) -> float:
    """Write the four files of the example into `folder` and return the test accuracy."""
    folder.mkdir(parents=True, exist_ok=True)
    split, model = split_digits(), folder / "model.onnx"
    export(train(*split.train), model)
    test_images, test_labels = split.test
    np.savez_compressed(folder / "calib.npz", image=split.calib)
    np.savez_compressed(folder / "test.npz", image=test_images)
    np.save(folder / "labels.npy", test_labels)
    if model.stat().st_size >= MAX_BYTES:
        raise SystemExit(f"{model} has {model.stat().st_size} bytes, the limit is {MAX_BYTES}")
    score = accuracy(model, test_images, test_labels)
    if score < MIN_ACCURACY:
        raise SystemExit(f"test accuracy {score:.4f}, at least {MIN_ACCURACY} is expected")
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and export the bundled digits example.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    folder = parser.parse_args().folder
    print(f"{folder}: test accuracy {make(folder):.4f}")


if __name__ == "__main__":
    main()
