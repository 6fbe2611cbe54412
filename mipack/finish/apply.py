"""One last step: a model in, the model of the runtime's own tool out, and what is to be said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from mipack.errors import InputError, MipackError
from mipack.finish.attention import attentions, rescale, scales, unlike
from mipack.finish.explicit import explicit
from mipack.finish.order import DYNAMIC, FUSE, HALF, STATIC
from mipack.graph.load import EXTERNAL_KEY, in_parts, load, save
from mipack.runtime.fusion import ATTENTION, MULTI_HEAD
from mipack.runtime.session import Feeds, Session
from mipack.runtime.workshop import work

QUANTISED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "ConvInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "QAttention",
    "MatMulNBits",
    "GatherBlockQuantized",
)
SAME = 1e-3
"""Largest relative change of an output that fusion, the same arithmetic in another order, may
make; sums of approximated Gelu included."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a step made of a model; `counts` as the tool tells them."""

    model: ir.Model
    notes: tuple[str, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Supply:
    """What steps run the model on: a few small batches to probe with (empty without data), batches
    to compare on, batches to calibrate with."""

    few: Sequence[Feeds]
    compare: Sequence[Feeds]
    calibrate: Iterable[Feeds]


def require_float(model: ir.Model, steps: Sequence[str], name: str) -> None:
    """InputError where the model has another precision than float already."""
    found = sorted({n.op_type for n in model.graph.all_nodes() if n.op_type in QUANTISED})
    precision = next((step for step in steps if step != FUSE), None)
    if found:
        raise InputError(
            f"{name} is already quantised: it holds {', '.join(found)}",
            hint=f"{steps[0]} starts from the float model",
        )
    weights = [v.const_value for v in model.graph.initializers.values() if v.const_value]
    halved = any(t.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) for t in weights)
    if precision and halved:
        raise InputError(
            f"{name} is already in half precision", hint=f"{precision} starts from the float model"
        )


def apply(
    step: str, model: ir.Model, following: Sequence[str], supply: Supply, folder: Path
) -> Applied:
    """Do one step; `following` are those after it. Files are made in `folder`.

    Raises UnsupportedError where the tool cannot treat the model, InputError where there is nothing
    for it to do.
    """
    if step == FUSE:
        return _fused(model, following, supply, folder)
    answer = _worked(step, model, folder, {}, supply.calibrate if step == STATIC else ())
    if not answer.counts["count"]:
        raise InputError(
            f"{step} finds nothing to do: the model has no "
            f"{'float weights' if step == HALF else 'product with constant weights'} for it",
            hint="int8-static quantises convolutions" if step == DYNAMIC else "leave it out",
        )
    return Applied(answer.model, tuple(_said(step, answer.counts)), answer.counts)


def _said(step: str, counts: Mapping[str, int]) -> Iterable[str]:
    """What the user is to know of a change of precision."""
    if step == HALF:
        yield f"{counts['count']} weights in half precision; inputs and outputs keep their types"
        yield "ONNX Runtime computes most half-precision ops in float on a CPU: smaller, not faster"
        return
    yield f"{counts['count']} layers with signed 8-bit weights, each channel scaled by itself"
    if counts["narrow"]:
        yield (
            "weights use 7 of the 8 bits: this processor adds 8-bit products in 16 bits, "
            "which saturate"
        )
    else:
        yield "weights use all 8 bits: exact here, but sums saturate on x86 without VNNI"
    if counts["left"]:
        yield (
            f"{counts['left']} convolutions stay in float: quantised dynamically they are slower "
            "(int8-static quantises them)"
        )


def _fused(model: ir.Model, following: Sequence[str], supply: Supply, folder: Path) -> Applied:
    """Fuse as much as leaves the answers as they are: attention, else only what is around it."""
    plain = explicit(model, supply.few)
    scale_of, count = scales(plain.model, plain.known), len(attentions(plain.model))
    before = _outputs(model, supply.compare)
    # Layers that are to be quantised stay ops of their own, outside the attention.
    forms = (MULTI_HEAD, "Attention") if {DYNAMIC, STATIC} & {*following} else ATTENTION
    refused: list[str] = []
    for form in (*(forms if count else ()), ""):
        try:
            made = _worked(FUSE, plain.model, folder, {"attention": form, "wanted": count})
            told = rescale(made.model, scale_of)
            change = _change(before, _outputs(made.model, supply.compare))
        except MipackError as error:
            refused.append(f"{form or 'without attention'}: {error.args[0]}")
            continue
        if change <= SAME:
            cross = unlike(plain.model, made.model)
            notes = [*_told(made, count, told, cross), *refused]
            return Applied(made.model, tuple(notes), made.counts)
        refused.append(
            f"fused as {form or 'it stands'} the outputs change by {change:.1e}: not used"
        )
    raise InputError(f"{FUSE} cannot treat this model: {refused[-1]}", hint="leave it out")


def _told(made: Applied, count: int, told: int, cross: int) -> Iterable[str]:
    counts = made.counts
    yield f"fused {counts['attention']} of {count} attention"
    yield f"fused {counts['norm']} normalisation and {counts['gelu']} Gelu"
    if not any(counts.values()):
        yield "nothing of this model fits the optimiser's patterns"
    if told:
        yield f"{told} attention ops keep the scale of the original: their head size is another"
    rest = count - counts["attention"] - cross
    if cross:
        yield (
            f"{cross} attention not fused: q is made from other positions than k (cross attention, "
            "or work that nobody reads was left out, which --keep-unread keeps)"
        )
    if rest > 0:
        said = made.notes or ("no pattern of the optimiser fits",)
        yield f"{rest} attention not fused: {'; '.join(said)}"


def _worked(
    step: str,
    model: ir.Model,
    folder: Path,
    settings: Mapping[str, Any],
    batches: Iterable[Feeds] = (),
) -> Applied:
    """The tool's model with the inputs and outputs as they were declared, and its counts."""
    source = folder / f"{step}.in.onnx"
    target = folder / f"{step}.onnx"
    for old in (target, target.with_name(f"{target.name}.data")):
        old.unlink(missing_ok=True)  # weights are appended to a file that is there
    save(model, source)
    answer = work(step, source, target, settings, batches)
    if not target.exists():
        return Applied(model, (), answer)
    made = passes.RemoveUnusedOpsetsPass()(load(target)).model
    made.ir_version = model.ir_version  # the tools write their own, which older runtimes refuse
    if model.meta.get(EXTERNAL_KEY):
        made.meta[EXTERNAL_KEY] = True
    _declare_like(model, made)
    return Applied(made, tuple(answer.pop("reasons", ())), answer)


def _declare_like(model: ir.Model, made: ir.Model) -> None:
    """Give inputs and outputs the declared types and sizes of the model that they came from."""
    for old, new in (
        *zip(model.graph.inputs, made.graph.inputs, strict=False),
        *zip(model.graph.outputs, made.graph.outputs, strict=False),
    ):
        if old.name == new.name and old.type == new.type:
            new.shape = old.shape


def _outputs(model: ir.Model, batches: Sequence[Feeds]) -> list[Any]:
    session = Session(in_parts(model))
    return [value for feeds in batches for value in session.run(feeds).values()]


def _change(before: Sequence[Any], after: Sequence[Any]) -> float:
    """The largest difference of float outputs, each relative to its own largest number."""
    worst = 0.0
    for old, new in zip(before, after, strict=True):
        if isinstance(old, np.ndarray) and old.dtype.kind == "f" and old.size:
            finite = np.isfinite(old)
            apart = np.abs(old - new)[finite].max(initial=0.0)
            size = np.abs(old)[finite].max(initial=0.0)
            worst = max(worst, float("inf") if np.isnan(apart) else apart / max(size, 1e-30))
    return worst
