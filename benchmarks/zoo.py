"""Prune every model of a folder and count what is cut: python benchmarks/zoo.py FOLDER [NAME ...]

FOLDER/NAME/model.onnx with FOLDER/NAME/calib/*.npz. Every model is pruned as
`mipack prune --keep 0.5 --allocate uniform` does it, written, and loaded again. A refusal (nothing
to cut, with the reason) counts as no cut; anything else that stops a model is an error. Where
FOLDER/reference.json exists, the MACs cut stand beside its figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import mipack
from mipack.errors import InputError
from mipack.runtime.session import Session


def one(folder: Path, keep: float, allocate: str) -> dict[str, Any]:
    """Prune one model; a JSON-friendly record."""
    start = time.perf_counter()
    record: dict[str, Any] = {"name": folder.name, "cut": 0.0}
    try:
        result = mipack.prune(folder / "model.onnx", folder / "calib", keep=keep, allocate=allocate)
        with tempfile.TemporaryDirectory() as target:
            files = result.save(Path(target) / "out.onnx")
            Session(files[-2])
        record |= {
            "result": "pruned",
            "cut": 1 - result.after.macs / max(result.before.macs, 1),
            "groups": len(result.plan.groups),
            "error": result.checks[0].detail,
            "agreement": result.fidelity.get("agreement"),
            "kl": result.fidelity.get("kl"),
        }
    except InputError as error:
        kind = "nothing to cut" if "nothing can be pruned" in str(error) else "ERROR"
        record |= {"result": kind, "why": str(error)}
    except Exception as error:
        record |= {"result": "ERROR", "why": f"{type(error).__name__}: {error}"}
    record["seconds"] = round(time.perf_counter() - start, 2)
    return record


def main() -> None:
    """Run, print a table, write the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--allocate", default="uniform")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.names or sorted(p.parent.name for p in options.folder.glob("*/model.onnx"))
    reference = options.folder / "reference.json"
    known = json.loads(reference.read_text()) if reference.exists() else {}
    records = []
    for name in names:
        record = one(options.folder / name, options.keep, options.allocate)
        records.append(record)
        best = known.get(name, {}).get("prototype", {}).get("cut")
        print(
            f"{name:26} {record['result']:15} cut {record['cut']:.3f}"
            f"{'' if best is None else f' (reference {best:.3f})'} {record['seconds']:6.1f} s"
            f"  {record.get('why', '')[:160]}",
            flush=True,
        )
    counts: dict[str, int] = {}
    for record in records:
        counts[record["result"]] = counts.get(record["result"], 0) + 1
    mean = sum(record["cut"] for record in records) / max(len(records), 1)
    print(f"{len(records)} models: {counts}; mean share of MACs cut {mean:.3f}")
    if options.json:
        options.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
