"""prune(): the stages in a row.

load -> canonical -> probe -> couple -> calibrate -> score -> allocate -> plan -> cut -> prove ->
refit -> verify -> leave out what nobody reads. Each stage is a plain function of what the ones
before it returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import onnx_ir as ir

from mipack.data.dataset import Dataset, ReadOptions
from mipack.gate import require_gate
from mipack.gather import collect, rotated
from mipack.graph.load import weight_bytes, weight_count
from mipack.lossless import Left, count, foresee, leave_out
from mipack.material import Material
from mipack.options import Logged, Progress, PruneOptions, Settings, Stopwatch, checked
from mipack.prepare import Data, Source, open_model, path_of, prepare, read_data
from mipack.result import Background, Check, PruneResult, Size
from mipack.runtime.machine import peak_memory, reset_peak_memory
from mipack.select.evidence import Evidence
from mipack.select.plan import Plan, load_plan
from mipack.settle import Settled, promised, settle
from mipack.stages import advise, background, fidelity, held_out_quality, refitted
from mipack.surgery.cut import cut
from mipack.surgery.interface import unwrap
from mipack.surgery.keep import Keep
from mipack.verify.final import verify, verify_released
from mipack.verify.oracle import Proof, prove


def prune(
    model: Source | str,
    calib: Data | None = None,
    *,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
    decide_only: bool = False,
    **settings: Unpack[Settings],
) -> PruneResult:
    """Make a model smaller; nothing is written until `PruneResult.save`.

    `model` is a path, a ModelProto, an onnx-ir model or an onnx-graphsurgeon Graph; `calib` a path,
    a Dataset or an iterable of feeds, read as `read` says; `settings` are the fields of
    `PruneOptions`, of which a budget is required: keep, macs, params, size or latency (shares in
    (0, 1]), max_drop (points), or from_plan. With `decide_only` the result holds the plan and
    predicted sizes, no model.

    Raises InputError for what the user can fix and VerificationError where the result fails its
    proof.
    """
    options, say, watch = checked(settings), progress or Logged(), Stopwatch()
    replay = load_plan(options.from_plan) if options.from_plan else None
    reset_peak_memory()
    material = understood(model, calib, options, read or ReadOptions(), say, watch, replay)
    material.announce(replay)
    require_gate(material)
    count(material)
    evidence = rotated(material, collect(material, watch), replay)
    made = Settled(replay) if replay else settle(material, evidence, watch)
    if decide_only:
        keep = Keep.of(made.plan.tables(material.prepared.coupling))
        before, after = material.sizes(keep)
        left = foresee(material, keep, after)
        return _result(left, made.plan, before, after, (), watch, material)
    return carried_out(material, evidence, made, watch)


def understood(
    model: Source | str,
    calib: Data | None,
    options: PruneOptions,
    read: ReadOptions,
    say: Progress,
    watch: Stopwatch,
    replay: Plan | None = None,
) -> Material:
    """The model and its data, read, probed and coupled: what the later stages work on."""
    with watch("load", say):
        original, data = opened(model, calib, read, say)
    with watch("probe and couple", say):
        prepared = prepare(original, data, allow_signature=options.allow_signature)
        return Material(prepared, options, say, replay, path_of(model))


def carried_out(
    material: Material, evidence: Evidence | None, made: Settled, watch: Stopwatch
) -> PruneResult:
    """The plan's model, proved, refitted, verified and measured.

    Raises VerificationError where it fails.
    """
    plan, prepared, say = made.plan, material.prepared, material.say
    keep = Keep.of(plan.tables(prepared.coupling))
    before, after = material.sizes(keep)
    with watch("cut and prove", say):
        plain = cut(prepared.coupling, keep)
        proof = prove(prepared.coupling, keep, plain, [b.feeds for b in material.proof_batches])
    with watch("refit", say):
        choice = refitted(material, evidence, keep, plain)
    with watch("verify", say):
        checks = (_proven(proof), *verify(prepared.model, plain, choice, material.proof_batches))
        final = choice.chosen.model
        quality = held_out_quality(material, final)
    advise(material, made.decider, fidelity(quality))
    released, checks = _released(material, final, keep, checks)
    with watch("hold to the budget", say):
        kept, promises = promised(material, made.clock, final, released)
    checks = (*checks, *kept)
    after = Size(after.macs, weight_count(released), weight_bytes(released))
    left = leave_out(material, released, keep, watch)
    behind = background(material, quality, released)
    return _result(left, plan, before, after, checks, watch, material, promises, behind)


def opened(
    model: Source | str, calib: Data | None, options: ReadOptions, say: Progress
) -> tuple[ir.Model, Dataset | None]:
    """The model, and the data as the model takes it."""
    original = open_model(model)
    if calib is None:
        return original, None
    data = read_data(model, original, calib, options)
    for line in data.description:
        say.note(line)
    return original, data


def _released(
    material: Material, final: ir.Model, keep: Keep, checks: tuple[Check, ...]
) -> tuple[ir.Model, tuple[Check, ...]]:
    """The model with the signature that it leaves with, and what was checked."""
    coupling = material.prepared.coupling
    released, changes = unwrap(final, coupling, keep)
    if not changes:
        return released, checks
    last = verify_released(final, released, coupling, keep, material.proof_batches[0])
    for change in changes:
        material.warn(f"the signature changed, as allowed: {change}")
    return released, (*(c for c in checks if not c.name.startswith("signature")), last)


def _proven(proof: Proof) -> Check:
    detail = f"relative error {proof.worst:.1e} on {proof.batches} batches"
    return Check("the cut equals the masked original", True, detail)


def _result(
    left: Left,
    plan: Plan,
    before: Size,
    after: Size,
    checks: tuple[Check, ...],
    watch: Stopwatch,
    material: Material,
    promises: Mapping[str, object] | None = None,
    behind: Background | None = None,
) -> PruneResult:
    return PruneResult(
        left.model,
        plan,
        before,
        after,
        fidelity(behind.quality if behind else None),
        (*checks, *left.checks),
        watch.seconds,
        peak_memory(),
        material.warnings(),
        promises or {},
        left.size,
        behind,
    )
