"""What a user asks for: shares of what the original costs, and how they are spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mipack.couple.cost import Cost
from mipack.couple.solve import Group
from mipack.layout import Term
from mipack.select.allocate import uniform
from mipack.select.budget import Budget

BUDGETS = ("keep", "macs", "params", "size", "latency")
"""Shares in (0, 1] of what the original costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for: one or more budgets, of which all must hold; and the share of what
    something averages over (the hidden size), which is cut to no other end."""

    keep: float | None = None
    macs: float | None = None
    params: float | None = None
    size: float | None = None
    latency: float | None = None
    allocate: str = "information"
    round_to: int | None = None
    width: float | None = None
    own: bool = False
    """The criterion's own widths: no budget binds."""

    @property
    def shares(self) -> dict[str, float]:
        """The budgets given."""
        listed = ((name, getattr(self, name)) for name in BUDGETS)
        return {name: share for name, share in listed if share is not None}

    @property
    def share(self) -> float:
        """The first number given."""
        return next(iter(self.shares.values()))

    def at(self, **shares: float) -> Request:
        """The same with these budgets alone."""
        return replace(self, **{**dict.fromkeys(BUDGETS), **shares})  # type: ignore[arg-type]

    def budgets(
        self, groups: Sequence[Group], cost: Cost, held: Mapping[Term, int] | None = None
    ) -> tuple[Budget, ...]:
        """The exact targets, with the widths `held` besides.

        `keep` is what cutting every group to that share would leave. What is chosen inside the
        units of another group (dims in heads) does not count twice: it is a means, unless the
        units around it may not go.
        """
        found = []
        for name, share in self.shares.items():
            full = cost.full("macs" if name == "keep" else name)
            if name == "keep":
                outer = uniform(self._outer(groups), share)
                found.append(Budget("macs", cost.macs({**(held or {}), **outer}), full))
            else:
                found.append(Budget(name, int(share * full), full))
        return tuple(found)

    def _outer(self, groups: Sequence[Group]) -> Sequence[Group]:
        if self.allocate != "information":
            return groups
        atoms = {group.atom for group in groups}
        return [group for group in groups if not atoms.intersection(group.within)]
