"""Names that are new to a file."""

from __future__ import annotations


def fresh_name(base: str, taken: set[str | None]) -> str:
    """A name that the file does not have yet; it is taken from now on."""
    count, name = 1, base
    while name in taken:
        count += 1
        name = f"{base}.{count}"
    taken.add(name)
    return name
