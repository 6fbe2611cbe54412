"""ONNX Runtime's own tools for the last step of a model, each in a process of its own.

They print, log, put a folder of modules named `constants` or `float16` on the path, and hold
several copies of the weights: a child process keeps all of that away, and a crash ends only it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mipack.errors import InputError, UnsupportedError
from mipack.runtime.machine import run_child
from mipack.runtime.session import Feeds, loaded_libraries

SECONDS = 3600.0
JOB, ANSWER = "job.json", "answer.json"
DATA = "data"
"""Folder of the calibration batches, one .npz each with the arrays in the order of the inputs."""


def work(
    tool: str,
    source: Path,
    target: Path,
    settings: Mapping[str, Any],
    batches: Iterable[Feeds] = (),
) -> dict[str, Any]:
    """Let `tool` make the model file `target` from `source`; what it tells of it.

    Raises InputError where the tool needs a package that is not installed, UnsupportedError where
    it cannot treat this model.
    """
    with tempfile.TemporaryDirectory(prefix="mipack-") as name:
        folder = Path(name)
        inputs = _write_batches(folder / DATA, batches)
        job = {
            "tool": tool,
            "source": str(source),
            "target": str(target),
            "settings": dict(settings),
            "inputs": inputs,
            "custom_ops": list(map(str, loaded_libraries())),
        }
        (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
        done = run_child("mipack.runtime.workshop", name, seconds=SECONDS)
        try:
            answer = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise UnsupportedError(
                f"{tool}: the runtime's tool ended with code {done.returncode}: {said[:300]}",
                hint="leave this step out",
            ) from None
    if "missing" in answer:
        raise InputError(
            f"{tool} needs the package {answer['missing']}, which is not installed",
            hint="pip install 'mipack[finish]'",
        )
    if "error" in answer:
        raise UnsupportedError(
            f"{tool}: the runtime's tool cannot treat this model: {answer['error']}",
            hint="leave this step out",
        )
    return dict(answer)


def _write_batches(folder: Path, batches: Iterable[Feeds]) -> list[str]:
    """The names of the inputs; every batch in a file."""
    folder.mkdir()
    names: list[str] = []
    for number, feeds in enumerate(batches):
        names = names or list(feeds)
        np.savez(folder / f"{number:06d}.npz", *(np.asarray(feeds[name]) for name in names))
    return names


def _read_batches(folder: Path, names: list[str]) -> Iterable[Feeds]:
    for path in sorted((folder / DATA).glob("*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            yield {name: stored[f"arr_{index}"] for index, name in enumerate(names)}


def _answer(folder: Path) -> dict[str, Any]:
    """The child's side: the job of this folder, and whatever went wrong with it, in words."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    try:
        from mipack.runtime import fusion, precision

        tools: dict[str, Callable[..., dict[str, Any]]] = {
            "ort-fused": fusion.fuse,
            "fp16": precision.half,
            "int8-dynamic": precision.dynamic,
            "int8-static": precision.static,
        }
        batches = _read_batches(folder, job["inputs"])
        libraries = [Path(path) for path in job["custom_ops"]]
        source, target = Path(job["source"]), Path(job["target"])
        return tools[job["tool"]](source, target, batches, libraries, **job["settings"])
    except ModuleNotFoundError as error:
        return {"missing": error.name or str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


if __name__ == "__main__":
    found = _answer(Path(sys.argv[1]))
    (Path(sys.argv[1]) / ANSWER).write_text(json.dumps(found), encoding="utf-8")
