"""A model as the runtime's tools read it best: canonical, reshapes with their numbers.

Exporters compute the target of a Reshape from other shapes even where most of it is constant; the
fusion then sees neither heads nor sizes, which after pruning differ from layer to layer. What two
runs of different sizes prove is written down: a number where it is always that number, 0 where a
size is the input's own at that place. The runtime's basic optimisations clear away what computed
the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mipack.errors import InputError
from mipack.graph.adjust import add_weight
from mipack.graph.canonical import canonical
from mipack.graph.feeds import Array, probed
from mipack.graph.load import signature
from mipack.graph.names import fresh_name, names_of
from mipack.graph.probe import Probe
from mipack.layout import Size
from mipack.records import Signature


@dataclass(frozen=True, slots=True)
class Explicit:
    """The model, and what two runs showed of its values that depend on shapes only."""

    model: ir.Model
    known: Mapping[str, Array]


def explicit(model: ir.Model, few: Sequence[Mapping[str, Array]]) -> Explicit:
    """A canonical copy with spelled reshapes; `few`: some small batches of data, if there are.

    Where the model does not run on made-up inputs its reshapes stay as they are.
    """
    form = canonical(model)
    declared = signature(form)
    try:
        probe, _ = probed(form, declared, few)
    except InputError:
        if few:
            raise
        return Explicit(form, {})
    if not _told_apart(declared, probe):
        return Explicit(form, {})
    taken = names_of(form.graph)
    for node in form.graph:
        if node.op_type != "Reshape" or node.domain or _zero_is_zero(node):
            continue
        source, spelled = node.inputs
        if source is None or spelled is None or spelled.const_value is not None:
            continue
        shapes = [probe.shapes.get(v.name or "") for v in (source, node.outputs[0])]
        target = _target(*shapes)
        if target is not None:
            name = fresh_name(f"{node.name}.shape", taken)
            node.replace_input_with(1, add_weight(form.graph, name, np.array(target, np.int64)))
    return Explicit(form, probe.known)


def _zero_is_zero(reshape: ir.Node) -> bool:
    said = reshape.attributes.get("allowzero")
    return said is not None and said.as_int() != 0


def _told_apart(declared: Signature, probe: Probe) -> bool:
    """Whether every dynamic size of the inputs differed: else a constant may only look like one."""
    for spec in declared.inputs:
        sizes = probe.shapes.get(spec.name)
        if sizes is None or spec.shape is None:
            return False
        dynamic = (s for d, s in zip(spec.shape, sizes, strict=True) if not isinstance(d, int))
        if any(first == second for first, second in dynamic):
            return False
    return True


def _target(before: tuple[Size, ...] | None, after: tuple[Size, ...] | None) -> list[int] | None:
    """A Reshape's target that holds at every size, if both runs show one.

    One size that is neither the input's own nor constant follows from the others.
    """
    if before is None or after is None:
        return None
    target: list[int] = []
    for at, size in enumerate(after):
        if size[0] == size[1]:
            target.append(size[0])
        else:
            target.append(0 if at < len(before) and size == before[at] else -1)
    return target if target.count(-1) <= 1 else None
