"""The coverage benchmark as a script, on two small models; its table of pairs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from coverage_table import behind, differing, pairs

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("bert_dyn", "mlp_sklearn")


def cover(folder: Path, out: Path, *names: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "benchmarks" / "coverage.py"), str(folder), *names]
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*script, "--out", str(out), "--jobs", "1"],
        env=settings, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_run_leaves_tables_and_goes_on_from_its_records(shared: Path, tmp_path: Path) -> None:
    first = cover(shared / "zoo", tmp_path, *NAMES)
    assert first.returncode == 0, first.stderr
    document = json.loads((tmp_path / "coverage.json").read_text())
    assert [record["name"] for record in document["models"]] == sorted(NAMES)
    bert = document["models"][0]
    assert bert["result"] == "pruned" and bert["cut"] > 0.4 and bert["oracle"] < 1e-4
    assert abs(bert["predicted"] - bert["cut"]) < 0.01
    assert bert["frozen"]["interface"] and bert["held"]
    assert all(cause and reasons for _, _, cause, *reasons in bert["held"])
    table = (tmp_path / "coverage.md").read_text()
    assert all(f"| {name} | pruned |" in table for name in NAMES)

    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "records").iterdir()}
    assert cover(shared / "zoo", tmp_path, *NAMES).returncode == 0
    assert records == {p: p.stat().st_mtime_ns for p in (tmp_path / "records").iterdir()}


def test_a_model_that_cannot_be_run_is_a_line_not_a_crash(tmp_path: Path) -> None:
    folder = tmp_path / "zoo" / "broken"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text("this is no model")
    found = cover(tmp_path / "zoo", tmp_path / "out")
    assert found.returncode == 0, found.stderr
    (record,) = json.loads((tmp_path / "out" / "coverage.json").read_text())["models"]
    assert record["result"] == "error" and record["why"]


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    assert cover(tmp_path / "zoo", tmp_path / "out", "ghost").returncode != 0


A = {
    "name": "net_ts",
    "macs": 9000,
    "cut": 0.5,
    "groups": [[8, "hidden", True], [8, "hidden", True]],
}
B = {
    "name": "net_dyn",
    "macs": 9000,
    "cut": 0.4,
    "groups": [[8, "hidden", True], [8, "hidden", False]],
}


def test_pairs_say_which_groups_differ() -> None:
    index = {"net_ts": {"family": "net"}, "net_dyn": {"family": "net"}}
    assert [*differing(A, B)[0]] == [(8, "hidden", True)]
    text = pairs([A, B], index)
    assert "| net_ts | net_dyn | no | 9,000 | 9,000 | 0.500 | 0.400 | 0.100 |" in text
    assert "only net_dyn: 1 x 8 hidden (not free)" in text
    assert "net_dyn" not in pairs([A, B], {**index, "net_dyn": {"family": "other"}})


def test_behind_lists_what_the_reference_cut_more_of() -> None:
    reference = {
        "net_ts": {"prototype": {"cut": 0.505}},
        "net_dyn": {"prototype": {"cut": 0.6}},
    }
    assert behind([A, B], reference) == ["net_dyn (0.400 of 0.600)"]
