"""Groups as plain rows: what each is, what it takes part in, and why it may not be cut."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mipack.couple.causes import cause_of
from mipack.couple.coupling import Coupling, Group
from mipack.layout import Term

_PLACE = re.compile(r"^(?P<why>.*) \[(?P<op>\S+) (?P<node>.+)\]$", re.DOTALL)
_INTERFACE = re.compile(r"^interface: (?P<value>.*) belongs to the signature$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group. `state` is "free", "frozen", "width" (normalised over) or "family" (chosen for
    each unit of another group: `within`). `cause` is the class of what freezes it (see
    `couple.causes`). `macs` per sample are those of every layer that the group takes part in, so
    shares overlap; `weights` are (initializer, axis); `removable`: no unit of it need stay."""

    name: str
    kind: str
    size: int
    state: str
    reasons: tuple[str, ...]
    cause: str
    within: tuple[str, ...]
    macs: int
    macs_share: float
    weights: tuple[tuple[str, int], ...]
    removable: bool

    @property
    def free(self) -> bool:
        """Whether it may be cut."""
        return self.state in ("free", "family")


@dataclass(frozen=True, slots=True)
class FrozenClass:
    """All groups frozen for one kind of reason, with one of them and the node that froze it."""

    reason: str
    cause: str
    groups: int
    units: int
    example: str
    node: str


def listed(coupling: Coupling, samples: int) -> tuple[GroupRow, ...]:
    """Every group in the order of the graph; multiply-adds of one of `samples` samples."""
    names = {group.atom: group.name for group in coupling.groups}
    total = coupling.cost.macs({})
    return tuple(_row(group, coupling, names, total, samples) for group in coupling.groups)


def _row(
    group: Group, coupling: Coupling, names: Mapping[Term, str], total: int, samples: int
) -> GroupRow:
    return GroupRow(
        name=group.name,
        kind=group.kind,
        size=group.size,
        state=state_of(group),
        reasons=(*group.frozen, *group.width),
        cause=cause_of(group.frozen),
        within=tuple(names[atom] for atom in group.within if atom in names),
        macs=group.macs // samples,
        macs_share=group.macs / total if total else 0.0,
        weights=group.touches,
        removable=coupling.removable(group),
    )


def state_of(group: Group) -> str:
    """See `GroupRow`."""
    if group.frozen:
        return "frozen"
    if group.width:
        return "width"
    return "family" if group.within else "free"


def split_reason(reason: str) -> tuple[str, str]:
    """(kind of reason, "Op node" or "") of what froze an atom; an interface names its value."""
    interface = _INTERFACE.match(reason)
    if interface:
        return "belongs to the signature", interface["value"]
    place = _PLACE.match(reason)
    return (place["why"], f"{place['op']} {place['node']}") if place else (reason, "")


def frozen_classes(rows: Sequence[GroupRow]) -> tuple[FrozenClass, ...]:
    """Frozen groups by the first of their reasons, the most frequent reason first."""
    found: dict[str, list[GroupRow]] = {}
    for row in rows:
        if row.state == "frozen":
            found.setdefault(split_reason(row.reasons[0])[0], []).append(row)
    classes = [
        FrozenClass(
            reason=reason,
            cause=cause_of(members[0].reasons[:1]),
            groups=len(members),
            units=sum(row.size for row in members),
            example=members[0].name,
            node=split_reason(members[0].reasons[0])[1],
        )
        for reason, members in found.items()
    ]
    return tuple(sorted(classes, key=lambda entry: (-entry.groups, entry.reason)))
