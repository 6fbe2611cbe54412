"""`finish`: the last steps before a model is deployed, each checked, judged and timed by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.bench.loop import Comparison, compare
from mipack.data.dataset import Batch, Dataset, ReadOptions
from mipack.data.dims import dim_sizes
from mipack.data.synthetic import resize_feeds
from mipack.errors import InputError
from mipack.finish.apply import Supply, apply, require_float
from mipack.finish.judge import Judge, Stage
from mipack.finish.order import FUSE, checked_steps
from mipack.front.inputs import made_up, spelled
from mipack.front.told import finish_blocks
from mipack.graph.canonical import canonical
from mipack.graph.feeds import probed
from mipack.graph.load import runnable, save, signature
from mipack.material import GATE, HELD_OUT, PROOF_SAMPLES
from mipack.options import Logged, Progress
from mipack.prepare import Data, Source, few_batches, open_model, read_data
from mipack.result import refuse_existing
from mipack.runtime.machine import environment
from mipack.runtime.session import Feeds, working_provider
from mipack.show.blocks import Block
from mipack.show.shown import Shown


@dataclass(frozen=True, repr=False)
class Finished(Shown):
    """The finished model, and a stage for the original, the pruned model and every step.

    `race` is the timing of all of them, None where it was not asked for.
    """

    model: ir.Model
    stages: tuple[Stage, ...]
    race: Comparison | None
    notes: tuple[str, ...]
    folder: tempfile.TemporaryDirectory[str]
    """Where weights of a large model lie until it is saved."""

    def parts(self) -> list[dict[str, Any]]:
        """What every step changed by itself: time and bytes as a share of those before it, score
        and agreement as differences."""
        return [
            {
                "name": after.name,
                "part": after.part,
                "ratio": after.ratio / before.ratio if after.ratio and before.ratio else None,
                "bytes": after.bytes / before.bytes,
                "score": _less(after.score, before.score),
                "agreement": _less(after.agreement, before.agreement),
            }
            for before, after in zip(self.stages, self.stages[1:], strict=False)
        ]

    def blocks(self, *, every: bool = False) -> Sequence[Block]:
        """The stages against the original, and what every step changed by itself."""
        return finish_blocks(self)

    def to_json(self) -> dict[str, Any]:
        """Plain values; raw samples and the machine where it was timed."""
        timed = {} if self.race is None else {"bench": self.race.to_json()}
        return {
            "stages": [stage.to_json() for stage in self.stages],
            "parts": self.parts(),
            "notes": list(self.notes),
            "machine": environment(probe=False),
            **timed,
        }

    def save(self, path: Path | str, *, force: bool = False) -> tuple[Path, ...]:
        """Write the model; the files written. Raises InputError as `PruneResult.save` does."""
        path = Path(path)
        refuse_existing(path, force)
        return save(self.model, path)


def finish(
    model: Source | str,
    steps: Sequence[str],
    calib: Data | None = None,
    *,
    original: Source | str | None = None,
    read: ReadOptions | None = None,
    max_drop: float | None = None,
    bench: bool = False,
    shape: Mapping[str, int] | None = None,
    seconds: float = 10.0,
    batch_size: int = 32,
    provider: str = "auto",
    progress: Progress | None = None,
) -> Finished:
    """Apply `steps` (of `finish.order.STEPS`) in their order; nothing is written until `save`.

    `original` is what `model` was pruned from: then all is compared with that, and pruning is a
    stage of its own. Quality is measured on samples that calibrate nothing; with `max_drop`
    (points) they are those that the drop is measured on in `prune`. `bench` races all stages at
    `shape` for about `seconds`.

    Raises InputError for what the user can fix, VerificationError where a step spoils the model.
    """
    say, options = progress or Logged(), read or ReadOptions()
    steps = checked_steps(steps, data=calib is not None)
    source = _named(original if original is not None else model)
    start = open_model(_named(model))
    require_float(start, steps, str(model) if isinstance(model, (str, Path)) else "the model")
    base = start if original is None else open_model(source)
    data = None if calib is None else read_data(source, base, calib, options)
    _require_gate(data, max_drop)
    material = _material(base, data, options.seed, batch_size, max_drop is not None)
    judge = _judge(base, data, material, provider, max_drop)
    folder = tempfile.TemporaryDirectory(prefix="mipack-")
    with made_up(signature(base), "--calib"):
        stages = [judge.first()]
    models = [base]
    if original is not None:
        stages.append(judge.stage("pruned", "pruning", start, ()))
        models.append(start)
    for at, step in enumerate(steps):
        say.stage(step, None)
        made = apply(step, models[-1], steps[at + 1 :], material.supply, Path(folder.name))
        part = "fusion" if step == FUSE else "precision"
        stages.append(judge.stage(step, part, made.model, made.notes))
        models.append(made.model)
    race = None
    if bench:
        say.stage("bench", None)
        race = _race(stages, models, material.typical, shape or {}, seconds, provider)
        stages = [stage.timed(race) for stage in stages]
    notes = data.description if data else ("inputs are made up from the signature",)
    return Finished(models[-1], tuple(stages), race, notes, folder)


@dataclass(frozen=True, slots=True)
class _Material:
    supply: Supply
    judged: list[Batch]
    typical: Feeds


def _material(
    base: ir.Model, data: Dataset | None, seed: int, batch_size: int, gated: bool
) -> _Material:
    """What is calibrated on, judged and timed with: split as `prune` splits the same data."""
    if data is None:
        form = canonical(base)
        _, feeds = probed(form, signature(form), ())
        count = max((len(a) for a in feeds.values() if np.ndim(a)), default=1)
        alone = Batch(feeds, count, None, np.arange(count), np.arange(count))
        return _Material(Supply((), [feeds], ()), [alone], feeds)
    share = GATE if gated else HELD_OUT
    fit, held = data.split(share, seed)
    if not held.samples:
        fit = held = data
    batches = list(fit.batches(batch_size))
    shown = [batch.feeds for batch in held.take(PROOF_SAMPLES, seed).batches(batch_size)]
    calibrate = (batch.feeds for batch in fit.batches(batch_size))
    supply = Supply(few_batches(fit), shown, calibrate)
    return _Material(supply, list(held.batches(batch_size)), batches[len(batches) // 2].feeds)


def _judge(
    base: ir.Model, data: Dataset | None, material: _Material, provider: str, most: float | None
) -> Judge:
    return Judge(
        base,
        material.judged,
        real=data is not None,
        mask=data.mask if data else None,
        provider=working_provider(provider),
        most=most,
    )


def _require_gate(data: Dataset | None, most: float | None) -> None:
    if most is not None and (data is None or data.samples < 2):
        raise InputError(
            "--max-drop is measured on held-out samples, and there are none",
            hint="give --calib DATA with more samples",
        )


def _race(
    stages: Sequence[Stage],
    models: Sequence[ir.Model],
    typical: Feeds,
    shape: Mapping[str, int],
    seconds: float,
    provider: str,
) -> Comparison:
    """All stages alternately, on a batch of the data brought to this shape."""
    declared = signature(models[0])
    feeds = resize_feeds(declared, typical, shape)
    label = spelled(dim_sizes(declared, feeds)) or "the declared shape"
    with ExitStack() as stack:
        files = [stack.enter_context(runnable(model)) for model in models]
        return compare(
            [(stage.name, file) for stage, file in zip(stages, files, strict=True)],
            [(label, feeds)],
            seconds=seconds,
            provider=working_provider(provider),
        )


def _named(source: Source | str) -> Source:
    return Path(source) if isinstance(source, str) else source


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
