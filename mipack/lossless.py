"""The last step of a run, exact and apart from the cut: work whose result nobody reads goes.

It comes after the cut, its refit and its checks, which then know nothing of it: groups, plans and
budgets speak of the whole model. With `--count-unread` the same budget is spent on the products
that will be left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import onnx_ir as ir

from mipack.errors import VerificationError
from mipack.graph.load import weight_bytes, weight_count
from mipack.material import Material
from mipack.options import Stopwatch
from mipack.result import Check, Size
from mipack.surgery.keep import Keep
from mipack.verify.final import kept_feeds
from mipack.verify.slim import Slim, slim


@dataclass(frozen=True, slots=True)
class Left:
    """The model after the step; its size and the check, where there was something to leave out."""

    model: ir.Model | None
    size: Size | None = None
    checks: tuple[Check, ...] = ()


def count(material: Material) -> None:
    """Where `--count-unread` asks for it: what nobody reads makes room in the budget."""
    if not material.options.count_unread:
        return
    found = _whole(material)
    material.left = found.left
    cost = material.prepared.coupling.cost
    gone = 1 - material.prepared.coupling.cost_of(found.left).macs({}) / max(cost.macs({}), 1)
    material.say.note(f"nobody reads what {gone:.1%} of the MACs compute: they count as cut")


def foresee(material: Material, keep: Keep, after: Size) -> Left:
    """What the step would leave of a cut that is only predicted."""
    found = Slim(material.prepared.model, {}) if material.options.keep_unread else _whole(material)
    if not found.left:
        return Left(None)
    return Left(None, Size(_macs(material, keep, found.left), after.params, after.bytes))


def leave_out(material: Material, model: ir.Model, keep: Keep, watch: Stopwatch) -> Left:
    """The finished model without work that nobody reads; as it is where the proof fails.

    Raises VerificationError for that where the budget counts on it.
    """
    if material.options.keep_unread:
        return Left(model)
    coupling = material.prepared.coupling
    feeds, *batches = [
        kept_feeds(feeds, coupling, keep)
        for feeds in (material.prepared.feeds, *(b.feeds for b in material.proof_batches))
    ]
    with watch("leave out what nobody reads", material.say):
        found = slim(model, feeds, batches)
    if found.problem:
        text = f"work that nobody reads is not left out: {found.problem}"
        if material.left:
            raise VerificationError(text, hint="leave out --count-unread")
        material.warn(text)
    if not found.left:
        return Left(model)
    detail = f"relative error {found.worst:.1e} in {found.runs} runs"
    return Left(
        found.model,
        Size(
            _macs(material, keep, found.left), weight_count(found.model), weight_bytes(found.model)
        ),
        (Check("what nobody reads is left out, outputs as before", True, detail),),
    )


def _whole(material: Material) -> Slim:
    prepared = material.prepared
    found = slim(prepared.model, prepared.feeds, probe=prepared.coupling.probe)
    if found.problem:
        material.warn(f"work that nobody reads cannot be left out: {found.problem}")
    return found


def _macs(material: Material, keep: Keep, left: Mapping[str, Fraction]) -> int:
    widths = {atom: keep.size(atom) for atom in keep.tables}
    return material.prepared.coupling.cost_of(left).macs(widths) // material.prepared.samples
