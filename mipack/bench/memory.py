"""How much memory a model takes, measured in a process of its own.

Within one process the peak of one model hides that of the next, and what Python and the runtime
take hides a small model. So a child loads the runtime and the feeds first, notes what is resident,
then loads the model, runs it, and reports how far the peak rose above that.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mipack.runtime.machine import TINY_MODEL, peak_memory, reset_peak_memory, run_child
from mipack.runtime.session import Feeds, Session

CHILD_SECONDS = 600.0
RUNS = 3


def footprint(
    model: bytes | Path, feeds: Feeds, *, threads: int, provider: str = "cpu"
) -> int | None:
    """Bytes of resident memory that loading and running `model` adds at its peak.

    None where the system does not tell or the child did not finish.
    """
    with tempfile.TemporaryDirectory(prefix="mipack-bench-") as name:
        folder = Path(name)
        _write_job(folder, model, feeds, {"threads": threads, "provider": provider})
        run_child("mipack.bench.memory", name, seconds=CHILD_SECONDS)
        with suppress(OSError, ValueError, KeyError):
            answer = json.loads((folder / "answer.json").read_text())["bytes"]
            return None if answer is None else int(answer)
    return None


def _write_job(folder: Path, model: bytes | Path, feeds: Feeds, job: dict[str, Any]) -> None:
    if isinstance(model, bytes):
        path = folder / "model.onnx"
        path.write_bytes(model)
    else:
        path = model.resolve()
    arrays = [_without_objects(array) for array in feeds.values()]
    np.savez(folder / "feeds.npz", *arrays)
    job |= {"model": str(path), "inputs": list(feeds)}
    (folder / "job.json").write_text(json.dumps(job))


def _without_objects(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Strings as fixed-width text, which needs no pickle; everything else as it is."""
    return array.astype(np.str_) if array.dtype == object else array


def _measure(folder: Path) -> int | None:
    """The child's side: the bytes that the job in `folder` adds to this process."""
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "feeds.npz", allow_pickle=False) as stored:
        feeds = {name: stored[f"arr_{index}"] for index, name in enumerate(job["inputs"])}
    settings = {"threads": job["threads"], "provider": job["provider"]}
    Session(TINY_MODEL, **settings).run({"x": np.ones(1, np.float32)})
    reset_peak_memory()
    before = peak_memory()
    session = Session(Path(job["model"]), **settings)
    for _ in range(RUNS):
        session.run(feeds)
    after = peak_memory()
    return None if before is None or after is None else max(0, after - before)


def _answer(folder: Path) -> None:
    (folder / "answer.json").write_text(json.dumps({"bytes": _measure(folder)}))


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
