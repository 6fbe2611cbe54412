"""`inspect`: what can be cut, what it would save, and what cannot be cut and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mipack.couple.causes import cause_of
from mipack.couple.solve import Coupling, Group
from mipack.data.dataset import ReadOptions
from mipack.front.inputs import prepared_model
from mipack.graph.load import weight_bytes, weight_count
from mipack.graph.unread import without_unread
from mipack.prepare import Data

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


@dataclass(frozen=True, slots=True)
class Inspection:
    """A model's groups. `macs` counts one sample at `sizes`, `unread` of them the part whose result
    nobody reads; `bytes` those of the weights."""

    model: str
    macs: int
    unread: int
    params: int
    bytes: int
    sizes: Mapping[str, int]
    groups: tuple[GroupRow, ...]
    frozen: tuple[FrozenClass, ...]
    unknown_ops: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def free(self) -> tuple[GroupRow, ...]:
        """The groups that may be cut."""
        return tuple(row for row in self.groups if row.free)

    def to_json(self) -> dict[str, object]:
        """All of it as plain values."""
        return asdict(self)


def inspect(
    model: Path,
    calib: Data | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    options: ReadOptions | None = None,
) -> Inspection:
    """The groups of the model in a file.

    `calib` only serves to run the model; without it feeds are made from the signature, in these
    `sizes` of dimensions, else in those of the plan beside the model. Raises InputError.
    """
    prepared, notes = prepared_model(model, calib, sizes=sizes, options=options)
    coupling = prepared.coupling
    rows = tuple(_row(group, coupling, prepared.samples) for group in coupling.groups)
    return Inspection(
        model=str(model),
        macs=coupling.cost.macs({}) // prepared.samples,
        unread=_unread(coupling) // prepared.samples,
        params=weight_count(prepared.model),
        bytes=weight_bytes(prepared.model),
        sizes=dict(prepared.sizes),
        groups=rows,
        frozen=_classes(rows),
        unknown_ops=dict(coupling.unknown_ops),
        notes=notes,
    )


def _unread(coupling: Coupling) -> int:
    found = without_unread(coupling.model, coupling.probe)
    left = coupling.cost_of(found.left if found else {})
    return coupling.cost.macs({}) - left.macs({})


def _row(group: Group, coupling: Coupling, samples: int) -> GroupRow:
    names = {other.atom: other.name for other in coupling.groups}
    total = coupling.cost.macs({})
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


def _classes(rows: tuple[GroupRow, ...]) -> tuple[FrozenClass, ...]:
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
