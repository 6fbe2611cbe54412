"""What a file declares of the shapes inside it, against what two runs showed.

Exporters leave stale shapes behind, and nothing here believes them; but a file that declares what
is not so may mislead others, so it is said.
"""

from __future__ import annotations

import onnx_ir as ir

from mipack.graph.probe import Probe


def untrue(model: ir.Model, probe: Probe) -> str:
    """One line about declared shapes that the runs contradict; "" where there are none."""
    values = [*model.graph.outputs, *(v for node in model.graph for v in node.outputs)]
    wrong = {v.name: v for v in values if v.name and _contradicted(v, probe)}
    if not wrong:
        return ""
    name, value = next(iter(wrong.items()))
    sizes = [size[0] for size in probe.shapes[name] or ()]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    declared = ", ".join(map(_spelled, value.shape or ()))
    return (
        f"the file declares a wrong shape for {name!r}: [{declared}], where a run gives "
        f"{sizes}{more}; shapes are taken from runs"
    )


def _contradicted(value: ir.Value, probe: Probe) -> bool:
    seen = probe.shapes.get(value.name or "")
    if seen is None or value.shape is None:
        return False
    if len(seen) != len(value.shape):
        return True
    pairs = zip(value.shape, seen, strict=True)
    return any(isinstance(dim, int) and size != (dim, dim) for dim, size in pairs)


def _spelled(dim: int | ir.SymbolicDim) -> str:
    return str(dim if isinstance(dim, int) else dim.value or "?")
