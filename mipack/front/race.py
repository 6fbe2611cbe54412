"""`bench`: models side by side on ONNX Runtime, on inputs of real shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mipack.bench import loop
from mipack.data.dataset import Dataset, Feeds, ReadOptions
from mipack.data.dims import dim_sizes
from mipack.data.synthetic import resize_feeds, synthetic_feeds
from mipack.errors import InputError, MipackError
from mipack.front.inputs import Opened, made_up, opened, planned_sizes, spelled
from mipack.front.told import race_blocks
from mipack.graph.load import file_bytes, load, weight_count
from mipack.prepare import Data, prepare
from mipack.records import Signature
from mipack.runtime.machine import environment, physical_cores
from mipack.runtime.quiet import Disturbance, Watch, advice
from mipack.runtime.session import Session, strict_provider
from mipack.show.blocks import Block
from mipack.show.shown import Shown

SCHEMA = "mipack-bench/1"
Shape = Mapping[str, int]
"""Dimension name -> size."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What one model weighs. `macs` per sample; None where its structure cannot be read."""

    name: str
    macs: int | None
    params: int
    file_bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Race(Shown):
    """The comparison, the size of every model in order, and what the inputs were: in words, and as
    they were fed, by shape."""

    comparison: loop.Comparison
    models: tuple[ModelSize, ...]
    notes: tuple[str, ...]
    feeds: tuple[tuple[str, Feeds], ...] = ()
    disturbance: Disturbance = field(default_factory=lambda: Disturbance(None, None))
    advice: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against trusting these numbers, each with what to do."""
        noisy = self.comparison.warning
        return (*([noisy] if noisy else []), *self.advice, *self.disturbance.warnings())

    def blocks(self, *, every: bool = False) -> Sequence[Block]:
        """The size of every model, and a table for every race."""
        return race_blocks(self)

    def to_json(self) -> dict[str, object]:
        """All of it as plain values, raw samples and the machine included."""
        return {
            "schema": SCHEMA,
            **self.comparison.to_json(),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "machine": environment(probe=False),
            "disturbance": self.disturbance.to_json(),
        }


def bench(
    models: Sequence[Path],
    data: Data | None = None,
    *,
    shapes: Sequence[Shape] = (),
    options: ReadOptions | None = None,
    batch_size: int = 32,
    rounds: int = 30,
    seconds: float = 10.0,
    threads: int | Sequence[int] | None = None,
    concurrency: Sequence[int] = (),
    provider: str | Sequence[str] = "auto",
) -> Race:
    """Time `models`, the first of which is the base, alternately in one process.

    Several numbers of `threads` and several providers are races of their own, on every shape; all
    share `seconds`, and every load of `concurrency` clients takes as long as a shape's rounds. A
    provider that is named runs everything by itself, or InputError says that it cannot.

    Inputs: a random batch of the data; without data feeds made from the signature, in the sizes
    of the plan beside one of the models if there is one. Every entry of `shapes` sets dimensions
    by name and is a race of its own. Raises InputError.
    """
    if not models:
        raise InputError("bench needs a model", hint="name the original, then others")
    models, options = [Path(path) for path in models], options or ReadOptions()
    source = opened(models[0], data, options)
    declared = source.signature
    feeds, notes = _inputs(source, models, shapes, batch_size, options.seed)
    labelled = [(_label(label, arrays, declared), arrays) for label, arrays in feeds.items()]
    names = _names(models)
    sizes_of = _sizes_of(names, models, dim_sizes(declared, labelled[0][1]))
    counts = _counted(threads)
    settings = [(n, *strict_provider(p)) for n in counts for p in _listed(provider)]
    watch = Watch()
    with made_up(declared, "--data") if source.dataset is None else nullcontext():
        races = [
            loop.compare(
                list(zip(names, models, strict=True)),
                labelled,
                rounds=rounds,
                seconds=seconds / len(settings),
                threads=count,
                provider=name,
                strict=strict,
                concurrency=concurrency,
                counts=[_counts(size) for size in sizes_of],
            )
            for count, name, strict in settings
        ]
    told = advice(counts, physical_cores())
    return Race(
        comparison=loop.joined(races),
        models=sizes_of,
        notes=notes,
        feeds=tuple(labelled),
        disturbance=watch.disturbance(),
        advice=told,
    )


def _inputs(
    source: Opened, models: Sequence[Path], shapes: Sequence[Shape], batch_size: int, seed: int
) -> tuple[dict[str, Feeds], tuple[str, ...]]:
    """Feeds by the sizes asked for ("": as the data has them), and what they are."""
    declared = source.signature
    if source.dataset is not None:
        batch, notes = _one_batch(source.dataset, batch_size, seed)
        return {spelled(s): resize_feeds(declared, batch, s) for s in shapes} or {"": batch}, notes
    sizes, note = planned_sizes(models, declared)
    wanted = [{**sizes, **shape} for shape in shapes] or [sizes]
    made = {spelled(s): _made_up_feeds(models[0], declared, s) for s in wanted}
    return made, (note or "inputs are made up from the signature",)


def _counted(threads: int | Sequence[int] | None) -> tuple[int, ...]:
    """Every number of threads once."""
    if threads is None:
        return (physical_cores(),)
    return (threads,) if isinstance(threads, int) else tuple(dict.fromkeys(threads))


def _listed(provider: str | Sequence[str]) -> tuple[str, ...]:
    return (provider,) if isinstance(provider, str) else tuple(dict.fromkeys(provider))


def _made_up_feeds(model: Path, declared: Signature, sizes: Shape) -> Feeds:
    """Feeds of these sizes; whether several inputs share their number of samples is not always
    declared: then the runtime says."""
    tied, free = (synthetic_feeds(declared, sizes=sizes, tie_samples=tie) for tie in (True, False))
    if all(tied[name].shape == free[name].shape for name in tied):
        return tied
    session = Session(model)
    with suppress(InputError):
        session.run(tied)
        return tied
    with suppress(InputError):
        session.run(free)
        return free
    return tied


def _one_batch(dataset: Dataset, size: int, seed: int) -> tuple[Feeds, tuple[str, ...]]:
    """The feeds of some random samples, as they would come in one batch."""
    chosen = dataset.take(min(size, dataset.samples), seed)
    batch = max(chosen.batches(size), key=lambda batch: batch.samples)
    return batch.feeds, chosen.description


def _label(label: str, feeds: Feeds, declared: Signature) -> str:
    """What the race is called: the sizes asked for, else those of the dynamic dimensions."""
    return label or spelled(dim_sizes(declared, feeds)) or "the declared shape"


def _names(models: Sequence[Path]) -> list[str]:
    """File names where they tell the models apart, else paths; one named twice is numbered."""
    short = [path.name for path in models]
    names = short if len(set(short)) == len(set(models)) else [str(path) for path in models]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: at + 1].count(name)})"
        for at, name in enumerate(names)
    ]


def _sizes_of(
    names: Sequence[str], models: Sequence[Path], sizes: Mapping[str, int]
) -> tuple[ModelSize, ...]:
    return tuple(
        ModelSize(name, _macs(path, sizes), weight_count(load(path)), file_bytes(path))
        for name, path in zip(names, models, strict=True)
    )


def _macs(path: Path, sizes: Mapping[str, int]) -> int | None:
    """Multiply-adds of one sample. A model that can be raced need not be one that can be cut."""
    try:
        prepared = prepare(path, None, sizes=sizes)
    except MipackError:
        return None
    return prepared.coupling.cost.macs({}) // prepared.samples


def _counts(size: ModelSize) -> dict[str, int]:
    counts = {"params": size.params, "file_bytes": size.file_bytes}
    return counts if size.macs is None else {"macs": size.macs, **counts}
