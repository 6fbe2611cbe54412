"""How much a cut costs on samples that decided nothing else: what `--max-drop` bounds."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import onnx_ir as ir

from mipack.errors import InputError
from mipack.evaluate.compare import Evaluation, evaluate
from mipack.graph.load import in_parts
from mipack.material import GATE, Material


@dataclass(frozen=True, slots=True)
class Drop:
    """Points lost against the original: of the task metric where there are labels, else of the
    agreement with it, else (values) the relative error in percent; over `rows` answers."""

    points: float
    metric: str
    rows: int

    def __str__(self) -> str:
        return f"{self.points:.2f} points of {self.metric} on {self.rows} held-out answers"


def drop(material: Material, model: ir.Model) -> Drop:
    """What a model loses on the gate's samples.

    Raises InputError where no output can be compared, or labels and outputs do not fit together.
    """
    found = evaluate(
        [("original", in_parts(material.prepared.original)), ("pruned", in_parts(model))],
        material.batches(material.gate),
        mask=material.gate.mask if material.gate else None,
        provider=material.provider,
    )
    return dropped(found)


def dropped(found: Evaluation) -> Drop:
    """What an evaluation shows lost. Raises InputError where no output can be compared."""
    score, first = found.score, found.fidelity[0]
    if score is not None:
        return Drop(-score.difference, score.metric, found.samples)
    if first.agreement is not None:
        return Drop(100 * (1 - first.agreement), "agreement", first.rows)
    if first.relative_l2 is not None:
        return Drop(100 * first.relative_l2, "relative error", found.samples)
    raise InputError(
        "--max-drop has nothing to measure: no output of the model can be compared",
        hint="give labels with --labels or --label-column, or another budget",
    )


def require_gate(material: Material) -> None:
    """Raises InputError where --max-drop cannot be measured: no data, too few answers, no metric.

    Two models that differ in one answer differ by 100 / answers points; a bound below that could
    only be met by luck.
    """
    most = material.options.max_drop
    if most is None:
        return
    if not all(part and part.samples for part in (material.gate, material.fit)):
        raise InputError(
            "--max-drop is measured on held-out samples, and there are none",
            hint="give --calib DATA with more samples",
        )
    same = drop(material, material.prepared.original)
    step = 100.0 / max(same.rows, 1)
    if same.metric != "relative error" and 0 < most < step:
        enough = ceil(100.0 / most / GATE)
        raise InputError(
            f"--max-drop {most:g}: the calibration data is too small to tell, for one of "
            f"{same.rows} held-out answers is {step:.2g} points",
            hint=f"give about {enough} samples or more (--samples), or a bound above {step:.2g}",
        )
