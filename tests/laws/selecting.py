"""Models of which a part of one tensor is read: what the sinking of selections is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
import onnx
import onnx_ir as ir
from lawkit import Array, Feeds
from onnx import TensorProto, helper, numpy_helper

from mipack.graph.canonical import canonical
from mipack.graph.load import from_proto, runnable
from mipack.graph.probe import Probe, probe
from mipack.graph.unread import Unread, without_unread
from mipack.runtime.session import Session
from mipack.verify.oracle import distance


class Tail:
    """Nodes behind a model."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(proto)
        self.names = (f"tail{k}" for k in count())
        self.opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))

    def const(self, value: object) -> str:
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        self.proto.graph.initializer.append(numpy_helper.from_array(array, next(self.names)))
        return self.proto.graph.initializer[-1].name

    def node(self, op: str, *operands: object, n: int = 1, **attributes: object) -> str:
        names = [x if isinstance(x, str) else self.const(x) for x in operands]
        outputs = [next(self.names) for _ in range(n)]
        self.proto.graph.node.append(helper.make_node(op, names, outputs, **attributes))
        return outputs[0]

    def only(self, output: str) -> onnx.ModelProto:
        """The model that gives this and nothing else."""
        del self.proto.graph.output[:]
        self.proto.graph.output.append(
            helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        )
        return self.proto

    def slice(self, x: str, start: object, end: object, axis: int, step: int = 1) -> str:
        if self.opset < 10:
            assert step == 1 and isinstance(start, int) and isinstance(end, int)
            return self.node("Slice", x, starts=[start], ends=[end], axes=[axis])
        listed = [s if isinstance(s, str) else np.array([s]) for s in (start, end)]
        return self.node("Slice", x, *listed, np.array([axis]), np.array([step]))

    def size(self, x: str, axis: int, *, vector: bool) -> str:
        return self.node("Gather", self.node("Shape", x), np.array([axis] if vector else axis))


Select = Callable[[Tail, str, int, int], str]
"""(tail, tensor, axis, its size in the first probe) -> what is read of it."""


def first(t: Tail, x: str, axis: int, size: int) -> str:
    return t.node("Gather", x, np.array(0), axis=axis)


def last(t: Tail, x: str, axis: int, size: int) -> str:
    return t.node("Gather", x, np.array(-1), axis=axis)


def listed(t: Tail, x: str, axis: int, size: int) -> str:
    return t.node("Gather", x, np.array([[1, 0], [1, 1]]), axis=axis)


def head(t: Tail, x: str, axis: int, size: int) -> str:
    return t.slice(x, 0, 1, axis)


def rest(t: Tail, x: str, axis: int, size: int) -> str:
    return t.slice(x, 1, 2**31, axis)


def stepped(t: Tail, x: str, axis: int, size: int) -> str:
    return t.slice(x, 1, 2**31, axis, 2) if t.opset >= 10 else t.slice(x, -2, 2**31, axis)


def twice(t: Tail, x: str, axis: int, size: int) -> str:
    """A selection of a selection."""
    return t.node("Gather", t.slice(x, 1, 2**31, axis), np.array(0), axis=axis)


def both_ends(t: Tail, x: str, axis: int, size: int) -> str:
    """Two readers."""
    return t.node("Sub", first(t, x, axis, size), last(t, x, axis, size))


def told_index(t: Tail, x: str, axis: int, size: int) -> str:
    """The last position, as a run tells it."""
    at = t.node("Sub", t.size(x, axis, vector=False), np.array(1))
    return t.node("Gather", x, at, axis=axis)


def told_indices(t: Tail, x: str, axis: int, size: int) -> str:
    return t.node(
        "Gather", x, t.node("Sub", t.size(x, axis, vector=True), np.array([1])), axis=axis
    )


def told_bounds(t: Tail, x: str, axis: int, size: int) -> str:
    if t.opset < 10:
        return head(t, x, axis, size)
    return t.slice(x, t.node("Sub", t.size(x, axis, vector=True), np.array([1])), 2**31, axis)


def one_part(t: Tail, x: str, axis: int, size: int) -> str:
    """Of a Split into two."""
    if t.opset < 18 or size % 2:
        return head(t, x, axis, size)
    return t.node("Split", x, n=2, axis=axis, num_outputs=2)


def beside_its_size(t: Tail, x: str, axis: int, size: int) -> str:
    long = t.node("Cast", t.size(x, axis, vector=False), to=TensorProto.FLOAT)
    return t.node("Mul", first(t, x, axis, size), long)


SELECTS: tuple[Select, ...] = (
    first, last, listed, head, rest, stepped, twice, both_ends, told_index, told_indices,
    told_bounds, one_part, beside_its_size,
)  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """A canonical model, its probe, and what was left of it."""

    model: ir.Model
    probe: Probe
    found: Unread | None

    def error(self, feeds: tuple[Feeds, ...]) -> float:
        """The largest error of an output."""
        assert self.found is not None
        with runnable(self.model) as before, runnable(self.found.model) as after:
            old, new = (Session(source, optimize=False) for source in (before, after))
        pairs = [(old.run(f), new.run(f)) for f in feeds]
        return max(distance(got[name], want[name]) for want, got in pairs for name in want)


def tried(proto: onnx.ModelProto, feeds: tuple[Feeds, ...]) -> Tried:
    """Probed with the first two feeds."""
    model = canonical(from_proto(proto))
    seen = probe(model, (feeds[0], feeds[1]))
    return Tried(model, seen, without_unread(model, seen))


def floats(seen: Probe, model: ir.Model) -> list[tuple[str, int, int]]:
    """(tensor, axis, size) of all that nodes make, axes longer than 2."""
    made = [v.name or "" for node in model.graph for v in node.outputs]
    return [
        (name, axis, size[0])
        for name in made
        if seen.dtypes.get(name) == "float32"
        for axis, size in enumerate(seen.shapes[name] or ())
        if min(size) > 2
    ]


__all__ = ["SELECTS", "Array", "Tail", "Tried", "floats", "tried"]
