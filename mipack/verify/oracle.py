"""The proof of a cut: the cut model equals the original with the cut units silenced.

Original-size model, every weight and every float activation zero at cut positions
(`Where(mask, x, 0)`, not a product: 0 * -inf of an attention mask is NaN). Masking weights alone
is not enough: sigmoid(0) is 0.5. No norm runs over a cut axis unless it is a width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.solve import Coupling
from mipack.errors import VerificationError
from mipack.graph.canonical import fresh_name
from mipack.graph.load import runnable
from mipack.layout import Kind, find, is_static
from mipack.runtime.session import Feeds, Session
from mipack.surgery.cut import add_weight, set_weight
from mipack.surgery.keep import Keep

TOLERANCE = {"float16": 5e-3, "bfloat16": 5e-2, "float32": 1e-4, "float64": 1e-4}
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Proof:
    """What the oracle measured: the largest relative error per output, over all batches."""

    errors: Mapping[str, float]
    tolerance: float
    batches: int

    @property
    def worst(self) -> float:
        """The largest error."""
        return max(self.errors.values(), default=0.0)

    @property
    def holds(self) -> bool:
        """Whether every output agrees."""
        return bool(self.worst <= self.tolerance)


def masked(coupling: Coupling, keep: Keep) -> ir.Model:
    """The original at its size with every cut unit silenced."""
    model = coupling.model.clone()
    graph = model.graph
    taken = {v.name for n in graph.all_nodes() for v in n.outputs} | set(graph.initializers)
    for name, array in coupling.constants.items():
        axes = coupling.axes.get(name, ())
        if name in graph.initializers and any(map(keep.cuts, axes)) and array.dtype.kind == "f":
            set_weight(graph, name, np.where(keep.mask(axes), array, array.dtype.type(0)))
    for node in list(graph):
        for value in list(node.outputs):
            if _silent(coupling, keep, value):
                _mask(graph, node, value, keep.mask(_mask_axes(coupling, value)), coupling, taken)
    return model


def _mask_axes(coupling: Coupling, value: ir.Value) -> tuple[Any, ...]:
    return coupling.axes[value.name or ""]


def _silent(coupling: Coupling, keep: Keep, value: ir.Value) -> bool:
    """Whether this value is a float tensor with cut units that a mask can express."""
    axes = coupling.axes.get(value.name or "", ())
    if value.is_graph_output() or coupling.probe.dtypes.get(value.name or "") not in FLOATS:
        return False
    dynamic = [find(t) for t in axes if not is_static(t)]
    if any(t.kind is not Kind.ATOM and keep.cuts(t) for t in dynamic):
        return False  # B x H in one axis: the mask would have a run-time size
    return any(keep.cuts(t) for t in axes if is_static(t))


def _mask(
    graph: ir.Graph,
    node: ir.Node,
    value: ir.Value,
    kept: np.ndarray[Any, np.dtype[np.bool_]],
    coupling: Coupling,
    taken: set[str | None],
) -> None:
    name = value.name or ""
    dtype = ir.DataType.from_numpy(np.dtype(_numpy(coupling.probe.dtypes[name])))
    zero = np.zeros((), dtype.numpy())
    users = list(value.uses())
    condition = add_weight(graph, fresh_name(f"{name}.kept", taken), kept)
    nothing = add_weight(graph, fresh_name(f"{name}.zero", taken), zero)
    where = ir.node("Where", [condition, value, nothing], name=fresh_name(f"{name}.mask", taken))
    where.outputs[0].name = fresh_name(f"{name}.masked", taken)
    graph.insert_after(node, where)
    for user, index in users:
        user.replace_input_with(index, where.outputs[0])


def _numpy(name: str) -> Any:
    if name == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return name


def prove(coupling: Coupling, keep: Keep, pruned: ir.Model, batches: Iterable[Feeds]) -> Proof:
    """Compare the cut model with the masked original on real batches.

    Raises VerificationError where they disagree, naming the output and the error.
    """
    with runnable(pruned) as source:
        ours = Session(source, optimize=False)
    with runnable(masked(coupling, keep)) as source:
        oracle = Session(source, optimize=False)
    errors: dict[str, float] = {}
    dtypes, count = set(), 0
    for feeds in batches:
        count += 1
        got, want = ours.run(feeds), oracle.run(feeds)
        for name in got:
            dtypes.add(np.asarray(got[name]).dtype.name)
            errors[name] = max(errors.get(name, 0.0), distance(got[name], want[name]))
    halves = {d for d in coupling.probe.dtypes.values() if d in ("float16", "bfloat16")}
    tolerance = max(TOLERANCE[d] for d in halves | {"float32"})
    proof = Proof(errors, tolerance, count)
    if not proof.holds:
        worst = max(errors, key=lambda name: errors[name])
        raise VerificationError(
            f"the cut model differs from the masked original: output {worst!r}, "
            f"relative error {errors[worst]:.1e} (allowed {tolerance:.0e})",
            hint="nothing was written; please report this model (mipack why shows the coupling)",
        )
    return proof


def distance(got: Any, want: Any) -> float:
    """max |a - b| / max |b|; infinite where shapes, types or non-finite places differ."""
    if not isinstance(got, np.ndarray) or not isinstance(want, np.ndarray):
        return 0.0 if _equal(got, want) else float("inf")
    if got.shape != want.shape or got.dtype != want.dtype:
        return float("inf")
    if got.dtype.kind not in "fV" and got.dtype.name != "bfloat16":
        return 0.0 if np.array_equal(got, want) else float("inf")
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if (
        not np.array_equal(a[~finite], b[~finite], equal_nan=True)
        or not np.isfinite(a[finite]).all()
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(b[finite]).max())
    gap = float(np.abs(a[finite] - b[finite]).max())
    return gap / scale if scale > 0 else (0.0 if gap == 0 else float("inf"))


def _equal(got: Any, want: Any) -> bool:
    try:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    except (AssertionError, TypeError):
        return False
    return True
