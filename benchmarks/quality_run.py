"""Runs one method once: the pruned model, and what the run cost.

Every run is a process of its own, so that wall time, CPU time and peak memory are its own. A run's
record lies beside its model and is written last; a run that was killed is run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality_judge import Cost, Judge, read_json
from quality_methods import LABELS, Method
from quality_tasks import Samples, Task, replace, samples_of

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "onnx==1.23.2", "onnxruntime==1.31.1", "onnxsim==0.8.1", "torch-pruning==1.6.1",
    "transformers==5.23.0", "tokenizers==0.23.3", "pillow==13.0.0",
)  # fmt: skip
TORCH = "torch==2.13.0"
SLACK = 0.005
"""How far the share of a pruned model may be from the budget."""
TRIES = 4


class Failed(Exception):
    """A run that left no model; the message is its last line."""


@dataclass(frozen=True)
class Spent:
    """What a process printed and cost: seconds on the clock and on the processor, peak MB."""

    text: str
    seconds: float
    cpu: float
    peak_mb: float


def spend(command: Sequence[object], environment: Mapping[str, str]) -> Spent:
    """Run a process to its end. Raises Failed where it fails."""
    start = time.perf_counter()
    settings = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **environment}
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complaint:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=said, stderr=complaint, env=settings
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        said.seek(0), complaint.seek(0)
        text, lines = said.read(), complaint.read().strip().splitlines()
    if process.returncode:
        lines = lines or text.strip().splitlines() or [f"exit {process.returncode}"]
        raise Failed(lines[-1])
    return Spent(text, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def mipack(*arguments: object) -> Spent:
    """A command of this checkout, as JSON."""
    start = [sys.executable, "-c", "from mipack.cli.app import main; main()"]
    try:
        return spend([*start, *arguments, "--json", "-q"], {"PYTHONPATH": str(HERE.parent)})
    except Failed as error:
        raise Failed(_message(str(error))) from error


def _message(text: str) -> str:
    """An error document's own words."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text


def asked(tried: Sequence[tuple[float, float]], budget: float) -> float:
    """What to ask for next so that the share becomes the budget: secant steps from (asked, share)
    pairs, at first as if the share rose as fast as what is asked for."""
    last, share = tried[-1]
    slope = 1.0
    if len(tried) > 1 and tried[-2][0] != last:
        slope = (share - tried[-2][1]) / (last - tried[-2][0])
    step = (budget - share) / (slope if 0.2 < slope < 5 else 1.0)
    return min(1.0, max(0.5 * last, last + step))


class Runner:
    """Runs methods on one task and keeps what they leave under `out`."""

    def __init__(self, task: Task, out: Path, samples: int, most: int | None = None) -> None:
        """`most`: settings that a peer may choose from."""
        self.task, self.out, self.samples, self._most = task, out, samples, most
        self.cost = Cost(task)
        self.choose = Judge(task, "choose", out)

    def stem(self, method: Method, budget: float, seed: int) -> str:
        """The name of everything that belongs to one cell."""
        return f"{self.task.name}-{method.name}-{budget:g}-{self.samples}-{seed}"

    def model(self, method: Method, budget: float, seed: int) -> tuple[Path, dict[str, Any]]:
        """The pruned model of one cell and the record of its run; run where there is none."""
        path = self.out / "models" / f"{self.stem(method, budget, seed)}.onnx"
        known = read_json(path.with_suffix(".run.json"))
        if known is None or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            data = samples_of(self.task, self.out, seed, self.samples, whole=bool(method.published))
            run = self._peer if method.peer else self._ours
            known = run(method, budget, seed, data, path)
            replace(path.with_suffix(".run.json"), json.dumps(known))
        return path, known

    def unread(self, model: Path, run: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
        """The model without the work that nobody reads, by mipack's lossless step alone."""
        if not keep_unread():
            raise Failed("this mipack has no step against unread work")
        path = model.with_suffix(".unread.onnx")
        if not path.exists():
            part = model.with_suffix(".part.onnx")
            mipack("slim", model, "-o", part, "--force")
            part.replace(path)
        return path, {**run, **self.cost.shares(path)}

    def bench(self, model: Path) -> dict[str, Any]:
        """Measured time against the original, both in one process."""
        spent = mipack("bench", self.task.model, model, "--shape", self.task.shape)
        contrast = json.loads(spent.text)["contrasts"][0]
        return {"shape": self.task.shape, **contrast}

    # ------------------------------------------------------------ ours

    def _ours(
        self, method: Method, budget: float, seed: int, data: Samples, out: Path
    ) -> dict[str, Any]:
        """`mipack prune`; what is asked for is corrected until the share is the budget."""
        options = [*method.options, *keep_unread(), *self.task.reading]
        options += LABELS[self.task.kind] if method.labels else ()
        calib = data.labelled if method.labels else data.plain
        command = ["prune", self.task.model, "--calib", calib, "--samples", "all", *options]
        parts = [out.with_suffix(f".{number}.onnx") for number in range(TRIES)]
        records: list[dict[str, Any]] = []
        for part in parts:
            tried = [(record["asked"], record["share"]) for record in records]
            ask = asked(tried, budget) if tried else budget
            spent = mipack(*command, "--macs", f"{ask:.5f}", "--seed", seed, "-o", part, "--force")
            said = json.loads(spent.text)
            records.append({**_costs(spent), **self.cost.shares(part), "asked": ask, **_said(said)})
            if abs(records[-1]["share"] - budget) <= SLACK:
                break
        gaps = [abs(record["share"] - budget) for record in records]
        best = gaps.index(min(gaps))
        parts[best].replace(out)
        for part in parts:
            for left in (part, part.with_suffix(".plan.json")):
                left.unlink(missing_ok=True)
        return {**records[best], "tries": len(records), "options": " ".join(method.options)}

    # ------------------------------------------------------------ peers

    def _peer(
        self, method: Method, budget: float, seed: int, data: Samples, out: Path
    ) -> dict[str, Any]:
        settings, search = self.settings(method, budget)
        best = self.choices(method, budget).with_suffix(".best.onnx")
        if (
            search and seed == 0 and best.exists()
        ):  # made while its settings were chosen, on the same data
            best.replace(out)
            record = min(search["tried"], key=lambda tried: float(tried["kl"]))
        else:
            record = self._script(method, budget, seed, data, out, settings)
        return {**record, "settings": settings, "search": search}

    def choices(self, method: Method, budget: float) -> Path:
        """Where a peer's search for settings is written down."""
        stem = f"{self.task.name}-{method.name}-{budget:g}-{self.samples}"
        return self.out / "choices" / f"{stem}.json"

    def settings(self, method: Method, budget: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """A peer's best settings at a budget: the smallest divergence on the `choose` rows, with
        the calibration set of seed 0, and what was tried."""
        candidates = list(method.candidates[self.task.kind](budget))[: self._most]
        if len(candidates) == 1:
            return dict(candidates[0]), {}
        path = self.choices(method, budget)
        search = read_json(path) or {"tried": []}
        data = samples_of(self.task, self.out, 0, self.samples)
        scratch = path.with_suffix(".onnx")
        scratch.parent.mkdir(parents=True, exist_ok=True)
        for settings in candidates[len(search["tried"]) :]:
            found = self._candidate(method, budget, data, scratch, settings)
            if found["kl"] < min([float("inf"), *(tried["kl"] for tried in search["tried"])]):
                scratch.replace(path.with_suffix(".best.onnx"))
            search["tried"].append(found)
            replace(path, json.dumps(search))
        scratch.unlink(missing_ok=True)
        kls = [found["kl"] for found in search["tried"]]
        if min(kls) == float("inf"):
            raise Failed("; ".join(found["why"] for found in search["tried"]))
        return dict(search["tried"][kls.index(min(kls))]["settings"]), search

    def _candidate(
        self, method: Method, budget: float, data: Samples, out: Path, settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            record = self._script(method, budget, 0, data, out, settings)
        except Failed as error:
            return {"settings": dict(settings), "kl": float("inf"), "why": str(error)}
        record["kl"] = self.choose(out, f"{method.name} {settings}")["kl"]
        if abs(record["share"] - budget) > 4 * SLACK:  # not what was asked for
            record |= {"kl": float("inf"), "why": f"leaves {record['share']:.3f}"}
        return {"settings": dict(settings), **record}

    def _script(
        self, method: Method, budget: float, seed: int, data: Samples, out: Path,
        settings: Mapping[str, Any],
    ) -> dict[str, Any]:  # fmt: skip
        job = {
            "model": str(self.task.model),
            "kind": self.task.kind,
            "calib": str(data.labelled),
            "out": str(out),
            "budget": budget,
            "seed": seed,
            "settings": dict(settings),
            "classes": str(self.task.data / "classes.txt"),
            "checkpoint": str(checkpoint(self.task, self.out)),
        }
        path = out.with_suffix(".job.json")
        replace(path, json.dumps(job))
        script = HERE / "peers" / f"{method.script}.py"
        spent = spend([peers_python(self.out), script, path], {})
        path.unlink()
        said = json.loads(spent.text.strip().splitlines()[-1])
        return {**_costs(spent), **self.cost.shares(out), "said": said}


def _costs(spent: Spent) -> dict[str, float]:
    return {"seconds": spent.seconds, "cpu": spent.cpu, "peak_mb": spent.peak_mb}


def _said(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of a prune document."""
    return {"timings": document["timings"], "warnings": document["warnings"]}


_HELP: list[str] = []


def keep_unread() -> tuple[str, ...]:
    """Methods are compared by what they cut: work that nobody reads stays, if mipack knows it."""
    if not _HELP:
        start = [sys.executable, "-c", "from mipack.cli.app import main; main()", "prune", "--help"]
        width = {"PYTHONPATH": str(HERE.parent), "COLUMNS": "200"}
        _HELP.append(spend(start, width).text)
    return ("--keep-unread",) if "--keep-unread" in _HELP[0] else ()


# ---------------------------------------------------------------- the peers' environment


def peers_python(out: Path) -> Path:
    """The interpreter of the peers' environment, which is made where it is missing."""
    folder = out / "peers-venv"
    python, stamp = folder / "bin" / "python", folder / "ready"
    if not stamp.exists():
        print(f"making {folder} ..", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        for packages in ((TORCH,), PACKAGES):  # torch first: the others must not choose its build
            spend([python, "-m", "pip", "install", "-q", *packages], {})
        replace(stamp, "\n".join((TORCH, *PACKAGES)) + "\n")
    return python


def checkpoint(task: Task, out: Path) -> Path:
    """The Hugging Face checkpoint that to_hf.py beside the model makes (text)."""
    folder = out / "checkpoint"
    script = task.model.parent / "to_hf.py"
    if script.exists() and not (folder / "tokenizer.json").exists():
        spend([peers_python(out), script, folder], {})
    return folder
