"""Prune a text classifier, judge it on labelled sentences, time it and save it.

DATA calibrates and needs no labels; --test judges. Both are tables (.tsv, .csv, .jsonl), read with
the tokenizer.json beside the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mipack
from mipack.front import bench, evaluate


def main() -> None:
    args = arguments()

    read = mipack.ReadOptions(samples=args.samples, text_column=args.text_column)
    result = mipack.prune(args.model, args.data, read=read, keep=args.keep)
    print(result, end="\n\n")
    for group in result.plan.groups:
        print(f"{group.name}: {group.kept} of {group.size} {group.kind} units stay")
    result.save(args.out, force=True)

    judged = mipack.ReadOptions(
        samples=None, text_column=args.text_column, label_column=args.label_column
    )
    print(evaluate(args.model, args.out, args.test, options=judged), end="\n\n")

    shapes = [args.shape] if args.shape else []
    race = bench(
        [args.model, args.out], args.data, shapes=shapes, options=read, seconds=args.seconds
    )
    low, high = race.comparison.interval
    print(f"it takes {race.comparison.ratio:.3f} of the time ({low:.3f} to {high:.3f})")
    print(f"wrote {args.out}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX model with an output of class scores")
    parser.add_argument("data", type=Path, help="sentences to calibrate on")
    parser.add_argument("--test", type=Path, required=True, help="labelled sentences to judge on")
    parser.add_argument("--text-column", default="sentence")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--keep", type=float, default=0.4, help="how much stays (default 0.4)")
    parser.add_argument("--samples", type=int, default=512, help="sentences to calibrate on")
    parser.add_argument("--shape", type=sizes, help="where to time, e.g. batch=8,sequence=128")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to time")
    parser.add_argument("-o", "--out", type=Path, default=Path("text.pruned.onnx"))
    return parser.parse_args()


def sizes(text: str) -> dict[str, int]:
    return {name: int(size) for name, size in (item.split("=") for item in text.split(","))}


if __name__ == "__main__":
    main()
