"""`slim`: a model without the work that nobody reads, whatever made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from mipack.data.dataset import ReadOptions
from mipack.errors import VerificationError
from mipack.front.inputs import prepared_model
from mipack.graph.load import save, weight_bytes, weight_count
from mipack.prepare import Data, Prepared, Source
from mipack.result import Check, Size, refuse_existing
from mipack.show.blocks import Block, change, count, volume
from mipack.show.shown import Shown
from mipack.verify.slim import Slim
from mipack.verify.slim import slim as left_out

BATCHES, BATCH = 4, 8
"""How much data the outputs are compared on."""


@dataclass(frozen=True, repr=False)
class Slimmed(Shown):
    """The model (the original where all that it computes is read) and what was left out.

    `nodes`: how many contractions compute less. Sizes count one sample at `sizes`.
    """

    model: ir.Model
    before: Size
    after: Size
    nodes: int
    sizes: Mapping[str, int]
    check: Check
    notes: tuple[str, ...]

    def blocks(self, *, every: bool = False) -> Sequence[Block]:
        """Sizes, and the check."""
        before, after = self.before, self.after
        table = change(
            [
                ("MACs per sample", before.macs, after.macs, count),
                ("parameters", before.params, after.params, count),
                ("bytes of weights", before.bytes, after.bytes, volume),
            ]
        )
        said = f"{self.nodes} layers computed what nobody reads" if self.nodes else "all is read"
        return [table, said, f"verified: {self.check.name} ({self.check.detail})"]

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "nodes": self.nodes,
            "sizes": dict(self.sizes),
            "checks": [asdict(self.check)],
        }

    def save(self, path: Path | str, *, force: bool = False) -> tuple[Path, ...]:
        """Write the model; the files written. InputError where one exists (unless `force`)."""
        refuse_existing(Path(path), force)
        return save(self.model, Path(path))


def slim(
    model: Source | str,
    calib: Data | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    options: ReadOptions | None = None,
) -> Slimmed:
    """The model without the work whose result nobody reads: the same outputs.

    Compared on `calib`, else on feeds made from the signature (of these `sizes`), and at other
    sizes. Raises InputError, and VerificationError where the outputs differ.
    """
    prepared, notes = prepared_model(model, calib, sizes=sizes, options=options)
    data = prepared.dataset
    some = data.take(min(BATCHES * BATCH, data.samples), 0).batches(BATCH) if data else ()
    probe = prepared.coupling.probe
    found = left_out(prepared.model, prepared.feeds, [b.feeds for b in some], probe=probe)
    if found.problem:
        raise VerificationError(
            f"the outputs without unread work differ: {found.problem}", hint="nothing was written"
        )
    return _slimmed(prepared, found, notes)


def _slimmed(prepared: Prepared, found: Slim, notes: tuple[str, ...]) -> Slimmed:
    model = found.model if found.left else prepared.original
    counted = [prepared.coupling.cost.macs({}), prepared.coupling.cost_of(found.left).macs({})]
    before, after = (
        Size(macs // prepared.samples, weight_count(one), weight_bytes(one))
        for macs, one in zip(counted, (prepared.original, model), strict=True)
    )
    detail = f"relative error {found.worst:.1e} in {found.runs} runs"
    contractions = set(prepared.coupling.said.products)
    return Slimmed(
        model,
        before,
        after,
        len(contractions.intersection(found.left)),
        dict(prepared.sizes),
        Check("outputs as before", True, detail if found.left else "the model is as it was"),
        notes,
    )
