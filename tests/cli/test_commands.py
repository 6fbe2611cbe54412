"""The commands on the bundled example: what they print and write, one document with --json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mipack import __version__
from mipack.cli.app import app

FAST = ["--criterion", "magnitude", "--allocate", "uniform", "--no-refit", "--samples", "64"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(*arguments: object) -> dict[str, Any]:
    """The one JSON document of a command that succeeds."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    assert found["mipack"] == __version__ and found["command"] == arguments[0]
    return found


@pytest.fixture(scope="module")
def model() -> Path:
    return Path(__file__).resolve().parents[2] / "models" / "digits" / "model.onnx"


@pytest.fixture(scope="module")
def calib(model: Path) -> Path:
    return model.with_name("calib.npz")


@pytest.fixture(scope="module")
def pruned(model: Path, calib: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pruned") / "small.onnx"
    result = run("prune", model, "--calib", calib, "--keep", "0.5", "-o", out, *FAST, "-q")
    assert result.exit_code == 0, result.output
    return out


# ---------------------------------------------------------------- the command itself


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"mipack {__version__}\n")


def test_without_a_command_the_help_is_shown() -> None:
    result = run()
    assert result.exit_code == 2
    for command in ("inspect", "why", "prune", "finish", "eval", "bench", "env"):
        assert f"  {command} " in result.stdout


@pytest.mark.parametrize("command", ["inspect", "why", "prune", "finish", "eval", "bench", "env"])
def test_every_command_speaks_the_common_options(command: str) -> None:
    text = run(command, "--help").stdout
    for option in ("--json", "--verbose", "--quiet", "--help"):
        assert option in text


# ---------------------------------------------------------------- inspect and why


def test_inspect_lists_free_groups_and_sums_up_frozen_ones(model: Path) -> None:
    result = run("inspect", model)
    assert result.exit_code == 0
    assert "/stem:out" in result.stdout and "residual" in result.stdout
    assert "stem.weight:2" not in result.stdout  # a kernel axis: only in the summary
    assert "spatial axis" in result.stdout and "belongs to the signature" in result.stdout
    assert "made up" in result.stderr


def test_inspect_verbose_lists_every_group(model: Path) -> None:
    assert "stem.weight:2" in run("inspect", model, "-v").stdout


def test_inspect_json_holds_every_group(model: Path, calib: Path) -> None:
    found = document("inspect", model, "--calib", calib)
    groups = {group["name"]: group for group in found["groups"]}
    stem = groups["/stem:out"]
    assert (stem["state"], stem["size"]) == ("free", 32)
    assert ["stem.weight", 0] in stem["weights"] and ["widen.weight", 1] in stem["weights"]
    assert groups["/head:out"]["state"] == "frozen"
    assert 0 < stem["macs"] < found["macs"]
    assert stem["macs_share"] == pytest.approx(stem["macs"] / found["macs"])
    frozen = [group for group in found["groups"] if group["state"] == "frozen"]
    assert sum(entry["groups"] for entry in found["frozen"]) == len(frozen)
    assert found["params"] == 232_778


def test_inspect_counts_macs_per_sample_whatever_the_batch(model: Path) -> None:
    few = document("inspect", model, "--shape", "batch=2")
    many = document("inspect", model, "--shape", "batch=9")
    assert few["macs"] == many["macs"] and few["groups"] == many["groups"]


def test_why_tells_the_way_to_what_freezes_an_axis(model: Path) -> None:
    result = run("why", model, "hidden1.weight", "1")
    assert result.exit_code == 0
    assert "through Flatten /Flatten" in result.stdout
    assert "because: spatial axis [MaxPool /MaxPool]" in result.stdout


def test_why_lists_what_is_tied(model: Path) -> None:
    found = document("why", model, "block.conv2.bias", "0")
    (axis,) = found["axes"]
    (part,) = axis["parts"]
    assert part["group"] == "/widen:out" and part["state"] == "free" and part["chain"] == []
    assert ["widen.weight", 0] in part["weights"] and ["hidden1.weight", 1] in part["weights"]
    assert ["/block/Add_output_0", 1] in part["tied"]


def test_why_takes_the_name_of_a_group(model: Path) -> None:
    assert document("why", model, "/head:out")["axes"][0]["parts"][0]["state"] == "frozen"


# ---------------------------------------------------------------- prune


def test_prune_prints_size_fidelity_and_files(model: Path, calib: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    result = run("prune", model, "--calib", calib, "--keep", "0.5", "-o", out, *FAST)
    assert result.exit_code == 0, result.output
    for words in ("MACs per sample", "parameters", "bytes of weights", "agreement", "KL", "ratio"):
        assert words in result.stdout
    assert f"wrote {out}, {tmp_path / 'o.plan.json'}" in result.stdout
    assert "image: float32 [300, 1, 8, 8]" in result.stderr  # the preprocessing in force
    names = ["o.onnx", "o.plan.json", "o.report.html", "o.report.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_prune_json_names_the_files(model: Path, calib: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    found = document("prune", model, "--calib", calib, "--keep", "0.5", "-o", out, *FAST)
    names = ["o.onnx", "o.plan.json", "o.report.html", "o.report.json"]
    assert found["files"] == [str(tmp_path / name) for name in names]
    assert found["after"]["macs"] < found["before"]["macs"]
    assert all(check["passed"] for check in found["checks"])


def test_out_defaults_to_the_working_folder(
    model: Path, calib: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("prune", model, "--calib", calib, "--keep", "0.5", *FAST).exit_code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    stem = "model.pruned"
    ends = (".onnx", ".plan.json", ".report.html", ".report.json")
    assert names == [stem + end for end in ends]


def test_dry_run_predicts_and_writes_nothing(
    model: Path, calib: Path, pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["prune", model, "--calib", calib, "--keep", "0.5", *FAST, "--dry-run"]
    result = run(*arguments)
    assert result.exit_code == 0 and "predicted" in result.stdout
    assert not list(tmp_path.iterdir())
    found = document(*arguments)
    assert found["files"] == []
    assert found["after"]["params"] == document("inspect", pruned)["params"]


@pytest.mark.parametrize("name", ["o.onnx", "o.plan.json"])
def test_plan_only_writes_the_plan_which_then_gives_the_same_model(
    name: str, model: Path, calib: Path, pruned: Path, tmp_path: Path
) -> None:
    arguments = ["prune", model, "--calib", calib, *FAST, "-q"]
    result = run(*arguments, "--keep", "0.5", "-o", tmp_path / name, "--plan-only")
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["o.plan.json"]
    replay = run(*arguments, "--from-plan", tmp_path / "o.plan.json", "-o", tmp_path / "p.onnx")
    assert replay.exit_code == 0, replay.output
    assert (tmp_path / "p.onnx").read_bytes() == pruned.read_bytes()


# ---------------------------------------------------------------- eval


def test_eval_of_a_model_with_itself(model: Path) -> None:
    data = ["--data", model.with_name("test.npz"), "--labels", model.with_name("labels.npy")]
    found = document("eval", model, model, *data)
    assert found["samples"] == 497
    assert found["score"]["metric"] == "accuracy"
    assert found["score"]["first"] == pytest.approx(494 / 497)
    assert found["score"]["difference"] == 0.0
    assert found["fidelity"][0]["agreement"] == 1.0


def test_eval_prints_the_paired_interval(model: Path, pruned: Path) -> None:
    data = ["--data", model.with_name("test.npz"), "--labels", model.with_name("labels.npy")]
    result = run("eval", model, pruned, *data)
    assert result.exit_code == 0
    for words in ("accuracy of logits", "95 % interval", "agreement", "KL", "cosine", "lost"):
        assert words in result.stdout


def test_eval_without_labels_measures_fidelity_alone(model: Path, pruned: Path) -> None:
    data = model.with_name("test.npz")
    found = document("eval", model, pruned, "--data", data, "--samples", "50")
    assert found["samples"] == 50 and found["score"] is None


# ---------------------------------------------------------------- bench and env

SHORT = ["--rounds", "6", "--seconds", "0.2"]


def test_bench_tells_size_and_ratio(model: Path, pruned: Path) -> None:
    found = document("bench", model, pruned, *SHORT)
    first, second = (found["counts"][name] for name in ("model.onnx", "small.onnx"))
    assert second["macs"] < first["macs"] and second["file_bytes"] < first["file_bytes"]
    assert first["file_bytes"] == model.stat().st_size
    low, high = found["contrasts"][0]["interval"]
    assert low <= found["contrasts"][0]["ratio"] <= high
    assert len(found["timings"][0]["samples_ms"]) >= 6
    assert str(pruned.with_name("small.plan.json")) in found["notes"][0]
    assert found["machine"]["cores"] >= 1


def test_bench_races_on_every_shape(model: Path, pruned: Path) -> None:
    shapes = ["--shape", "batch=1", "--shape", "batch=4"]
    result = run("bench", model, pruned, *shapes, *SHORT)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "batch=1" in lines and "batch=4" in lines


def test_bench_takes_a_batch_of_the_data(model: Path, pruned: Path) -> None:
    data = ["--data", model.with_name("test.npz"), "--batch-size", "5"]
    found = document("bench", model, pruned, *data, *SHORT)
    assert {timing["shape"] for timing in found["timings"]} == {"batch=5"}


def test_bench_tells_models_of_one_name_apart(model: Path, pruned: Path) -> None:
    twin = pruned.with_name("model.onnx")
    twin.write_bytes(pruned.read_bytes())
    assert list(document("bench", model, twin, *SHORT)["counts"]) == [str(model), str(twin)]


def test_a_doubled_runtime_is_said_at_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mipack.runtime.machine.doubled_runtime", lambda: "two runtimes")
    result = run("inspect", model, "-q")
    assert result.exit_code == 0 and result.stderr == "warning: two runtimes\n"


def test_env_names_versions_and_what_works() -> None:
    found = document("env")
    assert found["packages"]["mipack"] == __version__
    assert "CPUExecutionProvider" in found["providers_working"]
