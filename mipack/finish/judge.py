"""What a stage of finishing is worth: it runs, keeps the signature, is finite; quality and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from mipack.bench.loop import Comparison
from mipack.data.dataset import Batch
from mipack.errors import InputError, VerificationError
from mipack.evaluate.compare import Evaluation, evaluate
from mipack.gate import Drop, dropped
from mipack.graph.load import in_parts, signature, stored_bytes
from mipack.records import Signature

UNJUDGED = "not judged: there is no data"


@dataclass(frozen=True, slots=True)
class Stage:
    """The model after a step, against the original on the same held-out rows.

    `part`: whose gain it is: original, pruning, fusion or precision. `score` in units of `metric`
    (None without labels); `agreement` and `kl` (nats per row) None where they do not apply or
    there is no data; `ratio` of the time to the original's with its 95 % `interval`, None where
    nothing was timed.
    """

    name: str
    part: str
    bytes: int
    metric: str | None = None
    score: float | None = None
    agreement: float | None = None
    kl: float | None = None
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "part": self.part,
            "bytes": self.bytes,
            "metric": self.metric,
            "score": self.score,
            "agreement": self.agreement,
            "kl": self.kl,
            "ratio": self.ratio,
            "interval": None if self.interval is None else list(self.interval),
            "notes": list(self.notes),
        }

    def timed(self, race: Comparison) -> Stage:
        """With the time that a race of all stages measured; the original's ratio is 1."""
        if self.part == "original":
            return replace(self, ratio=1.0, interval=(1.0, 1.0))
        ratio = next(c.ratio for c in race.contrasts if c.name == self.name)
        return replace(self, ratio=ratio.value, interval=(ratio.low, ratio.high))


class Judge:
    """Compares models with the original on the same batches."""

    def __init__(
        self,
        original: ir.Model,
        batches: Sequence[Batch],
        *,
        real: bool,
        mask: str | None,
        provider: str,
        most: float | None,
    ) -> None:
        """`real`: the batches are data, not made up. `most`: the bound of --max-drop in points."""
        self._original, self._batches, self._real = original, batches, real
        self._mask, self._provider, self._most = mask, provider, most
        self._declared = signature(original)

    def first(self) -> Stage:
        """The stage of the original itself, from comparing it with itself.

        Raises InputError where it cannot be run, or too few rows are there to tell the bound.
        """
        found = self._compared(self._original)
        if self._most is not None and self._real:
            require_rows(dropped(found), self._most)
        return self._stage("original", "original", self._original, found, ())

    def stage(self, name: str, part: str, model: ir.Model, notes: Sequence[str]) -> Stage:
        """Check and measure a model. Raises VerificationError where it is not fit to be used."""
        _require_signature(name, self._declared, signature(model))
        try:
            found = self._compared(model)
        except InputError as error:
            raise VerificationError(
                f"{name}: {error.args[0]}", hint="nothing was written; leave this step out"
            ) from error
        odd = next((entry for entry in found.fidelity if entry.nonfinite), None)
        if odd is not None:
            raise VerificationError(
                f"{name}: output {odd.output} is not finite for {odd.nonfinite:,} of "
                f"{found.samples:,} samples where the original's is",
                hint="nothing was written; leave this step out",
            )
        self._require_drop(name, found)
        return self._stage(name, part, model, found, notes)

    def _compared(self, model: ir.Model) -> Evaluation:
        return evaluate(
            [("the original", in_parts(self._original)), ("this model", in_parts(model))],
            self._batches,
            mask=self._mask,
            provider=self._provider,
        )

    def _require_drop(self, name: str, found: Evaluation) -> None:
        if self._most is None:
            return
        lost = dropped(found)
        if lost.points > self._most:
            raise VerificationError(
                f"{name} loses {lost}, more than the {self._most:g} of --max-drop",
                hint="nothing was written; leave this step out, prune less, or allow more",
            )

    def _stage(
        self, name: str, part: str, model: ir.Model, found: Evaluation, notes: Sequence[str]
    ) -> Stage:
        size = stored_bytes(model)
        if not self._real:
            return Stage(name, part, size, notes=(*notes, UNJUDGED))
        score = found.score
        return Stage(
            name,
            part,
            size,
            metric=None if score is None else score.metric,
            score=None if score is None else score.second,
            agreement=found.agreement,
            kl=found.kl,
            notes=tuple(notes),
        )


def require_rows(same: Drop, most: float) -> None:
    """InputError where one held-out answer is more than the bound: it could be met by luck only."""
    step = 100.0 / max(same.rows, 1)
    if same.metric != "relative error" and 0 < most < step:
        raise InputError(
            f"--max-drop {most:g}: the data is too small to tell, for one of {same.rows} held-out "
            f"answers is {step:.2g} points",
            hint=f"give more samples (--samples), or a bound above {step:.2g}",
        )


def _require_signature(name: str, before: Signature, after: Signature) -> None:
    for kind in ("inputs", "outputs"):
        for old, new in zip(getattr(before, kind), getattr(after, kind), strict=False):
            if (old.name, old.dtype) != (new.name, new.dtype):
                raise VerificationError(
                    f"{name}: {kind[:-1]} {old.name} {old.dtype} became {new.name} {new.dtype}",
                    hint="nothing was written; leave this step out",
                )
    if len(before.inputs) != len(after.inputs) or len(before.outputs) != len(after.outputs):
        raise VerificationError(
            f"{name}: the number of inputs or outputs changed", hint="nothing was written"
        )
