"""Whether mipack's Fisher information is that of the original module's own gradients:

    python benchmarks/exact_signal.py DATA --out DIR [--samples 64]

MiniLM is rebuilt as a Hugging Face module by to_hf.py beside the model, in the environment of the
peers (DIR/peers-venv). For every linear layer that mipack judges by, E g g' of the gradients of
log p(class | x) is formed there in float64 with autograd, and compared with what `mipack prune`
calibrates from the ONNX file. Prints the largest relative difference of each layer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from quality_run import checkpoint, peers_python, spend
from quality_tasks import samples_of, tasks

from mipack.data.dataset import ReadOptions
from mipack.gather import collect
from mipack.material import Material
from mipack.options import Logged, Stopwatch, checked
from mipack.prepare import open_model, prepare, read_data


def main() -> None:
    """Both sides, and their difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, metavar="DATA")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=64)
    options = parser.parse_args()
    out: Path = options.out.resolve()
    task = tasks(options.root.resolve())["minilm"]
    data = samples_of(task, out, 0, options.samples)
    folder = out / "exact-signal"
    folder.mkdir(parents=True, exist_ok=True)
    ours(task.model, data.plain, folder)
    script = Path(__file__).parent / "peers" / "fisher.py"
    said = spend([peers_python(out), script, checkpoint(task, out), folder], {}).text
    for layer, error in json.loads(said.strip().splitlines()[-1]).items():
        print(f"{layer}: {error:.1e}")


def ours(path: Path, calib: Path, folder: Path) -> None:
    """fisher.npz, E g g' of every site by name; and rows.json, the token ids it comes from."""
    model = open_model(path)
    read = ReadOptions(text_column="sentence", samples=None)
    prepared = prepare(model, read_data(path, model, calib, read))
    material = Material(prepared, checked({"macs": 0.5}), Logged(), None)
    evidence = collect(material, Stopwatch())
    assert evidence is not None and material.fit is not None
    found = {site.name: evidence.fisher(site) for site in evidence.sites}
    np.savez(folder / "fisher.npz", **{n.replace("/", "|"): f for n, f in found.items()})  # type: ignore[arg-type]
    rows = [
        batch.feeds["input_ids"][0][batch.feeds["attention_mask"][0] > 0].tolist()
        for batch in material.fit.batches(1)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
