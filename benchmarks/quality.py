"""How much quality each method leaves at equal cost, on two real models, beside every peer:

    python benchmarks/quality.py DATA --out DIR [--models minilm,resnet] [--methods all]
        [--budgets 0.4,0.2] [--seeds 0,1,2] [--samples 512] [--judge validate] [--candidates N]
        [--bench] [--unread]

DATA holds models/ and data/. Budgets are shares that stay: of the encoder's weight MatMuls for
MiniLM, of all MACs for ResNet-56. Each method gets the same unlabelled samples of train (those that
need labels get them), is run in a process of its own, and is judged by the same code. `--judge
validate` reads rows of train outside of every calibration set; `--judge test` reads SST-2 dev +
test and CIFAR-10's test images and logs every read in DIR/test-reads.log. `--methods` takes names,
`ours`, `refit` (ours with refit), `peers`, `repeat` (the calls of
shared peers.md, on test data only) or `all`. `--candidates N` lets peers choose from their N most
promising settings only, which saves hours.

DIR keeps the pruned models with the records of their runs, one file per judged cell, the settings
that the peers chose (each on 1,000 other rows of train), and the peers' own environment, made from
the package index. What exists is not run again: a run that was killed goes on. DIR/quality-JUDGE.md
and .json hold the tables of all cells, DIR/curves-*.svg the pictures. `--bench` times the first
seed's models with `mipack bench` and needs a quiet machine; `--unread` removes from every method's
model the work that nobody reads, and judges these in tables of their own.
MiniLM's models take about 60 MB each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from quality_curves import curves
from quality_judge import Judge, read_json
from quality_methods import OURS, PEERS, Method, chosen, methods
from quality_run import HERE, Failed, Runner
from quality_table import grouped, report
from quality_tasks import Task, replace, tasks

UNREAD = "-unread"


def main() -> None:
    """Run what is missing, then write the tables of everything that is there."""
    options = _options()
    out: Path = options.out
    known, skipped = tasks(options.root), []
    for name in options.models:
        task = known[name]
        runner = Runner(task, out, options.samples, options.candidates)
        judge = Judge(task, options.judge, out)
        for seed in options.seeds:
            for budget in options.budgets or task.budgets:
                for method in options.methods:
                    if method.suits(task.kind, judge.judge, budget):
                        skipped += cell(runner, judge, method, budget, seed, options)
    for line in dict.fromkeys(skipped):
        print(line, file=sys.stderr)
    suffix = UNREAD if options.unread else ""
    write_tables(known, out, options.judge + suffix, options.samples, list(dict.fromkeys(skipped)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def listed(kind: Any) -> Any:
        return lambda text: [kind(part) for part in text.split(",")]

    parser.add_argument("root", type=Path, metavar="DATA")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=listed(str), default=["minilm", "resnet"])
    parser.add_argument("--methods", type=chosen, default="all")
    parser.add_argument("--budgets", type=listed(float))
    parser.add_argument("--seeds", type=listed(int), default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--candidates", type=int)
    parser.add_argument("--judge", choices=("validate", "test"), default="validate")
    parser.add_argument("--bench", action="store_true")
    parser.add_argument("--unread", action="store_true")
    options = parser.parse_args()
    options.root, options.out = options.root.resolve(), options.out.resolve()
    if unknown := set(options.models) - set(tasks(options.root)):
        raise SystemExit(f"--models: {', '.join(sorted(unknown))} not known")
    return options


def cell(
    runner: Runner, judge: Judge, method: Method, budget: float, seed: int, options: Any
) -> list[str]:
    """Make one cell where it is missing; a line on what could not be done."""
    name = runner.stem(method, budget, seed)
    kind = judge.judge + (UNREAD if options.unread else "")
    path = runner.out / "cells" / kind / f"{name}.json"
    found = read_json(path)
    bench = options.bench and seed == options.seeds[0]
    if found is not None and ("bench" in found or not bench):
        return []
    try:
        model, run = runner.model(method, budget, seed)
        if options.unread:
            model, run = runner.unread(model, run)
        if found is None:
            found = _described(runner.task, method, budget, seed, runner.samples)
            found |= {"run": run, "commit": _commit(), **judge(model, name)}
        if bench:
            found["bench"] = runner.bench(model)
    except Failed as error:
        return [f"{runner.task.name} {method.name} {budget:g} seed {seed}: no model ({error})"]
    replace(path, json.dumps(found))
    print(
        f"{name}: {found['points']:+.2f} points, agreement {found['agreement']:.4f}, KL "
        f"{found['kl']:.4f}, share {found['run']['share']:.3f}, {found['run']['seconds']:.0f} s",
        flush=True,
    )
    return []


def _described(
    task: Task, method: Method, budget: float, seed: int, samples: int
) -> dict[str, Any]:
    names = {"task": task.name, "method": method.name, "budget": budget}
    return {**names, "seed": seed, "samples": samples}


def _commit() -> str:
    """What made the cell; empty outside of a checkout."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


# ---------------------------------------------------------------- what is written in the end


def write_tables(
    known: dict[str, Task], out: Path, judge: str, samples: int, skipped: Sequence[str]
) -> None:
    """Markdown, JSON and curves of all cells of one judge and size of calibration."""
    cells = [read_json(path) for path in sorted((out / "cells" / judge).glob("*.json"))]
    found = [c for c in cells if c is not None and c["samples"] == samples]
    names = sorted(methods(), key=list(methods()).index)
    parts = [f"# Quality at equal cost, {samples} calibration samples\n"]
    commits = sorted({c["commit"] for c in found})
    parts.append(f"Cells made by {', '.join(commits) or 'nothing yet'}.\n")
    for name, task in known.items():
        mine = [c for c in found if c["task"] == name]
        if mine:
            parts.append(report(task.title, judge, names, list(PEERS), mine))
            _draw(task, out, f"{judge}-{samples}", mine)
    if skipped:
        parts.append("## Not run\n\n" + "\n".join(f"* {line}" for line in skipped) + "\n")
    log = out / "test-reads.log"
    if log.exists():
        parts.append(f"Test data was read {len(log.read_text().splitlines())} times.\n")
    replace(out / f"quality-{judge}-{samples}.md", "\n".join(parts))
    replace(out / f"quality-{judge}-{samples}.json", json.dumps(found, indent=1))


def _draw(task: Task, out: Path, stem: str, cells: Sequence[dict[str, Any]]) -> None:
    """Ours against peers, and ours among each other, over cost and over measured time."""
    groups = grouped(cells)
    sets = {"peers": [next(iter(OURS)), *PEERS], "criteria": list(OURS)}
    costs = {
        "macs": ("share of all MACs kept", lambda seeds: [c["run"]["macs"] for c in seeds]),
        "time": (
            "measured time, original = 1",
            lambda seeds: [c["bench"]["ratio"] for c in seeds if "bench" in c],
        ),
    }
    for kind, (across, cost) in costs.items():
        for label, names in sets.items():
            lines = {
                name: [
                    (mean(cost(seeds)), 100 * mean(c["accuracy"] for c in seeds))
                    for (method, _), seeds in groups.items()
                    if method == name and cost(seeds)
                ]
                for name in names
            }
            if any(lines.values()):
                picture = curves(f"{task.title}: {label}", across, lines)
                replace(out / f"curves-{task.name}-{label}-{kind}-{stem}.svg", picture)


if __name__ == "__main__":
    main()
