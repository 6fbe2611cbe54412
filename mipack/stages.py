"""The pieces that `pipeline.prune` puts in a row, and the material that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.calibrate.gradients import gradient_moments
from mipack.calibrate.moments import (
    Calibration,
    GradientMoments,
    load_calibration,
    model_key,
    wave_bytes,
)
from mipack.calibrate.pairs import operands_of
from mipack.calibrate.rows import RowMap
from mipack.calibrate.sites import Array, Site, sites_of
from mipack.calibrate.taps import Answers, Batches, answers, calibrate
from mipack.couple.solve import Group
from mipack.data.dataset import Batch, Dataset
from mipack.data.synthetic import dim_sizes
from mipack.errors import InputError, PlanMismatch, UnsupportedError
from mipack.evaluate.compare import evaluate
from mipack.graph.load import runnable, weight_bytes, weight_count
from mipack.options import Progress, PruneOptions, Stopwatch
from mipack.prepare import Prepared
from mipack.refit.bottom_up import bottom_up, local
from mipack.refit.choose import Candidate, Choice, best
from mipack.refit.stepper import frontier_bytes
from mipack.result import Size
from mipack.runtime.session import Session, working_provider
from mipack.select.allocate import uniform
from mipack.select.criteria import OF_GRADIENTS, OF_ROWS, OF_SIGNAL, OF_WEIGHTS
from mipack.select.decide import Decider, Request, chosen_groups
from mipack.select.evidence import CriterionOptions, Evidence
from mipack.select.measure import Meter
from mipack.select.plan import Plan
from mipack.select.rotate import rotations_of, turned
from mipack.surgery.keep import Keep
from mipack.surgery.rotate import rotate
from mipack.verify.oracle import farthest, tolerance_of

HELD_OUT = 0.125
"""Share of the calibration samples that fits nothing and judges everything."""
KL_SAMPLES = 64
"""Samples on which groups are cut alone."""
PROOF_SAMPLES = 32
ROTATING = ("mi",)
"""Criteria that take groups without a basis of their own along principal directions."""
REFIT_BYTES = 2 << 30
"""Activations that the bottom-up refit may hold; with more data it uses fewer samples."""


@dataclass(frozen=True, slots=True)
class MadeBatch:
    """Feeds that no data stands behind."""

    feeds: Mapping[str, Array]
    samples: int


class Material:
    """A prepared model with its data split, its groups and sites; lists of batches made once."""

    def __init__(
        self, prepared: Prepared, options: PruneOptions, say: Progress, replay: Plan | None
    ) -> None:
        self.prepared, self.options, self.say = prepared, options, say
        self._warnings: list[str] = []
        self.rotated: frozenset[str] = frozenset()
        self.groups, self.averaged = self._chosen(replay)
        read = (*prepared.coupling.free, *self.averaged)
        self.sites: tuple[Site, ...] = sites_of(prepared.coupling, read)
        self.operands = operands_of(prepared.coupling, prepared.coupling.free)
        data = prepared.dataset
        self.fit: Dataset | None = None
        self.test: Dataset | None = None
        if data is not None:
            self.fit, self.test = data.split(HELD_OUT, options.seed)
        names = [spec.name for spec in prepared.signature.inputs]
        self.rows = RowMap(prepared.coupling, names, data.mask if data else None)
        self.provider = working_provider(options.provider)
        for text in prepared.warnings:
            self.warn(text)

    def _chosen(self, replay: Plan | None) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """Groups to allocate to, and those averaged over that are cut too."""
        coupling, options = self.prepared.coupling, self.options
        if replay is not None:
            return (), tuple(group for group in replay.tables(coupling) if group.width)
        wanted = options.width is not None
        if wanted and not coupling.widths:
            self.warn("--width: nothing averages over an axis that could be cut")
        return chosen_groups(coupling, options.only, options.exclude, averaged=wanted)

    def warn(self, text: str) -> None:
        """Tell now, and again in the result."""
        self._warnings.append(text)
        self.say.warn(text)

    def warnings(self) -> tuple[str, ...]:
        """All so far."""
        return tuple(self._warnings)

    def batches(self, data: Dataset | None) -> list[Batch]:
        """All batches of some data."""
        return list(data.batches(self.options.batch_size)) if data else []

    @cached_property
    def held_out(self) -> list[Batch]:
        """Held-out batches (the fitted ones where there is a single sample)."""
        return self.batches(self.test if self.test and self.test.samples else self.fit)

    @cached_property
    def proof_batches(self) -> list[Any]:
        """Real batches for the proof, of sizes that were not probed."""
        if self.fit is None:
            return [MadeBatch(self.prepared.feeds, self.prepared.samples)]
        return self.batches(self.fit.take(PROOF_SAMPLES, self.options.seed))

    def announce(self, replay: Plan | None) -> None:
        """What the budget leaves, before anything costs time."""
        if replay is not None:
            if replay.model != self.prepared.digest:
                self.say.note("the plan was made for another model of this structure")
            return
        cost = self.prepared.coupling.cost
        request = self.options.request()
        if request.own:
            self.say.note(f"{len(self.groups)} groups to cut; the criterion finds their widths")
            return
        held = uniform(self.averaged, request.width or 1.0)
        budget = request.budget(self.groups, cost, held)
        share = budget.target / max(budget.full, 1)
        self.say.note(
            f"{len(self.groups) + len(self.averaged)} groups to cut; "
            f"the budget leaves {share:.1%} of the {budget.of}"
        )

    def sizes(self, keep: Keep) -> tuple[Size, Size]:
        """Predicted sizes before and after a cut."""
        cost, per = self.prepared.coupling.cost, self.prepared.samples
        model = self.prepared.model
        widths = {atom: keep.size(atom) for atom in keep.tables}
        before = Size(cost.macs({}) // per, weight_count(model), weight_bytes(model))
        fewer = cost.params({}) - cost.params(widths)
        each = before.bytes / max(before.params, 1)
        after = Size(
            cost.macs(widths) // per, before.params - fewer, round(before.bytes - fewer * each)
        )
        return before, after

    def answers(self, batches: Batches) -> Answers:
        """What the original says in one pass over these batches."""
        with runnable(self.prepared.model) as source:
            session = Session(source, provider=self.provider)
        outputs = [spec.name for spec in self.prepared.signature.outputs]
        return answers(session, outputs, batches)


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
            gradients = _gradients(material, lambda: fit.batches(size), known)
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


def _gradients(
    material: Material, batches: Batches, known: Answers
) -> Mapping[str, GradientMoments]:
    """Exact gradients; none, said once, where an op has no torch function or nothing is to differ
    in (then selection goes by what forward passes tell)."""
    try:
        return gradient_moments(
            material.prepared.coupling,
            material.sites,
            batches,
            known,
            material.rows,
            seed=material.options.seed,
            advance=material.say.advance,
            warn=material.warn,
        )
    except (UnsupportedError, InputError) as error:
        material.warn(f"no exact gradients ({error}): selection uses forward passes alone")
        return {}


AGREES = 0.5
"""Share of labels that a model for them gives at least."""


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
        return gradient_moments(
            material.prepared.coupling,
            material.sites,
            lambda: fit.batches(size),
            known,
            material.rows,
            labels=labels,
            seed=material.options.seed,
            advance=material.say.advance,
            warn=material.warn,
        )
    except UnsupportedError as error:
        raise InputError(
            f"--criterion {criterion} needs gradients: {error}",
            hint="wanda and mi --signal identity need forward passes alone",
        ) from error


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


def warn_of_little_data(material: Material, evidence: Evidence) -> None:
    """Fewer rows than a group is wide still works (the sums are regularised), but poorly."""
    thin = [
        site
        for site in evidence.sites
        if evidence.calibration.moments[site.name].count < site.features
    ]
    if thin:
        count = int(evidence.calibration.moments[thin[0].name].count)
        material.warn(
            f"few calibration rows: {count} for the {thin[0].features} features of "
            f"{thin[0].name}; more samples would give a better model"
        )


def decide(material: Material, evidence: Evidence | None, watch: Stopwatch) -> tuple[Plan, Decider]:
    """Rank every group, allocate the budget, choose the units.

    Raises InputError where the criterion needs data and there is none, or the budget is out of
    reach.
    """
    options, prepared = material.options, material.prepared
    if evidence is None:
        evidence = _without_data(material)
    else:
        warn_of_little_data(material, evidence)
    meter = None
    if options.allocate == "information" and material.fit is not None:
        batches = material.batches(material.fit.take(KL_SAMPLES, options.seed))
        known = material.answers(lambda: batches)
        if known.head is not None:
            meter = Meter(evidence, known, batches, options.refit).kl
    request = options.request()
    count = len(material.groups) + len(material.averaged)
    with watch("rank groups", material.say, count):
        decider = Decider(
            evidence,
            material.groups,
            options.criterion,
            meter,
            material.say.advance,
            averaged=material.averaged,
        )
    decision = decider.decide(request)
    coupling = prepared.coupling
    widths = {atom: decision.keep.size(atom) for atom in decision.keep.tables}
    per = prepared.samples
    plan = Plan(
        groups=tuple(replace(g, rotated=g.name in material.rotated) for g in decision.groups),
        model=prepared.digest,
        settings={
            "criterion": options.criterion,
            **options.of_criterion(),
            "signal": evidence.signal,
            "allocate": request.allocate,
            "budget": {request.kind: request.share},
            "width": request.width,
            "round": options.round_to,
            "seed": options.seed,
            "data": evidence.calibration.data_key,
        },
        sizes=_typical_sizes(material),
        macs=(coupling.cost.macs({}) // per, coupling.cost.macs(widths) // per),
    )
    return plan, decider


def _typical_sizes(material: Material) -> dict[str, int]:
    """Sizes of the dynamic dimensions in a batch from the middle of the data."""
    if material.fit is None:
        return dict(material.prepared.sizes)
    signature, batches = material.prepared.signature, material.fit.batches
    sizes = [dim_sizes(signature, b.feeds) for b in batches(material.options.batch_size)]
    return sizes[len(sizes) // 2]


def _without_data(material: Material) -> Evidence:
    if material.options.criterion not in OF_WEIGHTS or material.options.refit:
        raise InputError(
            "pruning needs calibration data",
            hint="give --calib DATA; without data use --criterion magnitude --no-refit",
        )
    empty = Calibration({}, np.zeros((0, 0)), 0, "", "")
    return Evidence(material.prepared.coupling, material.sites, empty, seed=material.options.seed)


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
    start = local(coupling, evidence.sites, keep, plain, evidence.calibration)
    candidates = [first, Candidate("local", start.model, start.changed)]
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


def fidelity(material: Material, final: ir.Model) -> dict[str, float | None]:
    """Agreement, KL and cosine to the original on held-out rows."""
    if material.fit is None:
        return {}
    with runnable(material.prepared.model) as first, runnable(final) as second:
        found = evaluate(
            [("original", first), ("pruned", second)],
            material.held_out,
            mask=material.prepared.dataset.mask if material.prepared.dataset else None,
            provider=material.provider,
        )
    return {"agreement": found.agreement, "kl": found.kl, "cosine": found.cosine}


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
    if decider is None or not kl or options.allocate != "information":
        material.warn(text)
        return
    target = ((1 - GOOD) / (1 - agreement)) ** 2 * decider.loss(decider.widths(options.request()))
    low, high = 0.0, 1.0
    for _ in range(7):
        share = (low + high) / 2
        loss = _loss_at(decider, options.request().at(share))
        low, high = (share, high) if loss > target else (low, share)
    material.warn(f"{text}; --keep {high:.2f} is predicted to give {GOOD:.0%}")


def _loss_at(decider: Decider, request: Request) -> float:
    """The predicted loss of a budget; infinite where rounding leaves no widths that small."""
    try:
        return decider.loss(decider.widths(request))
    except InputError:
        return float("inf")
