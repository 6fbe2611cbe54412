"""The stages after the cut: the refit, what it kept of the original, and advice."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from mipack.calibrate.taps import Answers
from mipack.couple.listing import listed
from mipack.data.dataset import Dataset
from mipack.errors import InputError
from mipack.evaluate.compare import Evaluation, evaluate
from mipack.graph.load import in_parts, signature
from mipack.graph.stepper import frontier_bytes
from mipack.material import Material
from mipack.refit.bottom_up import bottom_up, local
from mipack.refit.choose import Candidate, Choice, best
from mipack.result import Background
from mipack.select.criteria import REPAIRING
from mipack.select.decide import Decider
from mipack.select.evidence import Evidence
from mipack.select.request import Request
from mipack.surgery.keep import Keep

REFIT_BYTES = 2 << 30
"""Activations that the bottom-up refit may hold; with more data it uses fewer samples."""


def refitted(material: Material, evidence: Evidence | None, keep: Keep, plain: ir.Model) -> Choice:
    """The cut with its survivors refitted, unless that is worse on held-out rows.

    Raises InputError where refit is wanted and there is nothing to refit from.
    """
    first = Candidate("plain", plain)
    known = material.answers(lambda: material.held_out) if material.fit else Answers((), ())
    if not material.options.refit:
        return best([first], known, material.held_out if material.fit else [])
    if evidence is None:
        raise InputError(
            "refit needs calibration data or saved moments",
            hint="give --calib DATA, --moments FILE, or --no-refit",
        )
    coupling = material.prepared.coupling
    repair = material.options.criterion in REPAIRING
    start = local(coupling, evidence.sites, keep, plain, evidence.calibration, repair=repair)
    candidates = [first, Candidate("local", start.model, start.changed)]
    if repair:
        return best(candidates, known, material.held_out if material.fit else [])
    if material.fit is None:
        material.warn("refitted locally from saved moments; with --calib it is done bottom-up")
        return Choice(candidates[-1], {})
    fitted = material.batches(_affordable(material, material.fit))
    walked = bottom_up(
        coupling,
        evidence.sites,
        keep,
        start,
        fitted,
        material.held_out,
        material.rows,
        advance=material.say.advance,
    )
    candidates.append(Candidate("bottom-up", walked.model, walked.changed))
    choice = best(candidates, known, material.held_out)
    if choice.chosen.name != "bottom-up":
        material.warn(f"the {choice.chosen.name} weights were better on held-out rows")
    return choice


def _affordable(material: Material, fit: Dataset) -> Dataset:
    """As many samples as the cached activations of the refit may hold."""
    prepared = material.prepared
    each = 2 * frontier_bytes(prepared.model, prepared.coupling.probe.shapes) / prepared.samples
    most = max(1, int(REFIT_BYTES / max(each, 1)))
    if most >= fit.samples:
        return fit
    material.warn(f"refit uses {most} of {fit.samples} samples to stay within 2 GB")
    return fit.take(most, material.options.seed)


def held_out_quality(material: Material, final: ir.Model) -> Evaluation | None:
    """The final model against the original on held-out rows; None without data."""
    data = material.prepared.dataset
    if material.fit is None or data is None:
        return None
    found = evaluate(
        [("original", in_parts(material.prepared.model)), ("pruned", in_parts(final))],
        material.held_out,
        mask=data.mask,
        provider=material.provider,
    )
    return found.named(data.title)


def fidelity(found: Evaluation | None) -> dict[str, float | None]:
    """Agreement, KL and cosine to the original."""
    if found is None:
        return {}
    return {"agreement": found.agreement, "kl": found.kl, "cosine": found.cosine}


def background(material: Material, quality: Evaluation | None, released: ir.Model) -> Background:
    """What a report tells beside the result."""
    data, test = material.prepared.dataset, material.test
    changed = signature(material.prepared.original) != signature(released)
    groups = listed(material.prepared.coupling, material.prepared.samples)
    if data is None:
        return Background(groups, signature_changed=changed)
    apart = test is not None and test.samples > 0
    held = "held-out calibration samples" if apart else "the one calibration sample, also fitted to"
    return Background(groups, quality, held, data.description, data.digest, changed)


GOOD, POOR = 0.98, 0.90


def advise(
    material: Material, decider: Decider | None, measured: Mapping[str, float | None]
) -> None:
    """Below 90 % agreement: say so, and name the keep at which the curves predict 98 %.

    Disagreement grows with the root of the divergence; the constant is what was just measured.
    """
    agreement, kl = measured.get("agreement"), measured.get("kl")
    if agreement is None or agreement >= POOR:
        return
    text = f"only {agreement:.1%} of held-out answers agree with the original"
    options = material.options
    searched = options.max_drop is not None and not options.budgets()
    if decider is None or not kl or options.allocate != "information" or searched:
        material.warn(text)
        return
    target = ((1 - GOOD) / (1 - agreement)) ** 2 * decider.loss(decider.widths(options.request()))
    low, high = 0.0, 1.0
    for _ in range(7):
        share = (low + high) / 2
        loss = _loss_at(decider, options.request().at(keep=share))
        low, high = (share, high) if loss > target else (low, share)
    material.warn(f"{text}; --keep {high:.2f} is predicted to give {GOOD:.0%}")


def _loss_at(decider: Decider, request: Request) -> float:
    """The predicted loss of a budget; infinite where rounding leaves no widths that small."""
    try:
        return decider.loss(decider.widths(request))
    except InputError:
        return float("inf")
