"""A model repository in files: what a server reads, and what people read beside it."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mipack.errors import InputError
from mipack.serve import warmup
from mipack.serve.folder import LIST, write_list
from mipack.serve.triton import LABELS, Deployed, Settings, config
from mipack.serve.wire import config_type, dims

Array = np.ndarray[Any, Any]
IMAGE = "nvcr.io/nvidia/tritonserver"
TAG = "25.12-py3"
README, DOCKERFILE, MANIFEST, SAMPLES = "README.md", "Dockerfile", "kserve.yaml", "samples.npz"
RESERVED = frozenset({README, DOCKERFILE, MANIFEST, SAMPLES, LIST})
MODEL = "model.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """All that a package is made of. `samples`: inputs to try it with, stacked along the first
    axis where the models batch; `made_up` says that they are no real data. `storage_uri` is where
    a cluster finds the folder; None leaves the manifest out."""

    models: tuple[Deployed, ...]
    settings: Settings
    samples: Mapping[str, Array]
    made_up: bool
    labels: tuple[str, ...] = ()
    docker: bool = False
    storage_uri: str | None = None


def write(folder: Path, package: Package) -> None:
    """Write the whole package into an empty folder."""
    for model in package.models:
        _write_model(folder / model.name, model, package)
    _write_samples(folder / SAMPLES, package.samples)
    names = [model.name for model in package.models]
    (folder / README).write_text(_readme(package), encoding="utf-8")
    if package.docker:
        text = _render("Dockerfile.j2", image=IMAGE, tag=TAG, names=names)
        (folder / DOCKERFILE).write_text(text, encoding="utf-8")
    if package.storage_uri is not None:
        text = manifest(names[0], package.storage_uri, package.settings, len(names))
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    write_list(folder, {"models": [model.to_json() for model in package.models]})


def _write_model(folder: Path, model: Deployed, package: Package) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    shutil.copyfile(model.source, version / MODEL)
    for place, file in model.data.items():
        target = version / place
        if target == version / MODEL:
            raise InputError(
                f"{model.source}: its external data file is called {MODEL}, the model's own name "
                "in a repository",
                hint="save the model with its data in a file of another name",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    (folder / "config.pbtxt").write_text(config(model, package.settings), encoding="utf-8")
    if model.labelled:
        (folder / LABELS).write_text("\n".join(package.labels) + "\n", encoding="utf-8")
    for sample in model.samples:
        for tensor in sample.tensors:
            (folder / warmup.FOLDER).mkdir(exist_ok=True)
            (folder / warmup.FOLDER / tensor.file).write_bytes(tensor.content)


def _write_samples(path: Path, samples: Mapping[str, Array]) -> None:
    """An .npz; not by np.savez, whose own parameters are names that a model's input may have."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in samples.items():
            text = array.astype(str) if array.dtype.kind == "O" else array
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, text, allow_pickle=False)


def manifest(name: str, storage_uri: str, settings: Settings, models: int) -> str:
    """The InferenceService that has KServe run Triton on the folder at `storage_uri`."""
    import yaml

    threads = max(settings.intra_threads, 1) * settings.instances * models
    resources: dict[str, Any] = {"requests": {"cpu": str(threads)}}
    if settings.device == "gpu":
        resources["limits"] = {"nvidia.com/gpu": "1"}
    model = {
        "modelFormat": {"name": "triton", "version": "2"},
        "runtimeVersion": TAG,
        "protocolVersion": "v2",
        "storageUri": storage_uri,
        "resources": resources,
    }
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": model}},
    }
    return str(yaml.safe_dump(document, sort_keys=False))


def _readme(package: Package) -> str:
    models = [
        {
            "name": model.name,
            "max_batch_size": model.max_batch_size,
            "reason": _shown(model.reason),
            "tensors": _rows(model),
            "warmed": [sample.name for sample in model.samples],
            "labelled": sorted(map(_shown, model.labelled)),
        }
        for model in package.models
    ]
    return _render(
        "README.md.j2",
        models=models,
        name=package.models[0].name,
        settings=package.settings,
        docker=package.docker,
        kserve=package.storage_uri is not None,
        made_up=package.made_up,
        image=IMAGE,
        tag=TAG,
        model_file=MODEL,
        samples=SAMPLES,
        list_file=LIST,
    )


def _rows(model: Deployed) -> Sequence[tuple[str, str, str, str]]:
    """(kind, name, type, shape) of every tensor."""
    listed = (("input", model.signature.inputs), ("output", model.signature.outputs))
    rows = []
    for kind, specs in listed:
        for spec in specs:
            sizes = dims(spec.shape or (), batched=model.batched) or (1,)
            shape = ", ".join(map(str, (-1, *sizes) if model.batched else sizes))
            rows.append((kind, _shown(spec.name), config_type(spec), f"[{shape}]"))
    return rows


def _shown(text: str) -> str:
    """Names come from a file of unknown origin and go into a page."""
    return re.sub(r"[^\w./:;,()\[\] -]", "?", text)[:300]


def _render(template: str, **values: object) -> str:
    import jinja2

    loader = jinja2.PackageLoader("mipack.serve")
    # No markup is escaped: what goes in is checked (names) or reduced to plain characters.
    page = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return page.get_template(template).render(**values)
