"""`evaluate`: two models on the same labelled or unlabelled data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mipack.data.dataset import Batch, Dataset, ReadOptions
from mipack.errors import InputError
from mipack.evaluate import compare
from mipack.front.inputs import opened
from mipack.graph.load import in_parts
from mipack.prepare import Data, Source, open_model, path_of
from mipack.runtime.session import Parts, working_provider

if TYPE_CHECKING:
    from mipack.options import Progress


def evaluate(
    model: Source | str,
    pruned: Source | str,
    data: Data,
    *,
    options: ReadOptions | None = None,
    metric: str | None = None,
    output: str | None = None,
    batch_size: int = 32,
    provider: str = "auto",
    progress: Progress | None = None,
) -> compare.Evaluation:
    """The task metric of both with the paired interval of the difference, and how alike they are.

    Models are paths, ModelProtos, onnx-ir models or onnx-graphsurgeon Graphs. All samples by
    default. `metric` defaults to accuracy where the labels are class numbers and an
    output has a score per class, `output` to the first that fits. Raises InputError where models,
    data, labels and metric do not fit together.
    """
    source = opened(model, data, options or ReadOptions(samples=None))
    if source.dataset is None:
        raise InputError("there is no data to evaluate on", hint="give a file or folder")
    if progress is not None:
        for line in source.dataset.description:
            progress.note(line)
    return compare.evaluate(
        [_named(model, "original"), _named(pruned, "pruned")],
        _batches(source.dataset, batch_size, progress),
        metric=metric,
        output=output,
        mask=source.dataset.mask,
        provider=working_provider(provider),
    )


def _named(model: Source | str, fallback: str) -> tuple[str, Path | Parts]:
    """A model as the runtime takes it, called by its path if it has one."""
    path = path_of(model)
    if path is not None:
        return str(path), path
    return fallback, in_parts(open_model(model))


def _batches(dataset: Dataset, size: int, progress: Progress | None) -> Iterator[Batch]:
    """All batches; each is done when the next is asked for."""
    if progress is not None:
        progress.stage("evaluate", dataset.samples)
    for batch in dataset.batches(size):
        yield batch
        if progress is not None:
            progress.advance(batch.samples)
