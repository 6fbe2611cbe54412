"""The rules of the source tree: who imports whom, how long things are, what is public."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mipack

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "mipack").rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# lint-imports of this interpreter, wherever the command itself is installed
LINT = (
    "from importlinter.cli import lint_imports_command as lint; lint(['--no-logo', '--no-cache'])"
)
HEAVY = ("PIL", "numpy", "onnx", "onnx_ir", "onnxruntime", "rich", "tokenizers", "torch", "typer")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh interpreter at the root of the repository."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def long_functions(path: Path) -> Iterator[str]:
    """Every function of a file over the limit, from its first decorator to its last line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            lines = (node.end_lineno or first) - first + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines"


def test_import_floors_and_doors() -> None:
    done = run_python(LINT)
    assert done.returncode == 0, done.stdout + done.stderr
    # A config that is not found or read must not pass for a clean result.
    kept = re.search(r"Contracts: (\d+) kept, 0 broken", done.stdout)
    assert kept is not None, done.stdout
    assert int(kept[1]) >= 7


def test_the_tree_is_found() -> None:
    assert ROOT / "mipack" / "errors.py" in SOURCES


def test_no_file_is_too_long() -> None:
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert not {p.relative_to(ROOT): n for p, n in lengths.items() if n > MAX_FILE_LINES}


def test_no_function_is_too_long() -> None:
    assert not [line for path in SOURCES for line in long_functions(path)]


def test_long_functions_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    source = tmp_path / "source.py"
    source.write_text(f"class A:\n  def f(self):\n{body}\ndef g():\n    return 1\n")
    assert list(long_functions(source)) == [f"source.py:2 f: {MAX_FUNCTION_LINES + 1} lines"]


def test_public_names_are_sorted_and_complete() -> None:
    assert mipack.__all__ == sorted(mipack.__all__)
    assert set(mipack.__all__) == {*mipack._HOME, "__version__"}
    assert dir(mipack) == mipack.__all__


@pytest.mark.parametrize("name", sorted(mipack._HOME))
def test_public_names_resolve(name: str) -> None:
    assert getattr(mipack, name).__name__ == name


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'mipack' has no attribute 'prun'"):
        mipack.prun  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    done = run_python(f"import mipack, sys; print([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
