"""Prune an image classifier, judge it on labelled pictures, time it and save it.

DATA calibrates and needs no labels; --test judges: a folder or zip of pictures in class folders, or
arrays with --labels. Pixels are divided by 255, then --mean and --std as in training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mipack
from mipack.front import bench, evaluate


def main() -> None:
    args = arguments()
    pixels = {"mean": args.mean, "std": args.std}

    read = mipack.ReadOptions(samples=args.samples, **pixels)
    result = mipack.prune(args.model, args.data, read=read, keep=args.keep)
    print(result, end="\n\n")
    result.save(args.out, force=True)

    judged = mipack.ReadOptions(samples=None, labels=args.labels, classes=args.classes, **pixels)
    print(evaluate(args.model, args.out, args.test, options=judged), end="\n\n")

    race = bench([args.model, args.out], args.data, options=read, seconds=args.seconds)
    low, high = race.comparison.interval
    print(f"it takes {race.comparison.ratio:.3f} of the time ({low:.3f} to {high:.3f})")
    print(f"wrote {args.out}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX model with an output of class scores")
    parser.add_argument("data", type=Path, help="pictures to calibrate on")
    parser.add_argument("--test", type=Path, required=True, help="labelled pictures to judge on")
    parser.add_argument("--labels", type=Path, help=".npy with the labels of --test")
    parser.add_argument("--classes", type=Path, help="class names in the model's order")
    parser.add_argument("--mean", type=numbers, help="per channel, e.g. 0.485,0.456,0.406")
    parser.add_argument("--std", type=numbers, help="per channel, e.g. 0.229,0.224,0.225")
    parser.add_argument("--keep", type=float, default=0.5, help="how much stays (default 0.5)")
    parser.add_argument("--samples", type=int, default=512, help="pictures to calibrate on")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to time")
    parser.add_argument("-o", "--out", type=Path, default=Path("image.pruned.onnx"))
    return parser.parse_args()


def numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


if __name__ == "__main__":
    main()
