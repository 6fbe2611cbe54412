"""How much memory a model takes and how long it loads, measured in a process of its own.

Within one process the peak of one model hides that of the next, and what Python and the runtime
take hides a small model. So a child loads the runtime and the feeds first, notes what is resident,
then loads the model, runs it, and reports how far the peak rose above that. Loading is timed there
too: in a process that already holds other models it would depend on their order.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mipack.runtime.machine import TINY_MODEL, peak_memory, reset_peak_memory, run_child
from mipack.runtime.session import Feeds, Session, custom_ops, loaded_libraries

CHILD_SECONDS = 600.0
RUNS = 3


@dataclass(frozen=True, slots=True)
class Footprint:
    """`peak_bytes` is the resident memory that loading and running a model adds at its peak,
    `load_ms` the fastest of three loads; None where that could not be measured."""

    peak_bytes: int | None = None
    load_ms: float | None = None


def footprint(
    model: bytes | Path,
    feeds: Feeds,
    *,
    threads: int,
    provider: str = "cpu",
    strict: bool = False,
) -> Footprint:
    """What `model` takes when it is loaded and run on `feeds`; empty if the child failed."""
    with tempfile.TemporaryDirectory(prefix="mipack-bench-") as name:
        folder = Path(name)
        settings = {"threads": threads, "provider": provider, "strict": strict}
        _write_job(folder, model, feeds, settings)
        run_child("mipack.bench.memory", name, seconds=CHILD_SECONDS)
        with suppress(OSError, ValueError):
            return Footprint(**json.loads((folder / "answer.json").read_text()))
    return Footprint()


def _write_job(folder: Path, model: bytes | Path, feeds: Feeds, job: dict[str, Any]) -> None:
    if isinstance(model, bytes):
        path = folder / "model.onnx"
        path.write_bytes(model)
    else:
        path = model.resolve()
    arrays = [_without_objects(array) for array in feeds.values()]
    np.savez(folder / "feeds.npz", *arrays)
    libraries = list(map(str, loaded_libraries()))
    job |= {"model": str(path), "inputs": list(feeds), "custom_ops": libraries}
    (folder / "job.json").write_text(json.dumps(job))


def _without_objects(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Strings as fixed-width text, which needs no pickle; everything else as it is."""
    return array.astype(np.str_) if array.dtype == object else array


def _measure(folder: Path) -> Footprint:
    """The child's side: what the job in `folder` takes in this process."""
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "feeds.npz", allow_pickle=False) as stored:
        feeds = {name: stored[f"arr_{index}"] for index, name in enumerate(job["inputs"])}
    settings = {name: job[name] for name in ("threads", "provider", "strict")}
    Session(TINY_MODEL, **settings).run({"x": np.ones(1, np.float32)})
    reset_peak_memory()
    before = peak_memory()
    session, load_ms = _load(Path(job["model"]), settings)
    for _ in range(RUNS):
        session.run(feeds)
    after = peak_memory()
    del session
    load_ms = min(load_ms, *(_load(Path(job["model"]), settings)[1] for _ in range(RUNS - 1)))
    added = None if before is None or after is None else max(0, after - before)
    return Footprint(added, load_ms)


def _load(model: Path, settings: dict[str, Any]) -> tuple[Session, float]:
    """The session and the milliseconds that loading it took."""
    start = time.perf_counter()
    session = Session(model, **settings)
    return session, (time.perf_counter() - start) * 1000


def _answer(folder: Path) -> None:
    libraries = json.loads((folder / "job.json").read_text())["custom_ops"]
    with custom_ops(*libraries):
        found = _measure(folder)
    (folder / "answer.json").write_text(json.dumps(asdict(found)))


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
