"""What the run learns of the model from its data: moments, gradients, principal directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mipack.calibrate.gradients import gradient_moments
from mipack.calibrate.moments import (
    Calibration,
    GradientMoments,
    load_calibration,
    model_key,
    wave_bytes,
)
from mipack.calibrate.sites import Array
from mipack.calibrate.taps import Answers, calibrate
from mipack.data.dataset import Dataset
from mipack.errors import InputError, PlanMismatch, UnsupportedError
from mipack.material import Material
from mipack.options import Stopwatch
from mipack.select.criteria import OF_GRADIENTS, OF_ROWS, OF_SIGNAL
from mipack.select.evidence import CriterionOptions, Evidence
from mipack.select.plan import Plan
from mipack.select.rotate import rotations_of, turned
from mipack.surgery.rotate import rotate
from mipack.verify.oracle import farthest, tolerance_of

ROTATING = ("mi",)
"""Criteria that take groups without a basis of their own along principal directions."""
AGREES = 0.5
"""Share of labels that a model for them gives at least."""


def collect(material: Material, watch: Stopwatch) -> Evidence | None:
    """Moments of every site: saved ones, or one pass over the data. None where there are neither.

    Raises PlanMismatch for saved moments of another model or other data.
    """
    options, prepared, say = material.options, material.prepared, material.say
    saved = options.moments if options.moments and options.moments.exists() else None
    key = model_key(prepared.digest, material.sites)
    data_key = material.fit.digest if material.fit else None
    if saved:
        calibration = load_calibration(saved, key, data_key)
    elif material.fit is None or data_key is None:
        return None
    else:
        calibration = _calibrate(material, material.fit, (key, data_key), watch)
        if options.moments:
            calibration.save(options.moments)
    signal = options.signal
    if signal in ("auto", "fisher"):
        signal = "fisher" if calibration.gradients else "identity"
    told = CriterionOptions(**options.of_criterion())
    evidence = Evidence(prepared.coupling, material.sites, calibration, signal, options.seed, told)
    say.note(f"moments of {len(material.sites)} sites over {calibration.samples} samples")
    return evidence


def _calibrate(
    material: Material, fit: Dataset, keys: tuple[str, str], watch: Stopwatch
) -> Calibration:
    size = material.options.batch_size
    with watch("calibrate: plain pass", material.say):
        known = material.answers(lambda: fit.batches(size))
    mask = material.prepared.dataset.mask if material.prepared.dataset else None
    axes = [material.prepared.coupling.axes[site.linear.x] for site in material.sites]
    if mask is not None and not any(map(material.rows.reaches, axes)):
        material.warn(f"the mask {mask} reaches no layer by its axes: padding counts as data")
    needed = wave_bytes(material.sites, 2) / 2**20
    material.say.note(f"calibration sums take {needed:.0f} MB")
    gradients: Mapping[str, GradientMoments] = {}
    criterion, signal = material.options.criterion, material.options.signal
    if criterion in OF_GRADIENTS:
        with watch("calibrate: gradients", material.say, fit.samples):
            gradients = _mask_gradients(material, fit, known)
    elif criterion in OF_SIGNAL and signal in ("auto", "fisher"):
        with watch("calibrate: gradients", material.say, fit.samples):
            gradients = _gradients(material, fit, known)
    with watch("calibrate: moments", material.say, fit.samples):
        found = calibrate(
            material.prepared.coupling,
            material.sites,
            lambda: fit.batches(size),
            known,
            material.rows,
            keys=keys,
            operands=material.operands,
            sample=material.options.seed if criterion in OF_ROWS else None,
            batch_bytes=4 * size // material.prepared.samples,
            provider=material.provider,
            advance=material.say.advance,
        )
    return replace(found, gradients=gradients)


def _gradients(material: Material, fit: Dataset, known: Answers) -> Mapping[str, GradientMoments]:
    """Exact gradients; none, said once, where an op has no torch function or nothing is to differ
    in (then selection goes by what forward passes tell)."""
    try:
        return _gradient_moments(material, fit, known)
    except (UnsupportedError, InputError) as error:
        material.warn(f"no exact gradients ({error}): selection uses forward passes alone")
        return {}


def _mask_gradients(
    material: Material, fit: Dataset, known: Answers
) -> Mapping[str, GradientMoments]:
    """The gradients that a criterion cannot do without: of the labels' loss where there are labels,
    else of the model's own answers.

    Raises InputError, naming node and op, where the model has no gradients.
    """
    size, criterion = material.options.batch_size, material.options.criterion
    labels = None
    if fit.labels is not None and known.head is not None and known.head.kind != "values":
        labels = [batch.labels for batch in fit.batches(size) if batch.labels is not None]
        said = [known.head.scores(o[known.head.name]).argmax(1) for o in known.outputs]
        share = float((np.concatenate(said) == np.concatenate(labels)).mean())
        material.say.note(f"{criterion}: gradients of the labels' loss ({share:.1%} are answered)")
        if share < AGREES:
            material.warn(
                f"only {share:.1%} of the labels are the model's answers: do they number the "
                "classes as the model does? (--classes)"
            )
    else:
        material.say.note(
            f"{criterion}: no labels of classes; gradients by the model's own answers"
        )
    try:
        return _gradient_moments(material, fit, known, labels)
    except UnsupportedError as error:
        raise InputError(
            f"--criterion {criterion} needs gradients: {error}",
            hint="wanda and mi --signal identity need forward passes alone",
        ) from error


def _gradient_moments(
    material: Material, fit: Dataset, known: Answers, labels: Sequence[Array] | None = None
) -> Mapping[str, GradientMoments]:
    return gradient_moments(
        material.prepared.coupling,
        material.sites,
        lambda: fit.batches(material.options.batch_size),
        known,
        material.rows,
        labels=labels,
        seed=material.options.seed,
        advance=material.say.advance,
        warn=material.warn,
    )


def rotated(material: Material, evidence: Evidence | None, replay: Plan | None) -> Evidence | None:
    """The evidence, and the model of `material`, with the dims of every group that has no basis of
    its own along their principal directions; where a plan is replayed, of the groups it says.

    Raises PlanMismatch where a plan needs the rotation and there are no moments to find it.
    """
    wanted = material.groups if material.options.criterion in ROTATING else ()
    if replay is not None:
        names = {g.name for g in replay.groups if g.rotated and g.kept < g.size}
        wanted = tuple(g for g in material.prepared.coupling.free if g.name in names)
        if len(wanted) and evidence is None:
            raise PlanMismatch(
                f"the plan keeps principal dims ({wanted[0].name}), which moments tell",
                hint="give --calib DATA or --moments FILE of the run that made the plan",
            )
    found = rotations_of(evidence, wanted) if evidence is not None else []
    if evidence is None or not found:
        return evidence
    before = material.prepared.coupling
    coupling = rotate(before, found)
    error = farthest(before.model, coupling.model, [b.feeds for b in material.proof_batches])
    if error > tolerance_of(before):
        material.warn(f"dims inside heads stay as they are: rotating them changes {error:.1e}")
        return evidence
    material.prepared = replace(material.prepared, coupling=coupling)
    material.rotated = frozenset(rotation.frame.group.name for rotation in found)
    material.say.note(f"the dims of {len(found)} groups are rotated to their principal directions")
    return turned(evidence, coupling, found)
