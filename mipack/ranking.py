"""Ranking every group once, and writing a decision down as a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mipack.calibrate.backward import Backward
from mipack.calibrate.effects import Change, second_order
from mipack.calibrate.heads import Head
from mipack.calibrate.moments import Calibration
from mipack.calibrate.sites import Array
from mipack.couple.cost import Cost
from mipack.data.dataset import Dataset
from mipack.data.dims import dim_sizes
from mipack.errors import InputError
from mipack.material import Material
from mipack.options import Stopwatch
from mipack.select.criteria import OF_WEIGHTS
from mipack.select.decide import Decider, Decision
from mipack.select.evidence import Evidence
from mipack.select.measure import Meter
from mipack.select.plan import Plan
from mipack.select.request import Request

KL_SAMPLES, EFFECT_SAMPLES = 64, 256
"""Samples on which groups are cut alone: run, and to second order."""


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


def ranked(
    material: Material, evidence: Evidence | None, watch: Stopwatch, cost: Cost
) -> tuple[Decider, Evidence]:
    """Every group ranked, for any budget of `cost`; with the evidence, made up where there is none.

    Raises InputError where the criterion needs data and there is none.
    """
    options = material.options
    if evidence is None:
        evidence = _without_data(material)
    else:
        warn_of_little_data(material, evidence)
    meter = None
    if options.allocate == "information" and material.fit is not None:
        batches = material.batches(material.fit.take(KL_SAMPLES, options.seed))
        known = material.answers(lambda: batches)
        if known.head is not None:
            effects = None
            if evidence.signal == "fisher":
                effects = partial(_effects, material, known.heads, material.fit)
            meter = Meter(evidence, known, batches, options.refit, effects)
    count = len(material.groups) + len(material.averaged)
    with watch("rank groups", material.say, count):
        decider = Decider(
            evidence,
            material.groups,
            options.criterion,
            meter,
            material.say.advance,
            averaged=material.averaged,
            cost=cost,
            left=material.left,
        )
    return decider, evidence


def _effects(
    material: Material, heads: Sequence[Head], fit: Dataset, changes: Iterable[Change]
) -> Array:
    data, size = fit.take(EFFECT_SAMPLES, material.options.seed), material.options.batch_size
    coupling, seed = material.prepared.coupling, material.options.seed
    backward = Backward(coupling, material.sites, heads, material.rows, seed=seed)
    return second_order(backward, lambda: data.batches(size), changes)


def planned(material: Material, evidence: Evidence, request: Request, decision: Decision) -> Plan:
    """A decision, written down."""
    options, coupling, per = material.options, material.prepared.coupling, material.prepared.samples
    widths = {atom: decision.keep.size(atom) for atom in decision.keep.tables}
    return Plan(
        groups=tuple(replace(g, rotated=g.name in material.rotated) for g in decision.groups),
        model=material.prepared.digest,
        settings={
            "criterion": options.criterion,
            **options.of_criterion(),
            "signal": evidence.signal,
            "allocate": request.allocate,
            "budget": request.shares,
            "max_drop": options.max_drop,
            "shape": dict(options.shape),
            "width": request.width,
            "count_unread": options.count_unread,
            "round": options.round_to,
            "seed": options.seed,
            "data": evidence.calibration.data_key,
        },
        sizes=dim_sizes(material.prepared.signature, material.typical_feeds),
        macs=(coupling.cost.macs({}) // per, coupling.cost.macs(widths) // per),
    )


def _without_data(material: Material) -> Evidence:
    if material.options.criterion not in OF_WEIGHTS or material.options.refit:
        raise InputError(
            "pruning needs calibration data",
            hint="give --calib DATA; without data use --criterion magnitude --no-refit",
        )
    empty = Calibration({}, np.zeros((0, 0)), 0, "", "")
    return Evidence(material.prepared.coupling, material.sites, empty, seed=material.options.seed)
