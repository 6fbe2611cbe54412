"""What the commands run a model on: the user's data, else feeds made from its signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from mipack.data.checks import shown
from mipack.data.dataset import Dataset, ReadOptions
from mipack.data.dims import dynamic_axes
from mipack.errors import InputError, UnsupportedError
from mipack.graph.load import signature
from mipack.prepare import Data, Prepared, Source, open_model, path_of, prepare, read_data
from mipack.records import Signature
from mipack.result import plan_path
from mipack.select.plan import load_plan


@dataclass(frozen=True, slots=True)
class Opened:
    """A model in memory with the data to run it on, if any."""

    path: Path | None
    model: ir.Model
    signature: Signature
    dataset: Dataset | None


def opened(model: Source | str, data: Data | None, options: ReadOptions) -> Opened:
    """Load a model and open its data. Raises InputError for damage and for data that does not fit.

    `data` is a set of samples, the file or folder that holds it, or feeds in memory.
    """
    loaded = open_model(model)
    dataset = None if data is None else read_data(model, loaded, data, options)
    return Opened(path_of(model), loaded, signature(loaded), dataset)


def prepared_model(
    model: Source | str,
    calib: Data | None,
    *,
    sizes: Mapping[str, int] | None = None,
    options: ReadOptions | None = None,
) -> tuple[Prepared, tuple[str, ...]]:
    """The model coupled, and notes on what it was run on: `calib`, else feeds of these `sizes`,
    else of those in the plan beside the model."""
    source = opened(model, calib, options or ReadOptions())
    if source.dataset is not None:
        prepared = prepare(source.model, source.dataset, sizes=sizes)
        return prepared, (*source.dataset.description, *prepared.warnings)
    beside = [source.path] if source.path else []
    planned, note = ({}, "") if sizes else planned_sizes(beside, source.signature)
    prepared = prepare(source.model, None, sizes=sizes or planned or None)
    return prepared, (note or "run on inputs made up from the signature", *prepared.warnings)


def planned_sizes(models: Iterable[Path], declared: Signature) -> tuple[dict[str, int], str]:
    """The sizes of the dynamic dimensions in the calibration data, and a line that says whence;
    from the first plan that lies beside one of the models."""
    known = {key for _, _, key in dynamic_axes(declared)}
    for path in map(plan_path, models):
        if path.is_file():
            sizes = {key: size for key, size in load_plan(path).sizes.items() if key in known}
            return sizes, f"sizes from {path}: {spelled(sizes)}" if sizes else ""
    return {}, ""


def spelled(sizes: Mapping[str, int]) -> str:
    """Sizes as text, e.g. "batch=8, sequence=128"."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


@contextmanager
def made_up(declared: Signature, option: str) -> Iterator[None]:
    """While feeds come from the signature: a refusal says which inputs to supply, and how."""
    try:
        yield
    except UnsupportedError:
        raise
    except InputError as error:
        if "refused a run" not in error.args[0]:  # the words of `Session.run`
            raise
        inputs = ", ".join(f"{s.name} {s.dtype} {shown(s.shape)}" for s in declared.inputs)
        raise InputError(
            f"the model does not run on inputs made up from its signature: {error.args[0]}",
            hint=f"give real ones with {option} DATA: {inputs}",
        ) from error
