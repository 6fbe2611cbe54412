"""`inspect`: what can be cut, what it would save, and what cannot be cut and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mipack.couple.listing import FrozenClass, GroupRow, frozen_classes, listed
from mipack.couple.solve import Coupling
from mipack.data.dataset import ReadOptions
from mipack.front.inputs import prepared_model
from mipack.graph.load import weight_bytes, weight_count, write_text
from mipack.graph.unread import without_unread
from mipack.prepare import Data
from mipack.result import check_page


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
    rows = listed(coupling, prepared.samples)
    return Inspection(
        model=str(model),
        macs=coupling.cost.macs({}) // prepared.samples,
        unread=_unread(coupling) // prepared.samples,
        params=weight_count(prepared.model),
        bytes=weight_bytes(prepared.model),
        sizes=dict(prepared.sizes),
        groups=rows,
        frozen=frozen_classes(rows),
        unknown_ops=dict(coupling.unknown_ops),
        notes=notes,
    )


def write_page(found: Inspection, out: Path, *, force: bool = False) -> Path:
    """Write the inspection as one HTML page, atomically. InputError where it exists."""
    from mipack.report.html import render_inspection

    check_page(out, force)
    write_text(out, render_inspection(found.to_json()))
    return out


def _unread(coupling: Coupling) -> int:
    found = without_unread(coupling.model, coupling.probe)
    left = coupling.cost_of(found.left if found else {})
    return coupling.cost.macs({}) - left.macs({})
