"""Every mistake of the user through the command line: exit 2, one clear line, nothing written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from mistakes import OLD, build, dense, rows, run, said
from onnx import helper

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "models" / "digits"
MODEL, CALIB = str(DIGITS / "model.onnx"), str(DIGITS / "calib.npz")

ONE_LAYER = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[batch, 8] x) => (float[batch, 3] y) { y = MatMul(x, w) }
"""
TABLE = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (int64[batch, sequence] input_ids) => (float[batch, sequence, 2] y) {
    e = Gather(table, input_ids)
    y = MatMul(e, w)
}
"""


# ---------------------------------------------------------------- one function per mistake:
# it makes what it needs in a folder and returns the arguments of `mipack prune`

Case = Callable[[Path], list[str | Path]]


def not_onnx(folder: Path) -> list[str | Path]:
    (folder / "m.onnx").write_text("this is no model")
    return [folder / "m.onnx"]


def missing_file(folder: Path) -> list[str | Path]:
    return [folder / "m.onnx"]


def truncated(folder: Path) -> list[str | Path]:
    (folder / "m.onnx").write_bytes(Path(MODEL).read_bytes()[:500_000])
    return [folder / "m.onnx"]


def external(folder: Path, location: str = "m.data") -> Path:
    model = dense(folder / "m.onnx")
    onnx.save(
        model, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0
    )
    loaded = onnx.load(folder / "m.onnx", load_external_data=False)
    for tensor in loaded.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    onnx.save(loaded, folder / "m.onnx")
    return folder / "m.onnx"


def missing_external(folder: Path) -> list[str | Path]:
    path = external(folder)
    (folder / "m.data").unlink()
    return [path]


def truncated_external(folder: Path) -> list[str | Path]:
    path = external(folder)
    (folder / "m.data").write_bytes((folder / "m.data").read_bytes()[:100])
    return [path]


def escaping_external(folder: Path) -> list[str | Path]:
    (folder / "inner").mkdir()
    path = external(folder / "inner", "../m.data")
    shutil.copy(folder / "inner" / "m.data", folder / "m.data")
    return [path]


def unknown_op(folder: Path) -> list[str | Path]:
    model = dense(folder / "m.onnx")
    model.graph.node[1].op_type, model.graph.node[1].domain = "Frobnicate", "my.company"
    model.opset_import.append(helper.make_opsetid("my.company", 1))
    onnx.save(model, folder / "m.onnx")
    return [folder / "m.onnx"]


def future_opset(folder: Path) -> list[str | Path]:
    model = dense(folder / "m.onnx")
    model.opset_import[0].version = 99
    onnx.save(model, folder / "m.onnx")
    return [folder / "m.onnx"]


def ancient_opset(folder: Path) -> list[str | Path]:
    model = dense(folder / "m.onnx")
    model.opset_import[0].version = 7
    onnx.save(model, folder / "m.onnx")
    return [folder / "m.onnx"]


def nan_weights(folder: Path) -> list[str | Path]:
    dense(folder / "m.onnx", w1=np.full((8, 16), np.nan))
    return [folder / "m.onnx"]


def nothing_prunable(folder: Path) -> list[str | Path]:
    build(folder / "m.onnx", ONE_LAYER, w=np.ones((8, 3)))
    return [folder / "m.onnx"]


def out_of_reach(folder: Path) -> list[str | Path]:
    dense(folder / "m.onnx")
    data = rows(folder / "calib.npz", x=np.random.default_rng(0).normal(size=(256, 8)))
    return [folder / "m.onnx", "--calib", data, "--params", "0.01"]


def both_out_of_reach(folder: Path) -> list[str | Path]:
    return [*out_of_reach(folder), "--macs", "0.9"]


def no_gate(folder: Path) -> list[str | Path]:
    dense(folder / "m.onnx")
    unseen = ["--criterion", "magnitude", "--no-refit"]
    return [folder / "m.onnx", "--macs", "0.5", "--max-drop", "1", *unseen]


def with_data(**arrays: np.ndarray) -> Case:
    """The small dense model with these arrays as calibration data."""

    def case(folder: Path) -> list[str | Path]:
        dense(folder / "m.onnx")
        return [folder / "m.onnx", "--calib", rows(folder / "calib.npz", **arrays)]

    return case


def empty_folder(folder: Path) -> list[str | Path]:
    (folder / "calib").mkdir()
    return [MODEL, "--calib", folder / "calib"]


def missing_folder(folder: Path) -> list[str | Path]:
    return [MODEL, "--calib", folder / "calib"]


def object_array(folder: Path) -> list[str | Path]:
    dense(folder / "m.onnx")
    np.savez(folder / "calib.npz", x=np.array([{"a": 1}], dtype=object))
    return [folder / "m.onnx", "--calib", folder / "calib.npz"]


def text_model(folder: Path, words: int = 9) -> Path:
    build(folder / "m.onnx", TABLE, table=np.ones((words, 4)), w=np.ones((4, 2)))
    return folder / "m.onnx"


def no_tokenizer(folder: Path) -> list[str | Path]:
    (folder / "lines.txt").write_text("one line\nanother\n")
    return [text_model(folder), "--calib", folder / "lines.txt"]


def option(*arguments: str) -> Case:
    """The bundled example with its data and these options."""
    return lambda folder: [MODEL, "--calib", CALIB, *arguments]


def damaged_plan(folder: Path) -> list[str | Path]:
    (folder / "p.json").write_text("{}")
    return [MODEL, "--calib", CALIB, "--from-plan", folder / "p.json"]


X = np.zeros((4, 8), np.float32)
CASES: dict[str, tuple[Case, str]] = {
    "not an ONNX file": (not_onnx, "not an ONNX"),
    "no such file": (missing_file, "not a file"),
    "truncated file": (truncated, "truncated"),
    "missing external data": (missing_external, "m.data"),
    "truncated external data": (truncated_external, "truncated"),
    "escaping external data": (escaping_external, "outside"),
    "unknown op": (unknown_op, "Frobnicate"),
    "domain of the unknown op": (unknown_op, "my.company"),
    "future opset": (future_opset, "opset"),
    "ancient opset": (ancient_opset, "opset 7"),
    "NaN in weights": (nan_weights, "w1"),
    "nothing prunable": (nothing_prunable, "signature"),
    "empty calibration folder": (empty_folder, "empty"),
    "missing calibration folder": (missing_folder, "no such"),
    "missing input array": (with_data(a=X, b=X), "'x'"),
    "wrong rank": (with_data(x=X[:, :, None]), "rank 3"),
    "wrong size": (with_data(x=X[:, :5]), "size 5"),
    "wrong dtype": (with_data(x=X.astype(np.int64)), "int64"),
    "object array": (object_array, "pickle"),
    "NaN in the data": (with_data(x=np.full((4, 8), np.nan, np.float32)), "NaN"),
    "text without a tokenizer": (no_tokenizer, "tokenizer"),
    "keep 0": (option("--keep", "0"), "--keep"),
    "keep 1.5": (option("--keep", "1.5"), "1.5"),
    "keep abc": (option("--keep", "abc"), "abc"),
    "keep nan": (option("--keep", "nan"), "nan"),
    "negative budget": (option("--macs", "-1"), "--macs"),
    "two budgets, one out of reach": (both_out_of_reach, "--params binds"),
    "a shape of no use": (option("--macs", "0.5", "--shape", "batch=4"), "--latency"),
    "a shape of another model": (option("--latency", "0.5", "--shape", "rows=4"), "rows"),
    "a drop without data": (no_gate, "--max-drop is measured on held-out samples"),
    "a drop that so few cannot tell": (option("--max-drop", "1"), "too small to tell"),
    "negative drop": (option("--max-drop", "-1"), "--max-drop"),
    "plan and budget": (option("--keep", "0.5", "--from-plan", "p.json"), "--from-plan"),
    "a budget out of reach": (out_of_reach, "is reachable"),
    "a pattern that matches nothing": (option("--keep", "0.5", "--only", "no/such*"), "no/such*"),
    "unknown criterion": (option("--keep", "0.5", "--criterion", "luck"), "luck"),
    "unknown option": (option("--keep", "0.5", "--kepe", "1"), "--kepe"),
    "damaged plan": (damaged_plan, "p.json"),
    "no such plan": (option("--from-plan", "none.plan.json"), "none.plan.json"),
    "no samples": (option("--keep", "0.5", "--samples", "0"), "--samples 0"),
    "bad comma list": (option("--keep", "0.5", "--mean", "a,b"), "--mean a,b"),
    "unknown input": (option("--keep", "0.5", "--input", "ghost=image"), "ghost"),
    "malformed input": (option("--keep", "0.5", "--input", "image"), "NAME=FIELD"),
    "option of another reader": (option("--keep", "0.5", "--text-column", "t"), "--text-column"),
    "provider": (option("--keep", "0.5", "--provider", "tpu"), "tpu"),
}
BUDGETS = ("--keep", "--macs", "--params", "--latency", "--max-drop", "--from-plan")


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_touches_nothing(name: str, tmp_path: Path) -> None:
    case, words = CASES[name]
    work, target = tmp_path / "work", tmp_path / "target"
    work.mkdir()
    target.mkdir()
    out = target / "out.onnx"
    out.write_bytes(OLD)
    arguments = case(work)
    budget = [] if any(a in BUDGETS for a in arguments) else ["--keep", "0.5"]

    result = run("prune", *arguments, *budget, "-o", out, "--force", "-q")

    assert result.exit_code == 2, result.output
    assert words in " ".join(said(result))
    assert out.read_bytes() == OLD and list(target.iterdir()) == [out]


def test_no_budget_is_a_mistake(tmp_path: Path) -> None:
    result = run("prune", MODEL, "--calib", CALIB, "-o", tmp_path / "o.onnx", "-q")
    assert result.exit_code == 2
    assert "--keep" in " ".join(said(result))


def test_out_equal_to_the_input(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    shutil.copy(MODEL, model)
    for out in (model, tmp_path / "." / "m.onnx"):
        result = run("prune", model, "--calib", CALIB, "--keep", "0.5", "-o", out, "--force", "-q")
        assert result.exit_code == 2 and "input" in said(result)[0]
    assert model.read_bytes() == Path(MODEL).read_bytes()


def test_out_in_a_missing_folder(tmp_path: Path) -> None:
    out = tmp_path / "gone" / "o.onnx"
    result = run("prune", MODEL, "--calib", CALIB, "--keep", "0.5", "-o", out, "-q")
    assert result.exit_code == 2 and "gone" in said(result)[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "existing", ["o.onnx", "o.plan.json", "o.onnx.data", "o.report.html", "o.report.json"]
)
def test_existing_output_is_refused_with_the_command_that_would_work(
    existing: str, tmp_path: Path
) -> None:
    (tmp_path / existing).write_bytes(OLD)
    arguments = ["prune", MODEL, "--calib", CALIB, "--keep", "0.5", "-o", str(tmp_path / "o.onnx")]
    result = run(*arguments, "-q")
    assert result.exit_code == 2
    error, hint = said(result)
    assert existing in error
    assert f"mipack {' '.join(arguments)} -q --force" in hint
    assert (tmp_path / existing).read_bytes() == OLD
    assert [path.name for path in tmp_path.iterdir()] == [existing]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "out" / "o.onnx"
    out.parent.mkdir()
    out.write_bytes(OLD)
    dense(model)
    data = rows(tmp_path / "c.npz", x=np.random.default_rng(0).normal(size=(64, 8)))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = run("prune", model, "--calib", data, "--keep", "0.5", "-o", out, "--force", "-q")
    assert result.exit_code == 2
    assert "No space left" in result.stderr and "Traceback" not in result.output
    assert out.read_bytes() == OLD and list(out.parent.iterdir()) == [out]


def test_few_samples_work_and_warn(tmp_path: Path) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    dense(model)
    data = rows(tmp_path / "c.npz", x=np.random.default_rng(0).normal(size=(6, 8)))
    result = run("prune", model, "--calib", data, "--keep", "0.5", "-o", out, "-q")
    assert result.exit_code == 0, result.output
    assert "warning: " in result.stderr
    assert out.is_file()


# ---------------------------------------------------------------- the other commands


@pytest.mark.parametrize("command", ["inspect", "why", "eval", "bench"])
def test_every_command_refuses_what_is_no_model(command: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("this is no model")
    extra = {
        "why": ["tensor"],
        "eval": [MODEL, "--data", str(DIGITS / "test.npz")],
        "bench": [MODEL],
    }
    result = run(command, tmp_path / "m.onnx", *extra.get(command, []), "-q")
    assert result.exit_code == 2
    assert "not an ONNX" in said(result)[0]


def test_eval_refuses_a_broken_second_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("this is no model")
    result = run("eval", MODEL, tmp_path / "m.onnx", "--data", DIGITS / "test.npz", "-q")
    assert result.exit_code == 2 and "m.onnx" in said(result)[0]


def test_eval_refuses_labels_that_do_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.zeros(5, np.int64))
    data = ["--data", str(DIGITS / "test.npz"), "--labels", str(tmp_path / "l.npy")]
    result = run("eval", MODEL, MODEL, *data, "-q")
    assert result.exit_code == 2 and "labels" in said(result)[0]


@pytest.mark.parametrize(
    ("shape", "words"),
    [("batch=0", "batch=0"), ("batch", "NAME=N"), ("rows=4", "rows"), ("batch=2,batch=3", "twice")],
)
def test_bench_refuses_shapes_that_mean_nothing(shape: str, words: str) -> None:
    result = run("bench", MODEL, MODEL, "--shape", shape, "-q")
    assert result.exit_code == 2 and words in " ".join(said(result))


def test_bench_says_which_inputs_to_supply_where_made_up_ones_are_refused(tmp_path: Path) -> None:
    """Indices 0 and 1 of a table with one row: made-up ids do not exist."""
    path = text_model(tmp_path, words=1)
    result = run("bench", path, path, "-q")
    error, hint = said(result)
    assert result.exit_code == 2 and "made up" in error
    assert "--data" in hint and "input_ids int64 [batch, sequence]" in hint


def test_why_names_the_closest_tensors() -> None:
    result = run("why", MODEL, "hidden1.weigth", "-q")
    assert result.exit_code == 2 and "hidden1.weight" in said(result)[1]


def test_why_refuses_an_axis_that_is_not_there() -> None:
    result = run("why", MODEL, "hidden1.weight", "2", "-q")
    assert result.exit_code == 2 and "2 axes" in said(result)[1]
