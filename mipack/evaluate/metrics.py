"""The task metrics, one entry each: how a sample scores, how samples add up, which interval fits.

A metric maps (output, labels, mask) of one batch to rows [n, k], what each sample contributes, and
rows with weights to one number. Adding a metric is adding an entry to `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mipack.errors import InputError
from mipack.evaluate import paired

Array = np.ndarray[Any, np.dtype[Any]]
Rows = Callable[[Array, Array, Array | None], Array]
Right = Callable[[Array], Array]

IGNORED = -100
"""The label of a token that is not to be judged, by the convention of training libraries."""
TOP = 5


@dataclass(frozen=True, slots=True)
class Metric:
    """`rows`: (output, labels, mask) -> [n, k]; `total`: (rows, weights [n]) -> the score.

    `rank` is the rank of the outputs it reads (None: any). A `share` lies in 0..1 and its
    difference is told in points. `right`, where the answer to a sample is right or wrong, says
    which from the rows.
    """

    rows: Rows
    total: paired.Total
    interval: paired.Interval
    rank: int | None = None
    share: bool = False
    right: Right | None = None


def choose(name: str | None, labels: Array | None, outputs: dict[str, Array]) -> str | None:
    """The metric to use: the one named, else accuracy where it fits; None without labels.

    Raises InputError for an unknown name, a name without labels, or labels that fit no default.
    """
    known = f"the metrics are: {', '.join(METRICS)}"
    if name is not None and name not in METRICS:
        raise InputError(f"there is no metric {name!r}", hint=known)
    if labels is None:
        if name is not None:
            raise InputError(
                f"the metric {name!r} needs labels, and the data has none",
                hint="give --labels labels.npy, --label-column, or one folder per class",
            )
        return None
    if name is not None or not _is_class_task(labels, outputs):
        return name or _refuse_default(labels, known)
    return "accuracy"


def _is_class_task(labels: Array, outputs: dict[str, Array]) -> bool:
    flat = labels.ndim == 1 or labels.shape[1:] == (1,)
    return _integral(labels) and flat and any(_is_class_scores(out) for out in outputs.values())


def _refuse_default(labels: Array, known: str) -> str:
    raise InputError(
        f"labels of {labels.dtype} {list(labels.shape)} do not say which metric to use",
        hint=f"name it with --metric; {known}",
    )


def _integral(labels: Array) -> bool:
    return labels.dtype.kind in "iub"


def _is_class_scores(output: Array) -> bool:
    return output.dtype.kind == "f" and output.ndim == 2 and output.shape[1] >= 2


def predictions(scores: Array) -> Array:
    """The class of the largest score along the last axis; -1 where one of them is NaN."""
    return np.where(np.isnan(scores).any(axis=-1), -1, np.argmax(scores, axis=-1))


def _class_labels(output: Array, labels: Array) -> Array:
    """Labels [n] that fit scores [n, c], checked."""
    if not _is_class_scores(output):
        raise InputError(
            f"the output is {output.dtype} {list(output.shape)}, not scores of [samples, classes]",
            hint="choose another output with --output, or another --metric",
        )
    _check_integral(labels)
    if labels.size != len(output):
        raise InputError(f"{labels.size} labels for {len(output)} samples")
    _check_range(labels, output.shape[1])
    return labels.reshape(-1).astype(np.int64)


def _check_integral(labels: Array) -> None:
    if not _integral(labels):
        raise InputError(
            f"class labels must be integers, these are {labels.dtype}",
            hint="for real-valued targets use --metric mse or --metric mae",
        )


def _check_range(labels: Array, classes: int) -> None:
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise InputError(
            f"label {int(outside[0])} is out of range for {classes} classes",
            hint="labels count from 0, in the order of the model's output",
        )


def _hits(output: Array, labels: Array, mask: Array | None) -> Array:
    del mask
    wanted = _class_labels(output, labels)
    hits: Array = predictions(output) == wanted
    return hits.astype(np.float64)[:, None]


def _top_hits(output: Array, labels: Array, mask: Array | None) -> Array:
    """Whether the label is among the five best; equal scores rank in the order of the classes."""
    del mask
    wanted = _class_labels(output, labels)[:, None]  # [n, 1]
    if output.shape[1] <= TOP:
        raise InputError(f"'top5' of {output.shape[1]} classes is always right", hint="accuracy?")
    own = np.take_along_axis(output, wanted, axis=1)  # [n, 1]
    before = (output == own) & (np.arange(output.shape[1]) < wanted)
    rank = np.sum((output > own) | before, axis=1)
    hits: Array = (rank < TOP) & ~np.isnan(output).any(axis=1)
    return hits.astype(np.float64)[:, None]


def _answers(output: Array, labels: Array, mask: Array | None) -> Array:
    """[n, 2]: predicted class and label; NaN counts as a class that no label has."""
    del mask
    wanted = _class_labels(output, labels)
    found = predictions(output)
    return np.stack([np.where(found < 0, output.shape[1], found), wanted], axis=1)


def _token_hits(output: Array, labels: Array, mask: Array | None) -> Array:
    """[n, 2]: right tokens and judged tokens, for scores [n, t, c] and labels [n, t]."""
    if output.dtype.kind != "f" or output.ndim != 3 or output.shape[:2] != labels.shape:
        raise InputError(
            f"'token-accuracy' needs scores of [samples, tokens, classes] and labels of [samples, "
            f"tokens]; these are {list(output.shape)} and {list(labels.shape)}",
            hint="choose another output with --output, or another --metric",
        )
    _check_integral(labels)
    judged = labels != IGNORED
    if mask is not None:
        judged &= mask.astype(bool)
    _check_range(labels[judged], output.shape[2])
    right = judged & (predictions(output) == labels)
    return np.stack([right.sum(axis=1), judged.sum(axis=1)], axis=1).astype(np.float64)


def _gaps(output: Array, labels: Array) -> Array:
    """Output minus target, [n, m] in float64, checked."""
    if labels.dtype.kind not in "iubf" or output.dtype.kind not in "iubf":
        raise InputError(f"targets of {labels.dtype} for an output of {output.dtype}: no numbers")
    if output.size != labels.size or len(output) != len(labels):
        raise InputError(
            f"targets of {list(labels.shape)} do not fit an output of {list(output.shape)}",
            hint="choose another output with --output",
        )
    gaps = output.astype(np.float64).reshape(len(output), -1)
    gaps = gaps - labels.astype(np.float64).reshape(len(output), -1)
    if not np.isfinite(gaps).all():
        raise InputError("an output or a target is not finite, so the error has no value")
    return gaps


def _squared(output: Array, labels: Array, mask: Array | None) -> Array:
    del mask
    return np.asarray(np.mean(np.square(_gaps(output, labels)), axis=1, keepdims=True))


def _absolute(output: Array, labels: Array, mask: Array | None) -> Array:
    del mask
    return np.asarray(np.mean(np.abs(_gaps(output, labels)), axis=1, keepdims=True))


def mean(rows: Array, weights: Array) -> float:
    """The weighted mean of the first column."""
    return float(weights @ rows[:, 0] / weights.sum())


def share(rows: Array, weights: Array) -> float:
    """Right over judged; 0 where nothing was judged."""
    right, judged = weights @ rows
    return float(right / judged) if judged else 0.0


def macro_f1(rows: Array, weights: Array) -> float:
    """Mean over classes of 2 right / (predicted + labelled), classes that occur at all."""
    found, wanted = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    size = int(rows.max()) + 1
    hit = found == wanted
    right = np.bincount(wanted[hit], weights[hit], size)
    seen = np.bincount(found, weights, size) + np.bincount(wanted, weights, size)
    occurs = seen > 0
    return float(np.mean(2 * right[occurs] / seen[occurs]))


def _first_column(rows: Array) -> Array:
    return rows[:, 0] > 0


def _equal_columns(rows: Array) -> Array:
    return np.asarray(rows[:, 0] == rows[:, 1])


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_hits, mean, paired.of_shares, rank=2, share=True, right=_first_column),
    "top5": Metric(_top_hits, mean, paired.of_shares, rank=2, share=True, right=_first_column),
    "f1": Metric(
        _answers, macro_f1, paired.by_resampling, rank=2, share=True, right=_equal_columns
    ),
    "token-accuracy": Metric(_token_hits, share, paired.by_resampling, rank=3, share=True),
    "mse": Metric(_squared, mean, paired.of_means),
    "mae": Metric(_absolute, mean, paired.of_means),
}
