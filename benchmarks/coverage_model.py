"""One model of a folder: prune it, count what is cut, try it at random, list what is frozen."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import counter
import numpy as np

import mipack
from mipack.couple.causes import GEOMETRY, MISSING, cause_of
from mipack.couple.solve import Coupling
from mipack.data.dataset import ReadOptions
from mipack.errors import InputError, VerificationError
from mipack.prepare import open_model, prepare, read_data
from mipack.runtime.session import Session
from mipack.verify.trials import trial

Record = dict[str, Any]
Feeds = dict[str, np.ndarray[Any, Any]]
SEEDS = (0, 1, 2)
WORST = {"pruned": 0, "refused": 1, "invalid": 2, "error": 3}


def study(folder: Path, settings: Mapping[str, Any], width: float | None) -> Record:
    """All that the tables say of one model; whatever goes wrong is a part of the record."""
    start = time.perf_counter()
    record: Record = {"name": folder.name, "result": "pruned"}
    counted = _caught(lambda: {"macs": counter.count(folder / "model.onnx", first(folder))})
    if "macs" not in counted:
        return record | counted
    macs = counted["macs"]
    record |= counted | _caught(lambda: cut(folder, macs, settings))
    record["seconds"] = round(time.perf_counter() - start, 2)
    if width is not None:
        record["wider"] = _caught(lambda: cut(folder, macs, {**settings, "width": width}))
    proven = _caught(lambda: understood(folder))
    graver = WORST[proven.get("result", "pruned")] > WORST[record["result"]]
    return record | {k: v for k, v in proven.items() if graver or k not in ("result", "why")}


def _caught(step: Callable[[], Record]) -> Record:
    """What a step found, or how it ended: a refusal says that nothing can be cut."""
    try:
        return step()
    except VerificationError as error:
        return {"result": "invalid", "why": str(error)}
    except InputError as error:
        refused = "nothing can be pruned" in str(error)
        return {"result": "refused" if refused else "error", "why": str(error)}
    except Exception as error:
        return {"result": "error", "why": f"{type(error).__name__}: {error}"}


def cut(folder: Path, macs: int, settings: Mapping[str, Any]) -> Record:
    """Prune with --keep-unread, write, load again, and count what is left."""
    kept = {"keep_unread": True}  # what is counted here is the cut
    result = mipack.prune(folder / "model.onnx", folder / "calib", **settings, **kept)
    with tempfile.TemporaryDirectory() as target:
        file = Path(target) / "out.onnx"
        result.save(file)
        try:
            _runs(file, folder)
            left = counter.count(file, first(folder))
        except Exception as error:
            return {"result": "invalid", "why": f"the file written does not run: {error}"}
    predicted = 1 - result.after.macs / max(result.before.macs, 1)
    share = 1 - left / max(macs, 1)
    return {
        "result": "pruned",
        "cut": share,
        "predicted": predicted,
        "params": 1 - result.after.params / max(result.before.params, 1),
        "agreement": result.fidelity.get("agreement"),
        "kl": result.fidelity.get("kl"),
    }


def _runs(file: Path, folder: Path) -> None:
    """Every calibration file runs and gives what the original declares and has in shape."""
    ours, original = Session(file), Session(folder / "model.onnx")
    if (ours.inputs, ours.outputs) != (original.inputs, original.outputs):
        raise ValueError("the signature changed")
    for feeds in calibration(folder):
        got, want = ours.run(feeds), original.run(feeds)
        wrong = [name for name in got if np.shape(got[name]) != np.shape(want[name])]
        if wrong:
            raise ValueError(f"output {wrong[0]} changed its shape")


def understood(folder: Path) -> Record:
    """Groups, what is frozen and why, and the worst error of random cuts under the oracle."""
    path = folder / "model.onnx"
    data = read_data(path, open_model(path), folder / "calib", ReadOptions())
    coupling = prepare(path, data).coupling
    record: Record = {
        "groups": [[g.size, g.kind, g.free] for g in coupling.groups],
        **frozen(coupling),
    }
    try:
        seeds = [np.random.default_rng([seed, *folder.name.encode()]) for seed in SEEDS]
        tried = [trial(coupling, calibration(folder), rng) for rng in seeds]
    except Exception as error:
        wrong = "invalid" if isinstance(error, VerificationError) else "error"
        return record | {"result": wrong, "why": f"oracle: {error}"}
    errors = [one.proof.worst for one in tried if one is not None]
    return record | {"oracle": max(errors, default=None)}


def frozen(coupling: Coupling) -> Record:
    """Every frozen group with its class; how many there are of each class (axes that hold no units
    left out), and the missing rules."""
    held = [
        [group.name, group.size, cause_of(group.frozen), *group.frozen]
        for group in coupling.groups
        if group.frozen
    ]
    causes = Counter(cause for _, _, cause, *_ in held if cause != GEOMETRY)
    missing = Counter(reason for _, _, cause, reason, *_ in held if cause == MISSING)
    return {"held": held, "frozen": dict(causes), "missing": dict(missing)}


def calibration(folder: Path) -> Iterator[Feeds]:
    """Every calibration file of a model."""
    for file in sorted((folder / "calib").glob("*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            yield dict(arrays)


def first(folder: Path) -> Feeds:
    """The calibration file that MACs are counted on."""
    return next(calibration(folder))
