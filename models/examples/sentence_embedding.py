"""Prune a model of sentence embeddings, see whether neighbours stay neighbours, time and save it.

The model's first output is one vector a sentence, or one a token (then their mean counts). There
are no labels: what matters is that vectors point where they did, and that the sentence that was
nearest still is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime as ort

import mipack
from mipack.data.dataset import Dataset
from mipack.front import bench, evaluate
from mipack.prepare import open_model, read_data


def main() -> None:
    args = arguments()

    read = mipack.ReadOptions(samples=args.samples, text_column=args.text_column)
    result = mipack.prune(args.model, args.data, read=read, keep=args.keep)
    print(result, end="\n\n")
    result.save(args.out, force=True)

    # A test set of its own where there is one; a second draw of the same data is better than none.
    test = args.test or args.data
    judged = mipack.ReadOptions(samples=args.samples, seed=1, text_column=args.text_column)
    print(evaluate(args.model, args.out, test, options=judged), end="\n\n")
    sentences = read_data(args.model, open_model(args.model), test, judged)
    before, after = (nearest(embedded(path, sentences)) for path in (args.model, args.out))
    print(f"the nearest sentence is the same for {np.mean(before == after):.1%} of them")

    race = bench([args.model, args.out], args.data, options=read, seconds=args.seconds)
    low, high = race.comparison.interval
    print(f"it takes {race.comparison.ratio:.3f} of the time ({low:.3f} to {high:.3f})")
    print(f"wrote {args.out}")


def embedded(model: Path, sentences: Dataset) -> np.ndarray:
    """One vector of length 1 for every sentence, in their order: [sentences, size]."""
    session = ort.InferenceSession(model)
    vectors: list[tuple[int, np.ndarray]] = []
    for batch in sentences.batches(32):
        found = session.run(None, batch.feeds)[0]
        if found.ndim == 3:  # [sentences, tokens, size]
            rows = batch.feeds.get("attention_mask", np.ones(found.shape[:2]))[..., None]
            found = (found * rows).sum(1) / rows.sum(1)
        found = found / np.linalg.norm(found, axis=1, keepdims=True)
        vectors += zip(batch.index, found[: batch.samples], strict=True)
    return np.stack([vector for _, vector in sorted(vectors, key=lambda pair: pair[0])])


def nearest(vectors: np.ndarray) -> np.ndarray:
    """The other sentence whose vector is closest: [sentences]."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines.argmax(1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX model whose first output is vectors")
    parser.add_argument("data", type=Path, help="sentences to calibrate on")
    parser.add_argument("--test", type=Path, help="sentences to judge on")
    parser.add_argument("--text-column", help="of a table")
    parser.add_argument("--keep", type=float, default=0.5, help="how much stays (default 0.5)")
    parser.add_argument("--samples", type=int, default=512, help="sentences to calibrate on")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to time")
    parser.add_argument("-o", "--out", type=Path, default=Path("embedding.pruned.onnx"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
