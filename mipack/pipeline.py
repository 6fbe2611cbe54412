"""prune(): the stages in a row.

load -> canonical -> probe -> couple -> calibrate -> score -> allocate -> plan -> cut -> prove ->
refit -> verify. Each stage is a plain function of what the ones before it returned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mipack.data.dataset import ReadOptions
from mipack.graph.load import weight_bytes, weight_count
from mipack.options import Progress, Silent, Stopwatch, checked
from mipack.prepare import Data, Source, open_model, prepare, read_data
from mipack.result import Check, PruneResult, Size
from mipack.runtime.machine import peak_memory, reset_peak_memory
from mipack.select.plan import load_plan
from mipack.stages import Material, advise, collect, decide, fidelity, refitted
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep
from mipack.verify.final import verify
from mipack.verify.oracle import prove


def prune(
    model: Source | str,
    calib: Data | None = None,
    *,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
    decide_only: bool = False,
    **settings: Any,
) -> PruneResult:
    """Make a model smaller; nothing is written until `PruneResult.save`.

    `model` is a path, a ModelProto or an onnx-ir model; `calib` a path, a Dataset or an iterable
    of feeds, read as `read` says; `settings` are the fields of `PruneOptions`, of which one budget
    is required: keep, macs or params (a share in (0, 1]), or from_plan. With `decide_only` the
    result holds the plan and predicted sizes, no model.

    Raises InputError for what the user can fix and VerificationError where the result fails its
    proof.
    """
    options, say, watch = checked(settings), progress or Silent(), Stopwatch()
    reset_peak_memory()
    with watch("load", say):
        source = Path(model) if isinstance(model, str) else model
        original = open_model(source)
        data = None
        if calib is not None:
            data = read_data(source, original, calib, read or ReadOptions())
            for line in data.description:
                say.note(line)
    with watch("probe and couple", say):
        prepared = prepare(original, data)
        material = Material(prepared, options, say)
    replay = load_plan(options.from_plan) if options.from_plan else None
    material.announce(replay)
    evidence = collect(material, watch)
    plan, decider = (replay, None) if replay else decide(material, evidence, watch)
    keep = Keep(plan.tables(prepared.coupling))
    before, after = material.sizes(keep)
    if decide_only:
        return PruneResult(
            None, plan, before, after, {}, (), watch.seconds, peak_memory(), material.warnings()
        )
    with watch("cut and prove", say):
        plain = cut(prepared.coupling, keep)
        proof = prove(prepared.coupling, keep, plain, [b.feeds for b in material.proof_batches])
    with watch("refit", say):
        choice = refitted(material, evidence, keep, plain)
    chosen = choice.chosen
    with watch("verify", say):
        checks = verify(
            prepared.model,
            plain,
            chosen.model,
            chosen.changed,
            material.proof_batches,
            choice.divergence,
            chosen.name,
        )
        measured = fidelity(material, chosen.model)
    advise(material, decider, measured)
    after = Size(after.macs, weight_count(chosen.model), weight_bytes(chosen.model))
    proven = Check("the cut equals the masked original", True, f"error {proof.worst:.1e}")
    return PruneResult(
        chosen.model,
        plan,
        before,
        after,
        measured,
        (proven, *checks),
        watch.seconds,
        peak_memory(),
        material.warnings(),
    )
