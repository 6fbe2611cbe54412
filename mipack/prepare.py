"""From a model (and data) to its coupling: what every command starts with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from mipack.couple.solve import Coupling, couple
from mipack.data.dataset import Dataset, ReadOptions
from mipack.data.open import from_feeds, open_dataset
from mipack.data.synthetic import dim_sizes
from mipack.errors import InputError
from mipack.graph.canonical import canonical
from mipack.graph.declared import untrue
from mipack.graph.feeds import probed
from mipack.graph.load import digest, from_proto, load, signature, tolerates_nan
from mipack.graph.probe import require_finite
from mipack.graph.surgeon import from_surgeon, is_surgeon
from mipack.graph.unbind import unbind
from mipack.records import Signature
from mipack.runtime.collector import paused_collector

Source = Path | onnx.ModelProto | ir.Model
Data = Dataset | Path | str | Iterable[Mapping[str, np.ndarray[Any, Any]]]
PROBE_SAMPLES = 3
PROBE_BATCHES = 8


@dataclass(frozen=True)
class Prepared:
    """A model understood: canonical graph, layouts, groups, and the data it was probed with.

    Costs count one run of the first probe, which held `samples` samples of the sizes `sizes`.
    """

    original: ir.Model
    coupling: Coupling
    signature: Signature
    dataset: Dataset | None
    sizes: Mapping[str, int]
    samples: int
    digest: str
    feeds: Mapping[str, np.ndarray[Any, Any]]
    warnings: tuple[str, ...] = ()

    @property
    def model(self) -> ir.Model:
        """The canonical model."""
        return self.coupling.model


def open_model(source: Source | str) -> ir.Model:
    """A model from a path, a message, an onnx-ir model or an onnx-graphsurgeon graph.

    Raises InputError for what is none of them, and for damage.
    """
    if isinstance(source, ir.Model):
        return source
    if isinstance(source, onnx.ModelProto):
        return from_proto(source)
    if isinstance(source, (str, Path)):
        return load(Path(source))
    if is_surgeon(source):
        return from_proto(from_surgeon(source))
    raise InputError(
        f"a {type(source).__name__} is no model",
        hint="give a path, a ModelProto, an onnx-ir model or an onnx-graphsurgeon Graph",
    )


def path_of(source: Source | str) -> Path | None:
    """The file that a model comes from, if it does."""
    return Path(source) if isinstance(source, (str, Path)) else None


def read_data(source: Source | str, model: ir.Model, data: Data, options: ReadOptions) -> Dataset:
    """Calibration or test data for a model.

    Raises InputError for data that does not fit its signature.
    """
    if isinstance(data, Dataset):
        return data
    options = replace(options, allow_nan=options.allow_nan or tolerates_nan(model))
    declared = signature(model)
    if isinstance(data, (str, Path)):
        path = path_of(source)
        return open_dataset(Path(data), declared, options, beside=path.parent if path else None)
    return from_feeds(data, declared, options)


@paused_collector()
def prepare(
    model: Source,
    dataset: Dataset | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    allow_signature: bool = False,
) -> Prepared:
    """Load, bring to canonical form, probe and couple.

    Raises InputError for damaged models and feeds that the runtime refuses, UnsupportedError for
    what it cannot run.
    """
    original = open_model(model)
    form = canonical(original)
    require_finite(form)
    declared = signature(form)
    few = few_batches(dataset)
    probe, feeds = probed(form, declared, few, sizes)
    if unbind(form, probe):
        probe, feeds = probed(form, declared, few, sizes)
    coupling = couple(form, probe, allow_signature=allow_signature)
    leading = [len(array) for array in feeds.values() if np.ndim(array)]
    return Prepared(
        original,
        coupling,
        declared,
        dataset,
        dim_sizes(declared, feeds),
        max(leading, default=1) if _batched(declared) else 1,
        digest(original),
        feeds,
        tuple(filter(None, [untrue(original, probe)])),
    )


def few_batches(dataset: Dataset | None) -> list[Mapping[str, np.ndarray[Any, Any]]]:
    """Some small real batches, spread over the data."""
    if dataset is None:
        return []
    if not dataset.samples:
        raise InputError("the calibration data holds no samples", hint="add some")
    step = max(1, dataset.samples // PROBE_BATCHES)
    starts = range(0, dataset.samples, step)
    chosen = [range(s, min(s + PROBE_SAMPLES, dataset.samples)) for s in starts][:PROBE_BATCHES]
    return [next(iter(dataset.subset(list(c)).batches(PROBE_SAMPLES))).feeds for c in chosen]


def _batched(declared: Signature) -> bool:
    """Whether the first axis of the inputs counts samples."""
    return any(spec.shape and not isinstance(spec.shape[0], int) for spec in declared.inputs)
