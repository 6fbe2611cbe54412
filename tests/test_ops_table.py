"""The table of ops in mipack/ops/README.md is what the registry and the standard say."""

from __future__ import annotations

from mipack.ops.registry import families, registered, standard_ops
from mipack.ops.table import NEWEST_OPSET, README, table, within


def test_the_readme_holds_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert within(text) == text, "run python -m mipack.ops.table"


def test_every_op_stands_in_one_row() -> None:
    cells = [line.split(" | ")[1] for line in table().splitlines()[2:]]
    listed = [op.split(" ")[0] for cell in cells for op in cell.removesuffix(" |").split(", ")]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(registered()) | set(standard_ops(9, NEWEST_OPSET))
    assert {op for ops in families().values() for op in ops} == set(registered())


def test_versions_are_those_in_force() -> None:
    old, new = standard_ops(1, 28), standard_ops(9, 28)
    assert old["Add"].versions[0] == 1 and new["Add"].versions[:2] == (7, 13)
    assert new["Upsample"].versions == (9,)  # deprecated from opset 10 on
    assert standard_ops(9, 13)["Add"].versions == (7, 13)
    assert new["LayerNormalization"].versions == (17,) and new["LayerNormalization"].body
    assert not new["Conv"].body
