"""Whether a server may put several requests into one run of a model, found out by running it.

It may where the first axis of every input and output counts samples. That a size is called
variable does not say so, and a sample's answer may even depend on its neighbours: so a few samples
are run together and one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mipack.data.checks import sample_axes, shown
from mipack.errors import InputError
from mipack.records import Signature, TensorSpec
from mipack.runtime.session import Session

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]

MIXED = 0.05
"""From this difference on, relative to the output's largest value, neighbours are part of the
answer; below it is what quantisation by ranges taken over a batch makes."""
ROUNDING = 1e-4


@dataclass(frozen=True, slots=True)
class Batching:
    """`reason` says why a model does not batch ("" where it does); `spread` is the largest
    difference between answers alone and in company, relative to the output's largest value.
    `signature` is the model's, with the rank of every tensor."""

    signature: Signature
    reason: str
    spread: float

    @property
    def possible(self) -> bool:
        """Whether a server may batch."""
        return not self.reason


def find_batching(session: Session, declared: Signature, feeds: Feeds) -> Batching:
    """Run `feeds` together and sample by sample. InputError where the runtime refuses them."""
    answers = session.run(feeds)
    known = Signature(
        tuple(_ranked(spec, feeds[spec.name]) for spec in declared.inputs),
        tuple(_ranked(spec, np.asarray(answers[spec.name])) for spec in declared.outputs),
    )
    reason = _declared_reason(known)
    if reason:
        return Batching(known, reason, 0.0)
    samples = len(next(iter(feeds.values())))
    if samples == 1:  # in company with itself
        feeds = {name: np.concatenate([array, array]) for name, array in feeds.items()}
        samples, answers = 2, session.run(feeds)
    reason, spread = _compare(session, feeds, answers, samples)
    return Batching(known, reason, spread)


def _ranked(spec: TensorSpec, array: Array) -> TensorSpec:
    return spec if spec.shape is not None else replace(spec, shape=(None,) * array.ndim)


def _declared_reason(known: Signature) -> str:
    """What the signature itself says against batching."""
    for kind, specs in (("input", known.inputs), ("output", known.outputs)):
        for spec in specs:
            if not spec.shape:
                return f"{kind} {spec.name} has no axes"
            if isinstance(spec.shape[0], int):
                return (
                    f"the first axis of {kind} {spec.name} {shown(spec.shape)} is not a batch of "
                    "any size"
                )
    axes = sample_axes(known)
    if axes is None or any(axes.values()):
        return "the inputs' first axes do not all count samples"
    return ""


def _compare(
    session: Session, feeds: Feeds, together: Mapping[str, Array], samples: int
) -> tuple[str, float]:
    """(why not, the spread) from runs of one sample each."""
    for name, array in together.items():
        if not array.ndim or len(array) != samples:
            return f"output {name} has shape {shown(array.shape)} for {samples} samples", 0.0
    spread = 0.0
    for at in range(samples):
        try:
            alone = session.run({name: array[at : at + 1] for name, array in feeds.items()})
        except InputError as error:
            return f"it does not run on one sample: {error.args[0]}", 0.0
        for name, array in together.items():
            here = alone[name]
            if here.shape != array[at : at + 1].shape:
                return (
                    f"output {name} has shape {shown(here.shape)} for one sample, "
                    f"{shown(array.shape)} for {samples}",
                    0.0,
                )
            spread = max(spread, _difference(here[0], array[at]))
    if spread > MIXED:
        return (
            f"a sample's answer depends on its neighbours in the batch (by {100 * spread:.2g} % "
            "of the largest value)",
            spread,
        )
    return "", spread


def _difference(one: Any, other: Any) -> float:
    """The largest difference relative to the largest value; 0 or 1 for what is no float."""
    first, second = np.asarray(one), np.asarray(other)
    if first.dtype.kind != "f":
        return float(not np.array_equal(first, second))
    first, second = first.astype(np.float64), second.astype(np.float64)
    scale = float(np.max(np.abs(second[np.isfinite(second)]), initial=0.0))
    gap = np.abs(first - second)
    worst = float(np.max(gap[np.isfinite(gap)], initial=0.0))
    return worst / scale if scale else worst
