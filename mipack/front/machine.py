"""`env`: the machine and the packages, as every result should name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipack.runtime.machine import environment


@dataclass(frozen=True, slots=True)
class Environment:
    """Plain facts by name; see `mipack.runtime.machine.environment`."""

    facts: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """The facts."""
        return dict(self.facts)


def env() -> Environment:
    """Versions, cores, memory, GPUs, and the providers that really compute here."""
    return Environment(environment())
