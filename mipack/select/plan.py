"""plan.json: what is kept of every group, and why; the contract between deciding and cutting.

A plan can be read, edited, diffed and replayed on a model of the same structure (a fine-tuned
sibling): groups are found by name and size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mipack.couple.solve import Coupling, Group
from mipack.errors import InputError, PlanMismatch

FORMAT = "mipack-plan/1"
Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """The kept units of one group; `loss` is the predicted rise of KL (nats per sample),
    `information` the share of the group's information that the kept units hold.

    Of a family (dims inside heads) `keep` has a row for every unit of its contexts, in order; a
    family of which nothing goes is one row like any group. Of a branch that goes nothing is kept.
    Where `rotated`, units are not those of
    the file but principal directions, most important first, found again from the moments.
    """

    name: str
    kind: str
    size: int
    keep: tuple[int, ...] | tuple[tuple[int, ...], ...]
    loss: float = 0.0
    information: float = 1.0
    rotated: bool = False

    @property
    def kept(self) -> int:
        """How many units stay (in each context)."""
        return int(np.shape(self.keep)[-1])


@dataclass(frozen=True, slots=True)
class Plan:
    """All decisions of one run."""

    groups: tuple[GroupPlan, ...]
    model: str
    """Digest of the model that it was made for."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the dynamic dimensions in the calibration data."""
    macs: tuple[int, int] = (0, 0)
    """Multiply-adds of one sample, before and after."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; see the README for the schema."""
        return {"format": FORMAT, **asdict(self)}

    def dumps(self) -> str:
        """The file's text, a group a line; the same plan gives the same bytes."""
        document = self.to_json()
        lines = ",\n  ".join(json.dumps(group, sort_keys=True) for group in document["groups"])
        text = json.dumps({**document, "groups": "@"}, indent=1, sort_keys=True)
        return text.replace('"groups": "@"', f'"groups": [\n  {lines}\n ]', 1) + "\n"

    def tables(self, coupling: Coupling) -> dict[Group, Ints]:
        """What stays of every group that loses units: [contexts.., kept].

        Raises PlanMismatch where a group is missing, has another size or may not be cut.
        """
        known = {group.name: group for group in coupling.groups}
        tables = {}
        for planned in self.groups:
            group = known.get(planned.name)
            if group is None or group.size != planned.size:
                raise PlanMismatch(
                    f"this model has no group {planned.name!r} of {planned.size} units",
                    hint="make a plan for this model with mipack prune --plan-only",
                )
            if planned.kept == group.size:
                continue
            if group.frozen:
                raise PlanMismatch(
                    f"group {planned.name!r} may not be cut: {group.frozen[0]}",
                    hint="keep all its units in the plan",
                )
            tables[group] = _table(planned, group)
        _check_gone(coupling, [group for group, table in tables.items() if not table.shape[-1]])
        return tables


def _check_gone(coupling: Coupling, gone: Sequence[Group]) -> None:
    """PlanMismatch where groups of which no unit is kept may not go, alone or together."""
    held = [group.name for group in gone if not coupling.removable(group)]
    problem = coupling.branches.without([group.atom for group in gone]).problem
    if held or problem is not None:
        named = held or [g.name for g in gone if problem is None or g.atom in problem.atoms]
        raise PlanMismatch(
            f"the plan keeps no unit of {', '.join(map(repr, named))}, which "
            + ("may not go entirely" if held else "may not go together"),
            hint="keep at least one unit in the plan",
        )


def kept_units(table: Ints) -> tuple[int, ...] | tuple[tuple[int, ...], ...]:
    """A table [contexts.., kept] as a plan lists it."""
    rows = table.reshape(int(np.prod(table.shape[:-1])), table.shape[-1]).tolist()
    return tuple(map(tuple, rows)) if table.ndim > 1 else tuple(rows[0])


def _table(planned: GroupPlan, group: Group) -> Ints:
    """The same the other way; one row may stand for all contexts."""
    outer = group.shape[:-1]
    listed = np.array(planned.keep, np.int64)
    rows = int(np.prod(outer)) if outer else 1
    if listed.ndim == 2 and len(listed) != rows:
        raise PlanMismatch(
            f"group {planned.name!r} needs {rows} rows of kept units, not {len(listed)}",
            hint="make a plan for this model with mipack prune --plan-only",
        )
    table = np.broadcast_to(listed, (rows, listed.shape[-1]))
    return table.reshape(*outer, listed.shape[-1]) if outer else table[0]


def load_plan(path: Path) -> Plan:
    """Read a plan file; InputError for a damaged one, PlanMismatch for another format."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the plan {path}: {error}", hint="is it a plan.json?"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise PlanMismatch(f"{path} is not a plan of format {FORMAT}", hint="make a new plan")
    try:
        groups = tuple(_group(entry) for entry in data["groups"])
        if len({group.name for group in groups}) < len(groups):
            raise ValueError("a group is planned twice")
        before, after = data["macs"]
        return Plan(
            groups,
            str(data["model"]),
            dict(data["settings"]),
            dict(data["sizes"]),
            (int(before), int(after)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the plan {path} is damaged: {error!r}", hint="make a new plan"
        ) from error


def _group(entry: Mapping[str, Any]) -> GroupPlan:
    size, keep = int(entry["size"]), tuple(entry["keep"])
    rows = [tuple(row) for row in keep] if keep and isinstance(keep[0], list) else [keep]
    for row in rows:
        if any(type(unit) is not int for unit in row):
            raise ValueError(f"group {entry['name']!r}: keep must list whole numbers")
        if sorted(set(row)) != list(row) or (row and (row[0] < 0 or row[-1] >= size)):
            where = f"units of 0..{size - 1}"
            raise ValueError(f"group {entry['name']!r}: keep must be ascending {where}")
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"group {entry['name']!r}: every row must keep as many units")
    return GroupPlan(
        str(entry["name"]),
        str(entry["kind"]),
        size,
        tuple(rows) if keep and isinstance(keep[0], list) else keep,
        float(entry["loss"]),
        float(entry["information"]),
        bool(entry.get("rotated", False)),
    )
