"""Shapes by running: the runtime tells the truth, declared shapes may not.

Two small runs in which every symbolic size differs expose every intermediate. An axis of one size
in both is static, of two sizes dynamic. Values computed from shapes and constants only, equal in
both probes, are *known*: rules may read them as parameters (bounds, targets, indices), but they
are never folded into the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.errors import InputError
from mipack.graph.bodies import bodies, captured, reads, run_bodies
from mipack.graph.exact import exact
from mipack.graph.load import in_parts
from mipack.layout import Size
from mipack.runtime.session import Arrays, Feeds, Session

SMALL = 65_536
"""Values of at most this many elements are remembered."""
EXPOSED_BYTES, SLICES = 1 << 30, 16
"""A probe holds about so many bytes of inner values at once, in so many slices at most."""
OPAQUE = {"ConstantOfShape", "Expand"}
"""Ops whose result is data even where the shape that they read is known."""
FLOATING = ("float", "bfloat")


@dataclass(frozen=True, slots=True)
class Probe:
    """What two runs showed, per value name."""

    shapes: Mapping[str, tuple[Size, ...] | None]
    dtypes: Mapping[str, str]
    known: Mapping[str, np.ndarray[Any, Any]]
    vectors: Mapping[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
    """Small integer vectors and scalars in both runs, whatever they come from."""
    shape_arithmetic: frozenset[str]
    """Integers and truth values that come from shapes (and constants): sizes, bounds, indices."""


def probe(model: ir.Model, feeds: tuple[Feeds, Feeds]) -> Probe:
    """Run a canonical model on both feeds with everything exposed.

    Raises InputError where the runtime refuses the feeds, UnsupportedError where it cannot run
    the model.
    """
    first, second = _run_exposed(model, feeds)
    for values, second_round in ((first, False), (second, True)):
        for inside in run_bodies(model, values, second=second_round):
            values.update(inside)
    shapes: dict[str, tuple[Size, ...] | None] = {}
    dtypes: dict[str, str] = {}
    for name, value in first.items():
        other = second.get(name)
        if not isinstance(value, np.ndarray) or not isinstance(other, np.ndarray):
            shapes[name] = None
        elif value.ndim != other.ndim:
            shapes[name], dtypes[name] = None, value.dtype.name
        else:
            shapes[name] = tuple(zip(value.shape, other.shape, strict=True))
            dtypes[name] = value.dtype.name
    for name, initializer in model.graph.initializers.items():
        tensor = initializer.const_value
        if tensor is not None:
            shapes[name] = tuple((d, d) for d in tensor.shape.numpy())
            dtypes[name] = tensor.dtype.numpy().name
    derived, of_shapes = _derived(model)
    known = {
        name: first[name]
        for name in derived
        if name in first and name in second and _same(first[name], second[name])
    }
    counted = frozenset(n for n in of_shapes if not dtypes.get(n, "").startswith(FLOATING))
    vectors = {
        name: (first[name], second[name])
        for name, shape in shapes.items()
        if name in first
        and name in second
        and dtypes.get(name) == "int64"
        and shape is not None
        and len(shape) <= 1
    }
    return Probe(shapes, dtypes, known, vectors, counted)


def _run_exposed(model: ir.Model, feeds: tuple[Feeds, Feeds]) -> tuple[Arrays, Arrays]:
    """Every value of the main graph in both runs, exposed in slices so that memory is bound.

    Of a large array that no body reads only shape and type are remembered.
    """
    made = [v.name for node in model.graph for v in node.outputs if v.name]
    needed = {v.name for node in model.graph for body in bodies(node) for v in captured(body)}
    needed.update(v.name for node in model.graph if bodies(node) for v in reads(node))
    found: tuple[Arrays, Arrays] = (dict(feeds[0]), dict(feeds[1]))
    slices = _slices(len(made), feeds)
    for part in range(slices):
        session = session_with(model, made[part::slices], optimize=False)
        for values, feed in zip(found, feeds, strict=True):
            for name, value in session.run(feed).items():
                values[name] = value if name in needed else _outline(value)
    return found


def _slices(count: int, feeds: tuple[Feeds, Feeds]) -> int:
    """How often the model is run: as if every value were as large as the largest input."""
    largest = max((np.asarray(a).nbytes for feed in feeds for a in feed.values()), default=0)
    return min(SLICES, 1 + 2 * count * largest // EXPOSED_BYTES)


def _outline(value: Any) -> Any:
    """An array of this shape and type that takes no memory, where the numbers are too many."""
    if not isinstance(value, np.ndarray) or value.size <= SMALL or value.dtype == object:
        return value
    return np.broadcast_to(np.zeros((), value.dtype), value.shape)


class exposed:
    """A session with optimisation off whose outputs are all values of the main graph."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model

    def __enter__(self) -> Session:
        made = [v.name for node in self._model.graph for v in node.outputs if v.name]
        return session_with(self._model, made, optimize=False)

    def __exit__(self, *_: object) -> None:
        return None


def session_with(
    model: ir.Model, taps: Sequence[str], *, optimize: bool = True, provider: str = "cpu"
) -> Session:
    """A session whose outputs include some inner tensors."""
    parts = in_parts(model if optimize else exact(model), taps)
    return Session(parts, optimize=optimize, provider=provider)


def _derived(model: ir.Model) -> tuple[set[str], set[str]]:
    """Values that come from shapes and constants alone; those of them that some shape has a part
    in."""
    found: set[str] = set()
    of_shapes: set[str] = set()
    constant = set(model.graph.initializers)
    for node in model.graph.all_nodes():
        inputs = [v.name for v in node.inputs if v is not None]
        counts = node.op_type in ("Shape", "Size")
        pure = bool(inputs) and all(n in found or n in constant for n in inputs)
        control = any(a.type.name.startswith("GRAPH") for a in node.attributes.values())
        if counts or (
            pure and not control and node.op_type not in OPAQUE and "Random" not in node.op_type
        ):
            made = [v.name for v in node.outputs if v.name]
            found.update(made)
            of_shapes.update(made if counts or not of_shapes.isdisjoint(inputs) else ())
    return found, of_shapes


def _same(first: Any, second: Any) -> bool:
    arrays = isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
    return arrays and first.size <= SMALL and np.array_equal(first, second)


def constant_arrays(model: ir.Model) -> Arrays:
    """Every initializer as an array (memory-mapped where it lies in a file)."""
    values = model.graph.initializers.values()
    return {v.name or "": v.const_value.numpy() for v in values if v.const_value is not None}


def require_finite(model: ir.Model) -> None:
    """InputError where a weight holds NaN or an infinity in a matrix (masks may hold -inf)."""
    for name, array in constant_arrays(model).items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise InputError(f"weight {name!r} holds NaN", hint="the export is damaged")
