"""`package`: a model as a folder that Triton loads, with what is needed to run and to ask it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.data.dataset import Dataset, ReadOptions
from mipack.data.labels import read_classes
from mipack.data.synthetic import synthetic_feeds
from mipack.errors import InputError, UnsupportedError
from mipack.front.inputs import made_up, opened
from mipack.graph.load import data_files
from mipack.prepare import Data
from mipack.records import Signature
from mipack.runtime.session import Session
from mipack.serve import repository
from mipack.serve.batching import ROUNDING, Batching, find_batching
from mipack.serve.client import tritonclient
from mipack.serve.folder import check_replaceable, replacing
from mipack.serve.names import check_kserve_name, check_name
from mipack.serve.triton import Deployed, Settings, batch_size
from mipack.serve.warmup import warm_up
from mipack.serve.wire import v2_type

ORIGINAL = "-original"
TRIED = 4
"""Samples that models are tried with and that the package carries."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """The folder that was written, its models, and what should be known about them."""

    folder: Path
    models: tuple[Deployed, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "folder": str(self.folder),
            "models": [model.to_json() for model in self.models],
            "files": list(self.files),
            "notes": list(self.notes),
        }


def package(
    model: Path,
    out: Path,
    *,
    name: str,
    calib: Data | None = None,
    original: Path | None = None,
    settings: Settings | None = None,
    labels: Path | None = None,
    docker: bool = False,
    kserve: bool = False,
    storage_uri: str | None = None,
    read: ReadOptions | None = None,
    force: bool = False,
) -> Packaged:
    """Write a model repository to the folder `out`.

    `calib` warms the models up and goes along as samples (a few of it); `original` is served
    beside the model as NAME-original; `labels` holds class names, one per line. A package of
    before is replaced with `force`, any other folder never. Raises InputError.
    """
    tritonclient("grpc.model_config_pb2")
    _check_names(name, original is not None, kserve, storage_uri)
    check_replaceable(Path(out), force=force)
    settings, read = settings or Settings(), read or ReadOptions()
    classes = read_classes(labels) if labels is not None else ()
    found = [_deployed(name, Path(model), calib, settings, classes, read)]
    if original is not None:
        other = _deployed(f"{name}{ORIGINAL}", Path(original), calib, settings, classes, read)
        _check_alike(found[0].model, other.model)
        found.append(other)
    models = tuple(one.model for one in found)
    plan = repository.Package(
        models=models,
        settings=settings,
        samples=found[0].feeds,
        made_up=calib is None,
        labels=classes,
        docker=docker,
        storage_uri=storage_uri if kserve else None,
    )
    with replacing(Path(out)) as folder:
        repository.write(folder, plan)
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return Packaged(Path(out), models, tuple(files), tuple(n for one in found for n in one.notes))


def _check_names(name: str, beside: bool, kserve: bool, storage_uri: str | None) -> None:
    check_name(name, reserved=repository.RESERVED)
    if beside:
        check_name(f"{name}{ORIGINAL}")
    if kserve:
        check_kserve_name(name)
    if kserve and not storage_uri:
        raise InputError(
            "--target kserve needs the place where the cluster finds the folder",
            hint="give --storage-uri, e.g. s3://bucket/folder or pvc://claim/folder",
        )
    if storage_uri and not kserve:
        raise InputError("--storage-uri means nothing without --target kserve")


@dataclass(frozen=True, slots=True)
class _Found:
    """A model ready to be written, what it was tried with, and notes."""

    model: Deployed
    feeds: Mapping[str, np.ndarray[Any, Any]]
    notes: tuple[str, ...]


def _deployed(
    name: str,
    path: Path,
    calib: Data | None,
    settings: Settings,
    classes: tuple[str, ...],
    read: ReadOptions,
) -> _Found:
    source = opened(path, calib, read)
    _check_types(source.model, source.signature)
    feeds = _feeds(source.signature, source.dataset)
    batching = _batching(path, source.signature, feeds, made=source.dataset is None)
    size = batch_size(batching.possible, batching.reason, settings.max_batch_size)
    reason = batching.reason or ("" if size else "asked for with --max-batch-size 0")
    model = Deployed(
        name,
        path,
        data_files(path),
        batching.signature,
        size,
        reason,
        _labelled(batching.signature, classes),
    )
    if source.dataset is not None:
        model = replace(
            model, samples=warm_up(source.dataset, batching.signature, batched=model.batched)
        )
    return _Found(model, feeds, _notes(model, batching))


def _check_types(model: ir.Model, declared: Signature) -> None:
    """InputError for what no server takes: sequences, maps, types without a name on the wire."""
    for value in [*model.graph.inputs, *model.graph.outputs]:
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            raise UnsupportedError(
                f"{value.name} is no tensor but {value.type}",
                hint="export the model with tensors as inputs and outputs",
            )
    for spec in (*declared.inputs, *declared.outputs):
        v2_type(spec)


def _feeds(declared: Signature, dataset: Dataset | None) -> dict[str, np.ndarray[Any, Any]]:
    """A few samples in one batch: real ones where there are any."""
    if dataset is None:
        feeds = synthetic_feeds(declared, tie_samples=True)
        return {name: np.asarray(array) for name, array in feeds.items()}
    if not dataset.samples:
        raise InputError("the calibration data holds no samples", hint="add some")
    some = dataset.subset(list(range(min(TRIED, dataset.samples))))
    return next(iter(some.batches(TRIED))).feeds


def _batching(path: Path, declared: Signature, feeds: Mapping[str, Any], *, made: bool) -> Batching:
    try:
        session = Session(path, threads=1)
    except UnsupportedError as error:
        raise UnsupportedError(
            f"{path} does not run in ONNX Runtime alone: {error.args[0]}",
            hint="a server would need its library of custom ops; mipack package does not ship any",
        ) from error
    if not made:
        return find_batching(session, declared, feeds)
    with made_up(declared, "--calib"):
        return find_batching(session, declared, feeds)


def _labelled(known: Signature, classes: tuple[str, ...]) -> frozenset[str]:
    """The outputs that have a score for each class."""
    if not classes:
        return frozenset()
    last = {spec.name: spec.shape[-1] for spec in known.outputs if spec.shape}
    fitting = {name for name, size in last.items() if size == len(classes)}
    if not fitting:
        sizes = ", ".join(f"{name} has {size}" for name, size in last.items())
        raise InputError(
            f"--labels-file holds {len(classes)} names, but no output has as many scores",
            hint=f"last sizes of the outputs: {sizes or 'none'}",
        )
    return frozenset(fitting)


def _check_alike(model: Deployed, original: Deployed) -> None:
    """InputError where a client could not go from one to the other."""
    sides = [
        [(s.name, s.dtype, len(s.shape or ())) for s in (*m.signature.inputs, *m.signature.outputs)]
        for m in (model, original)
    ]
    if sides[0] != sides[1]:
        first, second = (
            ", ".join(f"{name} {dtype} of rank {rank}" for name, dtype, rank in side)
            for side in sides
        )
        raise InputError(
            f"{original.source} is no original of {model.source}: their inputs and outputs differ "
            f"({second} against {first})",
            hint="give the model that was pruned",
        )


def _notes(model: Deployed, batching: Batching) -> tuple[str, ...]:
    notes = []
    if model.reason:
        notes.append(f"{model.name}: max_batch_size 0, {model.reason}")
    elif batching.spread > ROUNDING:
        notes.append(
            f"{model.name}: a sample's answer changes by up to {100 * batching.spread:.2g} % of "
            "the largest value with what it is batched with; --max-batch-size 0 avoids that"
        )
    return tuple(notes)
