"""The figures of the main job, through the command line as a user runs it.

    python benchmarks/main_job.py ../shared --out build/figures [--only minilm,resnet,signals,bench]

ROOT holds models/minilm-sst2, models/resnet56-cifar10, data/sst2, data/cifar10. Every figure is
the JSON document of one `mipack` command; this script runs them one after the other, adds wall
time and peak memory of the process, and prints a markdown table. Accuracy: SST-2 dev + test and
the CIFAR-10 test images, read for these figures only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

MIPACK = [str(Path(sys.executable).parent / "mipack")]


@dataclass(frozen=True)
class Task:
    """A model, what calibrates it and what judges it."""

    name: str
    model: Path
    calib: Path
    reading: tuple[str, ...]
    tests: tuple[tuple[Path, tuple[str, ...]], ...]
    shapes: tuple[str, ...]


def tasks(root: Path) -> dict[str, Task]:
    """The two real models."""
    sst2, cifar = root / "data/sst2", root / "data/cifar10"
    pixels = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    labels = ("--text-column", "sentence", "--label-column", "label")
    return {
        "minilm": Task(
            "MiniLM",
            root / "models/minilm-sst2/model.onnx",
            sst2 / "train.tsv",
            ("--text-column", "sentence"),
            ((sst2 / "dev.tsv", labels), (sst2 / "test.tsv", labels)),
            ("batch=8,sequence=128", "batch=1,sequence=16"),
        ),
        "resnet": Task(
            "ResNet-56",
            root / "models/resnet56-cifar10/model.onnx",
            cifar / "train.zip",
            pixels,
            ((cifar / "test.zip", (*pixels, "--classes", str(cifar / "classes.txt"))),),
            ("batch=1", "batch=8"),
        ),
    }


def run(*arguments: object) -> tuple[dict[str, Any], float, float]:
    """A mipack command: its JSON document, wall seconds, peak MB."""
    command = [*MIPACK, *map(str, arguments), "--json"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    document = json.loads(text)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {document}")
    return document, time.perf_counter() - start, usage.ru_maxrss / 1024


def judge(task: Task, pruned: Path) -> dict[str, float]:
    """Accuracy of both models over all test files, in points; agreement and KL."""
    total: dict[str, float] = {}
    samples = 0
    for data, reading in task.tests:
        document, _, _ = run("eval", task.model, pruned, "--data", data, *reading)
        n = document["samples"]
        score, faith = document["score"], document["fidelity"][0]
        found = {"base": score["first"], "accuracy": score["second"]}
        found |= {"agreement": faith["agreement"], "kl": faith["kl"]}
        total = {key: total.get(key, 0.0) + n * value for key, value in found.items()}
        samples += n
    mean = {key: value / samples for key, value in total.items()}
    return mean | {"points": 100 * (mean["accuracy"] - mean["base"]), "samples": samples}


def matmul_share(original: Path, pruned: Path) -> float:
    """Elements of the MatMul weights: pruned over original (their MACs per token)."""
    sizes = []
    for path in (original, pruned):
        graph = onnx.load(path).graph
        weights = {t.name: t.dims for t in graph.initializer if len(t.dims) == 2}
        used = [
            weights[n.input[1]]
            for n in graph.node
            if n.op_type == "MatMul" and n.input[1] in weights
        ]
        sizes.append(sum(a * b for a, b in used))
    return sizes[1] / sizes[0]


def prune(task: Task, out: Path, *options: str) -> dict[str, Any]:
    """One pruning run, judged."""
    document, seconds, memory = run(
        "prune",
        task.model,
        "--calib",
        task.calib,
        *task.reading,
        *options,
        "--keep-unread",
        "-o",
        out,
        "--force",
    )
    row = {
        "model": task.name,
        "options": " ".join(options),
        "macs": document["after"]["macs"] / document["before"]["macs"],
        "params": document["after"]["params"] / document["before"]["params"],
        "seconds": seconds,
        "peak_mb": memory,
        "timings": document["timings"],
        "held_out": document["fidelity"],
        **judge(task, out),
    }
    if task.name == "MiniLM":
        row["matmul_share"] = matmul_share(task.model, out)
    show(row)
    return row


def show(row: dict[str, Any]) -> None:
    """One line of the table."""
    share = f" ({row['matmul_share']:.3f} of the weight MatMuls)" if "matmul_share" in row else ""
    print(
        f"| {row['model']} | `{row['options']}` | {row['macs']:.3f}{share} | "
        f"{row['points']:+.2f} | "
        f"{row['agreement']:.3f} | {row['kl']:.4f} | {row['seconds']:.0f} s | "
        f"{row['peak_mb'] / 1000:.2f} GB |",
        flush=True,
    )


BASELINE = ("--criterion", "magnitude", "--no-refit")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/figures"))
    parser.add_argument("--only", default="minilm,resnet,baselines,signals,bench")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    parts, known = set(chosen.only.split(",")), tasks(chosen.root)
    budgets = {"minilm": [("--keep", "0.4")], "resnet": [("--macs", "0.7"), ("--macs", "0.5")]}
    rows: list[dict[str, Any]] = []
    print("| model | options | MACs left | points | agreement | KL | time | memory |")
    print("|---|---|---|---|---|---|---|---|")
    for key, task in known.items():
        for budget in budgets[key]:
            out = chosen.out / f"{key}{budget[1]}.onnx"
            if key in parts:
                rows.append(prune(task, out, *budget))
            scratch = chosen.out / f"{key}.scratch.onnx"
            if "baselines" in parts:
                rows.append(prune(task, scratch, *budget, *BASELINE))
                rows.append(prune(task, scratch, *budget, "--no-refit"))
            for signal in ("logits", "mixed") if "signals" in parts else ():
                rows.append(prune(task, scratch, *budget, "--signal", signal))
            for shape in task.shapes if "bench" in parts else ():
                rows.append(time_of(task, out, shape))
    (chosen.out / "figures.json").write_text(json.dumps(rows, indent=1))


def time_of(task: Task, pruned: Path, shape: str) -> dict[str, Any]:
    """Both models side by side at one shape."""
    document, _, _ = run("bench", task.model, pruned, "--shape", shape)
    ratio = document["contrasts"][0]
    times = [timing["median_ms"] for timing in document["timings"]]
    low, high = ratio["interval"]
    print(
        f"| {task.name} | {pruned.name} at {shape}: {times[0]:.2f} ms -> {times[1]:.2f} ms, time "
        f"ratio {ratio['ratio']:.3f} ({low:.3f} to {high:.3f})"
        f"{', noisy' if ratio['noisy'] else ''} |",
        flush=True,
    )
    return {"model": task.name, "bench": shape, "pruned": pruned.name, "document": document}


if __name__ == "__main__":
    main()
