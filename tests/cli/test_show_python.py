"""--show-python: the script that is printed does what the command line does."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mipack.cli.app import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_script_gives_the_same_model(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--calib", digits / "calib.npz", "--macs", "0.4", "--samples", "48", "--seed", "3",
        "--criterion", "wanda", "--exclude", "/hidden2*", "--round", "4", "--batch-size", "16",
    ]  # fmt: skip
    theirs, ours = tmp_path / "cli.onnx", tmp_path / "script.onnx"
    result = run("prune", digits / "model.onnx", *options, "-o", ours, "--show-python")
    assert result.exit_code == 0, result.output
    assert not ours.exists()
    (tmp_path / "script.py").write_text(result.stdout)
    runpy.run_path(str(tmp_path / "script.py"))
    assert run("prune", digits / "model.onnx", *options, "-o", theirs).exit_code == 0
    assert ours.read_bytes() == theirs.read_bytes()
    plans = [path.with_suffix(".plan.json").read_bytes() for path in (ours, theirs)]
    assert plans[0] == plans[1]
    assert ours.with_suffix(".report.json").exists()


def test_only_what_differs_is_spelled_out(digits: Path) -> None:
    model = digits / "model.onnx"
    short = run("prune", model, "--calib", digits / "calib.npz", "--keep", "0.4", "--show-python")
    assert short.stdout == (
        "from pathlib import Path\n\nimport mipack\nfrom mipack.front import reports\n\n"
        f"result = mipack.prune(\n    Path({str(model)!r}),\n"
        f"    Path({str(digits / 'calib.npz')!r}),\n    keep=0.4,\n)\n"
        "print(result)\n"
        f"reports.save(result, Path({str(model)!r}), Path('model.pruned.onnx'))\n"
    ).replace(*shortened(model))


def shortened(model: Path) -> tuple[str, str]:
    """Where the paths are long the last call is broken into lines too."""
    line = f"reports.save(result, Path({str(model)!r}), Path('model.pruned.onnx'))\n"
    broken = (
        f"reports.save(\n    result,\n    Path({str(model)!r}),\n"
        "    Path('model.pruned.onnx'),\n)\n"
    )
    return line, broken if len(line) > 101 else line


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--dry-run"], ["decide_only=True"]),
        (["--plan-only"], ["decide_only=True", "result.save("]),
        (["--force", "--no-refit"], ["force=True", "refit=False"]),
        (["--iterations", "3"], ["iterations=3"]),
        (
            ["--bench", "--shape", "batch=4"],
            ["race=reports.Bench(data=Path('c'), shapes="],
        ),
        (["--mean", "0.5", "--resize", "8"], ["mipack.ReadOptions(mean=(0.5,), resize=8)"]),
        (["--moments", "it's.npz"], ['moments=Path("it\'s.npz")']),
        (["--classes", "c.txt"], ["classes=read_classes(Path('c.txt'))"]),
    ],
)
def test_every_option_has_its_place(options: list[str], parts: list[str]) -> None:
    result = run("prune", "m.onnx", "--calib", "c", "--keep", "0.4", *options, "--show-python")
    assert result.exit_code == 0, result.output
    compile(result.stdout, "script", "exec")
    for part in parts:
        assert part in result.stdout


def test_libraries_are_loaded_around_it_all(tmp_path: Path) -> None:
    library = tmp_path / "ops.so"
    library.touch()
    text = run("prune", "m", "--keep", "0.4", "--custom-ops", library, "--show-python").stdout
    compile(text, "script", "exec")
    assert f"with mipack.custom_ops(Path({str(library)!r})):\n    result = mipack.prune(" in text


def test_as_json_and_with_mistakes() -> None:
    found = json.loads(run("prune", "m", "--keep", "0.4", "--show-python", "--json").stdout)
    assert found["python"].startswith("from pathlib import Path")
    result = run("prune", "m", "--keep", "0.4", "--criterion", "best", "--show-python")
    assert result.exit_code == 2 and "--criterion best: not known" in result.stderr
