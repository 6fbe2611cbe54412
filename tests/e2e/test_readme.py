"""The README's commands and figures are true: each `$ mipack` line on the bundled example runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (mipack .*)$", README, re.MULTILINE)


def test_the_readme_shows_the_main_commands() -> None:
    assert {command.split()[1] for command in COMMANDS} >= {"inspect", "prune", "eval", "bench"}


def test_the_commands_run_in_order(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(ROOT / "models")
    for command in COMMANDS:
        _, *arguments = shlex.split(command)
        if arguments[0] == "bench":
            arguments += ["--seconds", "0.5"]
        program = Path(sys.executable).parent / "mipack"
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_point_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"@[A-Z0-9_]+@", README)
