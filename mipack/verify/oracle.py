"""The proof of a cut: the cut model equals the original with the cut units silenced.

Both run on real batches with the optimiser off; every output must agree (see `surgery.mask`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.solve import Coupling
from mipack.errors import VerificationError
from mipack.graph.exact import exact
from mipack.graph.load import in_parts
from mipack.runtime.session import Feeds, Session
from mipack.surgery.keep import Keep
from mipack.surgery.mask import masked
from mipack.verify.choices import excused

TOLERANCE = {"float16": 5e-3, "bfloat16": 5e-2, "float32": 1e-4, "float64": 1e-4}


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


def prove(coupling: Coupling, keep: Keep, pruned: ir.Model, batches: Iterable[Feeds]) -> Proof:
    """Compare the cut model with the masked original on real batches.

    Raises VerificationError where they disagree, naming the output and the error.
    """
    silent = masked(coupling, keep)
    ours, oracle = (Session(in_parts(exact(m)), optimize=False) for m in (pruned, silent))
    tolerance = tolerance_of(coupling)
    errors: dict[str, float] = {}
    plain: dict[str, float] = {}
    count = 0
    for feeds in batches:
        count += 1
        got, want = ours.run(feeds), oracle.run(feeds)
        found = {name: distance(got[name], want[name]) for name in got}
        plain = {name: min(plain.get(name, np.inf), found[name]) for name in found}
        if max(found.values(), default=0.0) > tolerance:
            found |= excused(coupling, keep, (pruned, silent), feeds, distance, tolerance)
        errors = {name: max(errors.get(name, 0.0), found[name]) for name in found}
    for name, least in plain.items():  # what is excused everywhere was never compared
        if coupling.probe.dtypes.get(name, "").startswith("float"):
            errors[name] = max(errors[name], least)
    proof = Proof(errors, tolerance, count)
    if not proof.holds:
        worst = max(errors, key=lambda name: errors[name])
        raise VerificationError(
            f"the cut model differs from the masked original: output {worst!r}, "
            f"relative error {errors[worst]:.1e} (allowed {tolerance:.0e})",
            hint="nothing was written; please report this model (mipack why shows the coupling)",
        )
    return proof


def tolerance_of(coupling: Coupling) -> float:
    """The relative error that rounding may make, by the narrowest floats of the graph."""
    halves = {d for d in coupling.probe.dtypes.values() if d in ("float16", "bfloat16")}
    return max(TOLERANCE[d] for d in halves | {"float32"})


def farthest(first: ir.Model, second: ir.Model, batches: Iterable[Feeds]) -> float:
    """The largest relative error of any output between two models of one signature."""
    sessions = [Session(in_parts(exact(model)), optimize=False) for model in (first, second)]
    errors = [0.0]
    for feeds in batches:
        want, got = (session.run(feeds) for session in sessions)
        errors += [distance(got[name], want[name]) for name in want]
    return max(errors)


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
