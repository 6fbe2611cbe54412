"""mipack env: versions, machine, providers that really work, doubled installs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mipack.cli._options import OutputOptions, flat

if TYPE_CHECKING:
    from mipack.front.machine import Environment
    from mipack.show.blocks import Block


@flat
def env(*, output: OutputOptions) -> None:
    """Show versions, the machine, the providers that really work."""
    from mipack.front import machine

    with output.sink("env") as sink:
        found = machine.env()
        sink.result(found, lambda: _blocks(found))


def _blocks(found: Environment) -> Sequence[Block]:
    from mipack.show.blocks import Column, Table

    facts = found.to_json()
    packages = facts.pop("packages")
    rows = [(name.replace("_", " "), _spell(name, value)) for name, value in facts.items()]
    rows += [(name, version or "-") for name, version in _items(packages)]
    return [Table((Column("what", "word"), Column("value", "text")), tuple(rows))]


def _items(packages: Any) -> list[tuple[str, str | None]]:
    return list(packages.items())


def _spell(name: str, value: Any) -> str:
    from mipack.show.blocks import volume

    if name == "memory_bytes":
        return volume(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "no" if value is None else str(value)
