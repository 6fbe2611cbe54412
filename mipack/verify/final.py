"""The second step of trust: the final model is the proven cut with other values in known weights.

Structure: the same nodes and initializers, but for values that refit reports and the bias Adds (or
bias operands) that it put in. Behaviour: it loads, keeps the signature, is finite where the
original is, and is no worse than the unrefitted cut on held-out rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from mipack.calibrate.sites import Array
from mipack.calibrate.taps import BatchLike
from mipack.couple.solve import Coupling
from mipack.errors import InputError, VerificationError
from mipack.graph.load import in_parts, signature
from mipack.layout import Term
from mipack.refit.choose import Choice
from mipack.result import Check
from mipack.runtime.session import Feeds, Session
from mipack.surgery.keep import Keep
from mipack.verify.structure import additions, difference


def verify(
    original: ir.Model, proven: ir.Model, choice: Choice, batches: Sequence[BatchLike]
) -> tuple[Check, ...]:
    """Every check of the chosen model against the original and the proven, unrefitted cut.

    Raises VerificationError for the first that fails; nothing is to be written then.
    """
    final, changed = choice.chosen.model, frozenset(choice.chosen.changed)
    steps: tuple[Callable[[], Check], ...] = (
        lambda: _structure(proven, final, changed),
        lambda: _signature(original, final),
        lambda: _finite(original, final, batches),
        lambda: _no_worse(choice.divergence, choice.chosen.name),
    )
    checks: list[Check] = []
    for step in steps:
        checks.append(step())
        if not checks[-1].passed:
            text = f"{checks[-1].name}: {checks[-1].detail}"
            raise VerificationError(text, hint="nothing was written")
    return tuple(checks)


def verify_released(
    wrapped: ir.Model, released: ir.Model, coupling: Coupling, keep: Keep, batch: BatchLike
) -> Check:
    """The model with its new signature gives what the wrapped one gave, at the kept positions.

    Raises VerificationError where it does not.
    """
    name = "signature: changed only where --allow-signature lets it"
    sessions = [Session(in_parts(model)) for model in (wrapped, released)]
    want = sessions[0].run(batch.feeds)
    got = sessions[1].run(kept_feeds(batch.feeds, coupling, keep))
    for output, value in got.items():
        if not np.array_equal(value, _kept(want[output], coupling.axes[output], keep)):
            text = f"{name}: output {output} differs"
            raise VerificationError(text, hint="nothing was written; please report this model")
    return Check(name, True, f"{len(got)} outputs equal on a batch")


def kept_feeds(feeds: Feeds, coupling: Coupling, keep: Keep) -> dict[str, Array]:
    """Feeds of the original as a model takes them whose own signature was cut."""
    return {name: _kept(v, coupling.axes.get(name, ()), keep) for name, v in feeds.items()}


def _kept(value: Array, axes: Sequence[Term], keep: Keep) -> Array:
    for axis, term in enumerate(axes):
        if keep.cuts(term):
            value = np.take(value, keep.flat(term), axis)
    return value


def _structure(proven: ir.Model, final: ir.Model, changed: frozenset[str]) -> Check:
    name = "structure: only reported weights differ from the proven cut"
    problem = difference(proven.graph, final.graph, changed)
    added = additions(proven.graph, final.graph)
    found = f"{len(changed)} refitted weights, {added} bias additions"
    return Check(name, not problem, problem or found)


def _signature(original: ir.Model, final: ir.Model) -> Check:
    same = signature(original) == signature(final)
    return Check("signature: inputs and outputs as before", same, "same" if same else "changed")


def _finite(original: ir.Model, final: ir.Model, batches: Sequence[BatchLike]) -> Check:
    name = "runs, and is finite wherever the original is"
    try:
        odd = _not_finite(original, final, batches)
    except InputError as error:
        return Check(name, False, str(error))
    return Check(name, not odd, f"output {odd} is not" if odd else f"{len(batches)} batches")


def _not_finite(original: ir.Model, final: ir.Model, batches: Sequence[BatchLike]) -> str:
    """The first output that is finite in the original only, or has another shape; "" if none."""
    sessions = [Session(in_parts(model)) for model in (original, final)]
    for batch in batches:
        before, after = (session.run(batch.feeds) for session in sessions)
        for key, value in before.items():
            if not _finite_like(value, after[key]):
                return key
    return ""


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
