"""The second step of trust: the final model is the proven cut with other values in known weights.

Structure: the same nodes and initializers, but for values that refit reports and the bias Adds (or
bias operands) that it put in. Behaviour: it loads, keeps the signature, is finite where the
original is, and is no worse than the unrefitted cut on held-out rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from mipack.calibrate.taps import BatchLike
from mipack.errors import VerificationError
from mipack.graph.load import runnable, signature
from mipack.refit.choose import Choice
from mipack.result import Check
from mipack.runtime.session import Session


def verify(
    original: ir.Model, proven: ir.Model, choice: Choice, batches: Sequence[BatchLike]
) -> tuple[Check, ...]:
    """Every check of the chosen model against the original and the proven, unrefitted cut.

    Raises VerificationError for the first that fails; nothing is to be written then.
    """
    final, changed = choice.chosen.model, frozenset(choice.chosen.changed)
    checks = (
        _structure(proven, final, changed),
        _signature(original, final),
        _finite(original, final, batches),
        _no_worse(choice.divergence, choice.chosen.name),
    )
    for check in checks:
        if not check.passed:
            raise VerificationError(f"{check.name}: {check.detail}", hint="nothing was written")
    return checks


def _structure(proven: ir.Model, final: ir.Model, changed: frozenset[str]) -> Check:
    name = "structure: only reported weights differ from the proven cut"
    ours, theirs = final.graph.initializers, proven.graph.initializers
    for key, value in ours.items():
        if key in changed:
            continue
        if key not in theirs or not _same(value, theirs[key]):
            return Check(name, False, f"initializer {key} differs")
    known = {node.name: node for node in proven.graph}
    added = 0
    for node in final.graph:
        twin = known.pop(node.name, None)
        if twin is None:
            operands = [v.name for v in node.inputs if v is not None]
            if node.op_type != "Add" or not any(v in changed for v in operands):
                return Check(name, False, f"node {node.name} is new")
            added += 1
        elif node.op_type != twin.op_type or _attributes(node) != _attributes(twin):
            return Check(name, False, f"node {node.name} differs")
    if known:
        return Check(name, False, f"node {next(iter(known))} is missing")
    return Check(name, True, f"{len(changed)} refitted weights, {added} bias additions")


def _same(a: ir.Value, b: ir.Value) -> bool:
    if a.const_value is b.const_value:
        return True
    if a.const_value is None or b.const_value is None:
        return False
    return a.const_value.tobytes() == b.const_value.tobytes()


def _attributes(node: ir.Node) -> str:
    return str(sorted((k, str(v)) for k, v in node.attributes.items()))


def _signature(original: ir.Model, final: ir.Model) -> Check:
    same = signature(original) == signature(final)
    return Check("signature: inputs and outputs as before", same, "same" if same else "changed")


def _finite(original: ir.Model, final: ir.Model, batches: Sequence[BatchLike]) -> Check:
    name = "runs, and is finite wherever the original is"
    sessions = []
    for model in (original, final):
        with runnable(model) as source:
            sessions.append(Session(source))
    for batch in batches:
        before, after = (session.run(batch.feeds) for session in sessions)
        for key, value in before.items():
            if not _finite_like(value, after[key]):
                return Check(name, False, f"output {key} is not")
    return Check(name, True, f"{len(batches)} batches")


def _finite_like(before: object, after: object) -> bool:
    if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray):
        return True
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    if before.dtype.kind != "f":
        return True
    return bool(np.isfinite(after[np.isfinite(before)]).all())


def _no_worse(divergence: Mapping[str, float], chosen: str) -> Check:
    name = "no worse than the unrefitted cut on held-out rows"
    if not divergence:
        return Check(name, True, "no output to compare")
    before, after = divergence.get("plain", float("inf")), divergence[chosen]
    return Check(name, after <= before, f"KL {after:.3g} against {before:.3g}")
