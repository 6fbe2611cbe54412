"""Results print as text everywhere and as escaped HTML in a notebook; progress goes to logging."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from toys import mlp

import mipack
from mipack.front import bench, evaluate
from mipack.options import PruneOptions, Settings
from mipack.show.blocks import Column, Table, html, plain

TOY = mlp(6, 12, 10, 3)
FAST: dict[str, Any] = {"keep": 0.5, "criterion": "magnitude", "allocate": "uniform"}
HOSTILE = "</td><script>alert(1)</script>&\"'\x1b[31m"


class Tags(HTMLParser):
    """The tags and the text of a document; every tag that opens must close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._open.append(tag)
        assert {name for name, _ in attrs} <= {"style"}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_escaped_and_text_is_clean() -> None:
    table = Table((Column(HOSTILE, "name"), Column("n")), ((HOSTILE, "1"),), HOSTILE)
    page = Tags(html([HOSTILE, table]))
    assert page.tags <= {"div", "p", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert page.text.count("<script>alert(1)</script>") == 4  # as text
    assert "\x1b" not in page.text and "\x1b" not in plain([HOSTILE, table])


def test_results_print_as_text_and_in_notebooks(digits: Path) -> None:
    result = mipack.prune(TOY.proto, TOY.feeds, **FAST)
    shown: list[Any] = [
        result,
        mipack.inspect(TOY.proto),
        evaluate(TOY.proto, TOY.proto, TOY.feeds),
        bench([digits / "model.onnx"] * 2, rounds=6, seconds=0.1),
    ]
    for record in shown:
        assert repr(record) == str(record) and len(repr(record)) < 3_000
        assert "<table>" in record._repr_html_()
        Tags(record._repr_html_())
    assert "MACs per sample" in repr(result) and "verified:" in repr(result)
    assert "fc0:out" in repr(shown[1]) and "agreement" in repr(shown[2])
    assert "time ratio" in repr(shown[3])


# ---------------------------------------------------------------- logging


def test_progress_and_warnings_go_to_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mipack"):
        result = mipack.prune(TOY.proto, TOY.feeds[:1], **FAST)
    said = {(record.name, record.levelno, record.getMessage()) for record in caplog.records}
    assert ("mipack", logging.INFO, "cut and prove") in said
    assert result.warnings  # so few rows
    for text in result.warnings:
        assert ("mipack", logging.WARNING, text) in said


def test_nothing_is_printed_by_default() -> None:
    """A library is silent until whoever uses it sets up logging, warnings included."""
    code = "import mipack, logging; logging.getLogger('mipack').warning('w')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


# ---------------------------------------------------------------- types


def test_the_settings_that_type_checkers_see_are_the_options() -> None:
    assert set(get_type_hints(Settings)) == {field.name for field in fields(PruneOptions)}


CLIENT = """
from pathlib import Path

import numpy as np
import onnx

import mipack
from mipack.front import bench, evaluate


def main(model: onnx.ModelProto) -> None:
    feeds = ({"x": np.zeros((1, 6), np.float32)} for _ in range(3))
    result = mipack.prune(model, feeds, keep=0.5, only="fc*", read=mipack.ReadOptions(samples=9))
    kept: list[int] = [group.kept for group in result.plan.groups]
    macs: int = result.after.macs
    text: tuple[str, ...] = result.warnings
    files: tuple[Path, ...] = result.save("x.onnx", force=True)
    same: float | None = evaluate(model, "x.onnx", "data").agreement
    ratio: float = bench([Path("a"), Path("b")]).comparison.ratio
    names: list[str] = [row.name for row in mipack.inspect("x.onnx").free]
    swept: mipack.Sweep = mipack.sweep("x.onnx", "data", "out", keep=[0.2, 0.4], criterion="mi")
    print(kept, macs, text, files, same, ratio, names, swept)
"""
WRONG = """
import mipack

mipack.prune("m.onnx", keep="half")
mipack.prune("m.onnx", colour="red")
mipack.prune("m.onnx").after.mac
"""


def test_a_client_type_checks(tmp_path: Path) -> None:
    """The package says that it is typed, and a checker finds both what is right and what is not."""
    root = Path(mipack.__file__).parent
    assert (root / "py.typed").exists()
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "wrong.py").write_text(WRONG)
    found = checked(root.parent, tmp_path / "client.py", tmp_path / "wrong.py")
    assert not [line for line in found if "client.py" in line], found
    wrong = [line for line in found if "wrong.py" in line]
    assert [line.split(":")[1] for line in wrong] == ["4", "5", "6"], found


def checked(root: Path, *files: Path) -> list[str]:
    """What mypy says, by the settings and with the cache of the package's own check."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, files)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line]
