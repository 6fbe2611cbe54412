"""`inspect`: what can be cut, what it would save, and what cannot be cut and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mipack.couple.listing import FrozenClass, GroupRow, frozen_classes, listed
from mipack.couple.solve import Coupling
from mipack.data.dataset import ReadOptions
from mipack.front.inputs import prepared_model
from mipack.graph.load import weight_bytes, weight_count, write_text
from mipack.graph.unread import without_unread
from mipack.prepare import Data, Source, path_of
from mipack.result import check_page
from mipack.show.blocks import Block, Column, Table, count, share, volume
from mipack.show.shown import Shown


@dataclass(frozen=True, slots=True, repr=False)
class Inspection(Shown):
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

    def blocks(self, *, every: bool = False) -> Sequence[Block]:
        """Groups and what is frozen; `every`: each frozen group too."""
        free = self.free
        blocks: list[Block] = [
            f"{self.model}: {count(self.macs)} MACs per sample, {count(self.params)} parameters, "
            f"{volume(self.bytes)} of weights",
            _groups(self, every=every),
        ]
        if not free:
            blocks.append("nothing in this model may be cut")
        else:
            whole = sum(row.removable for row in free)
            blocks.append(
                f"{len(free)} free groups of {sum(row.size for row in free):,} units"
                + (f"; {whole} may go entirely, with the branch that they are in" if whole else "")
            )
        if self.unread:
            part = share(self.unread / self.macs)
            blocks.append(
                f"nobody reads what {part} of the MACs compute: prune and slim leave it out"
            )
        if any(row.state == "family" for row in self.groups):
            blocks.append("family: chosen for each unit of another group; mipack why names it")
        if self.frozen:
            blocks.append(_frozen(self))
        if self.unknown_ops:
            listed = ", ".join(f"{op} ({n})" for op, n in self.unknown_ops.items())
            blocks.append(f"no rule for: {listed}; all axes that they touch are frozen")
        return blocks

    def to_json(self) -> dict[str, object]:
        """All of it as plain values."""
        return asdict(self)


def inspect(
    model: Source | str,
    calib: Data | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    options: ReadOptions | None = None,
) -> Inspection:
    """The groups of a model: a path, a ModelProto, an onnx-ir model or an onnx-graphsurgeon Graph.

    `calib` only serves to run the model; without it feeds are made from the signature, in these
    `sizes` of dimensions, else in those of the plan beside the model. Raises InputError.
    """
    prepared, notes = prepared_model(model, calib, sizes=sizes, options=options)
    coupling = prepared.coupling
    rows = listed(coupling, prepared.samples)
    return Inspection(
        model=str(path_of(model) or "the model"),
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


def _groups(found: Inspection, *, every: bool) -> Block:
    """Free groups, widths and families; frozen ones are summed up elsewhere unless asked for."""
    columns = (
        Column("group", "name"),
        Column("kind", "word"),
        Column("state", "word"),
        Column("size"),
        Column("MACs"),
        Column("weights"),
    )
    rows = tuple(
        (
            row.name,
            row.kind,
            row.state,
            f"{row.size:,}",
            share(row.macs_share),
            f"{len({name for name, _ in row.weights})}",
        )
        for row in found.groups
        if every or row.state != "frozen"
    )
    return Table(columns, rows, "groups (MACs: of all layers that a group takes part in)")


def _frozen(found: Inspection) -> Block:
    columns = (
        Column("frozen because", "text"),
        Column("groups"),
        Column("units"),
        Column("for example", "name"),
        Column("by", "name"),
    )
    rows = tuple(
        (entry.reason, f"{entry.groups:,}", f"{entry.units:,}", entry.example, entry.node)
        for entry in found.frozen
    )
    return Table(columns, rows)
