"""What mipack prunes of a folder of models, how much, and what it leaves:

    python benchmarks/coverage.py FOLDER [NAME ..] --out DIR [--jobs N] [--keep R] [--width R] [--core] [--pairs] [--fresh]

FOLDER/NAME/model.onnx with FOLDER/NAME/calib/*.npz. Each model is pruned as `mipack prune --keep R
--allocate uniform` does it, written, loaded and counted (counter.py); random cuts of all its groups
go through the oracle on every calibration file; every frozen group is listed with its class. A
process per model, so that a crash is a line of the table. A record per model lies in DIR, named by
a hash of the model, its data, the settings and mipack's sources: a run that was killed goes on.
DIR/coverage.json and DIR/coverage.md hold the whole. Where FOLDER/reference.json exists, its
figures stand beside ours; index.json says what is `core` and which models are of one family.
"""  # noqa: E501

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coverage_model import Record, study
from coverage_table import markdown, pairs

HERE = Path(__file__).resolve().parent
PATIENCE = 900
"""Seconds that one model may take."""


def key(folder: Path, settings: dict[str, Any]) -> str:
    """A hash of all that a record depends on."""
    state = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    sources = [*HERE.parent.glob("mipack/**/*.py"), *HERE.glob("co*.py")]
    for path in [*sorted(sources), *sorted(p for p in folder.rglob("*") if p.is_file())]:
        state.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:16]


def work(folder: Path, settings: dict[str, Any], target: Path) -> None:
    """Study one model and leave its record (the whole body of a process)."""
    settings = dict(settings)
    width = settings.pop("width")
    record = study(folder, settings, width)
    part = target.with_suffix(".part")
    part.write_text(json.dumps(record))
    part.replace(target)


def recorded(folder: Path, settings: dict[str, Any], out: Path, fresh: bool) -> Record:
    """A model's record: the one that lies there, or a new one from a process of its own."""
    target = out / "records" / f"{folder.name}.{key(folder, settings)}.json"
    if fresh:
        target.unlink(missing_ok=True)
    if not target.exists():
        process = _context().Process(target=work, args=(folder, settings, target))
        process.start()
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
            return {"name": folder.name, "result": "error", "why": f"not done in {PATIENCE} s"}
        if not target.exists():
            why = f"the process ended with code {process.exitcode}"
            return {"name": folder.name, "result": "error", "why": why}
    return json.loads(target.read_text())


def _context() -> Any:
    """Processes that start with the heavy modules loaded and no thread running."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "onnxruntime", "mipack.pipeline"])
    return context


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else {}


def chosen(folder: Path, names: Iterable[str], core: bool, index: dict[str, Any]) -> list[str]:
    """The models asked for, else all; ValueError for one that is not there."""
    found = sorted(path.parent.name for path in folder.glob("*/model.onnx"))
    unknown = sorted(set(names) - set(found))
    if unknown:
        raise SystemExit(f"no such model in {folder}: {', '.join(unknown)}")
    wanted = [name for name in found if name in set(names)] or found
    return [name for name in wanted if not core or index.get(name, {}).get("core")]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path, required=True, help="folder of records and tables")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--width", type=float, help="prune once more, with the hidden sizes too")
    parser.add_argument("--core", action="store_true", help="only models marked core")
    parser.add_argument("--pairs", action="store_true", help="compare NAME_ts with NAME_dyn")
    parser.add_argument("--fresh", action="store_true", help="take no old record")
    return parser.parse_args()


def main() -> None:
    """Run, print a line per model, write the tables."""
    options = arguments()
    index = {entry["name"]: entry for entry in _read(options.folder / "index.json") or []}
    names = chosen(options.folder, options.names, options.core, index)
    settings = {"keep": options.keep, "allocate": "uniform", "width": options.width}
    (options.out / "records").mkdir(parents=True, exist_ok=True)
    records = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for record in pool.map(
            lambda n: recorded(options.folder / n, settings, options.out, options.fresh), names
        ):
            records.append(record)
            share = f"cut {record['cut']:.3f}" if "cut" in record else record.get("why", "")[:120]
            print(f"{record['name']:28} {record['result']:8} {share}", flush=True)
    text = markdown(records, _read(options.folder / "reference.json"), settings)
    if options.pairs:
        text += "\n" + pairs(records, index)
    document = {"format": "mipack-coverage/1", "settings": settings, "models": records}
    (options.out / "coverage.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / "coverage.md").write_text(text)
    print("\n" + text.split("\n## ")[0])


if __name__ == "__main__":
    main()
