"""Small graphs to hold rules to: a builder, and the law every rule obeys.

    op'(slice(inputs)) == slice(op(mask(inputs)))

`Build` makes a model of one input or more; weights before and after the op under test give it
groups to cut. `study` takes the model through canonical form, probing and coupling; `Studied.law`
cuts random units and compares *every* tensor of the cut model with the slice of the same tensor of
the masked original, at sizes that were never probed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mipack.couple.solve import Coupling, Group, couple
from mipack.graph.canonical import canonical
from mipack.graph.load import from_proto
from mipack.graph.probe import exposed, probe
from mipack.graph.unbind import unbind
from mipack.layout import factors, is_static, size_of
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep
from mipack.surgery.mask import masked
from mipack.verify.oracle import distance, prove
from mipack.verify.trials import cuttable, random_keep

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]

SIZES = {"B": (2, 3, 5), "S": (7, 11, 6), "W": (10, 14, 18), "H": (12, 16, 20)}
"""Sizes of the symbols in the first probe, the second, and at a run that no probe saw."""
ROUNDING = 2e-5
"""Relative to the largest entry of a tensor: float32 sums of up to 400 terms in another order."""

# fmt: off
MOVES = frozenset([
    "Cast", "Clip", "Concat", "Dropout", "Expand", "Flatten", "Gather", "GatherElements",
    "GatherND", "GlobalMaxPool", "Identity", "Max", "MaxPool", "Min", "Neg", "Pad", "Relu",
    "Reshape", "ReverseSequence", "ScatterElements", "ScatterND", "Slice", "Split", "Squeeze",
    "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where",
])
# fmt: on
"""Ops that only move, choose or drop numbers: exact inputs give bit-equal outputs."""


class Build:
    """A graph in the making: `b.Relu(x)` adds a node and returns the name of its result.

    Operands may be names, arrays (they become initializers) or None (an optional operand left
    out). `n` asks for several results; an int operand is an int64 scalar, a list an int64 vector.
    """

    def __init__(self, seed: int = 0, **inputs: Sequence[int | str]) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs, self.nodes, self.weights = inputs, [], []
        self.count, self.versions = 0, {"ai.onnx.ml": 3}  # of other domains, where not 1

    def const(self, value: Any, dtype: Any = None) -> str:
        """An initializer; Python floats become float32."""
        array = np.asarray(value, dtype)
        if dtype is None and array.dtype == np.float64:
            array = array.astype(np.float32)
        self.count += 1
        self.weights.append(numpy_helper.from_array(array, f"w{self.count}"))
        return f"w{self.count}"

    def w(self, *shape: int, scale: float | None = None) -> str:
        """A random float32 weight, scaled by its fan-in ([in, out] or [out, in, kernel..])."""
        fan = int(np.prod(shape[:1] if len(shape) < 3 else shape[1:]))
        return self.const(self.rng.standard_normal(shape) * (scale or fan**-0.5), np.float32)

    def positive(self, *shape: int) -> str:
        """A random float32 weight between 0.5 and 1.5."""
        return self.const(self.rng.uniform(0.5, 1.5, shape), np.float32)

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if op.startswith("_"):
            raise AttributeError(op)

        def node(*operands: Any, n: int = 1, domain: str = "", **attributes: Any) -> Any:
            names = ["" if x is None else x if isinstance(x, str) else self.const(x)
                     for x in operands]  # fmt: skip
            outs = []
            for _ in range(n):
                self.count += 1
                outs.append(f"{op}_{self.count}")
            made = helper.make_node(op, names, outs, domain=domain or None, **attributes)
            self.nodes.append(made)
            return outs[0] if n == 1 else outs

        return node

    def body(self, make: Callable[..., Any], **inputs: int) -> onnx.GraphProto:
        """A subgraph: `make` is given the names of its inputs (name -> element type), and what it
        returns are the outputs. It may read everything outside."""
        outside, self.nodes = self.nodes, []
        made = make(*inputs)
        outs = [made] if isinstance(made, str) else list(made)
        scalar = (TensorProto.INT64, TensorProto.BOOL)
        shapes = [(name, kind, [] if kind in scalar else None) for name, kind in inputs.items()]
        ins = [helper.make_tensor_value_info(*given) for given in shapes]
        graph = helper.make_graph(
            self.nodes, "body", ins, [onnx.ValueInfoProto(name=name) for name in outs]
        )
        self.nodes = outside
        return graph

    def lin(self, x: str, i: int, o: int) -> str:
        """A dense layer on the last axis."""
        return str(self.Add(self.MatMul(x, self.w(i, o)), self.w(o, scale=0.3)))

    def conv(self, x: str, i: int, o: int, k: int = 3, *, group: int = 1, nd: int = 2) -> str:
        """A convolution that keeps the spatial sizes."""
        weight = self.w(o, i // group, *[k] * nd)
        return str(self.Conv(x, weight, self.w(o, scale=0.3), group=group, pads=[k // 2] * 2 * nd))

    def heads(self, x: str, count: int, size: int) -> str:
        """[B, S, H * D] -> [B, H, S, D]."""
        return str(self.Transpose(self.Reshape(x, [0, -1, count, size]), perm=[0, 2, 1, 3]))

    def attend(self, q: str, k: str, v: str, count: int, size: int) -> str:
        """Raw attention over [B, H, S, D], merged to [B, S, H * D]."""
        score = self.MatMul(q, self.Transpose(k, perm=[0, 1, 3, 2]))
        mixed = self.MatMul(self.Softmax(self.Mul(score, np.float32(size**-0.5)), axis=-1), v)
        merged = self.Transpose(mixed, perm=[0, 2, 1, 3])
        return str(self.Reshape(merged, [0, -1, count * size]))

    def proto(self, outputs: Sequence[str], opset: int) -> onnx.ModelProto:
        """The model; outputs are float32 of any shape."""
        ins = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in self.inputs.items()
        ]
        outs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, "law", ins, outs, self.weights)
        domains = {node.domain for node in self.nodes} - {""}
        imports = [
            helper.make_opsetid("", opset),
            *(helper.make_opsetid(d, self.versions.get(d, 1)) for d in domains),
        ]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)

    def feeds(self, seed: int = 0) -> tuple[Feeds, Feeds, Feeds]:
        """Two runs to probe with, one at sizes never probed."""
        rng = np.random.default_rng(seed)
        return tuple(
            {
                name: rng.standard_normal(
                    [d if isinstance(d, int) else SIZES[d][k] for d in shape]
                ).astype(np.float32)
                for name, shape in self.inputs.items()
            }
            for k in range(3)
        )  # type: ignore[return-value]


# ---------------------------------------------------------------- the law


@dataclass(frozen=True)
class Studied:
    """A coupled model and feeds; the last of them at sizes that no probe saw."""

    coupling: Coupling
    feeds: tuple[Feeds, ...]

    @property
    def cuttable(self) -> list[Group]:
        """Groups that surgery may cut, dependent families included."""
        return cuttable(self.coupling)

    def keep(self, seed: int) -> Keep:
        """Random kept units of every group; another share for each, families per context."""
        return random_keep(self.cuttable, np.random.default_rng(seed))

    def law(self, seed: int, *, rounding: float = ROUNDING) -> None:
        """Cut at random; AssertionError naming the first tensor that is not the slice."""
        keep = self.keep(seed)
        pruned, silent = cut(self.coupling, keep), masked(self.coupling, keep)
        with exposed(pruned) as ours, exposed(silent) as oracle:
            for feeds in self.feeds:
                self._compare(keep, ours.run(feeds), oracle.run(feeds), pruned, rounding)

    def proof(self, seed: int) -> float:
        """What the product's own proof measures on the same cut."""
        keep = self.keep(seed)
        return prove(self.coupling, keep, cut(self.coupling, keep), self.feeds).worst

    def gone(self, groups: Sequence[Group]) -> float:
        """What the proof measures where no unit of these groups stays."""
        keep = Keep.of({g: np.zeros((*g.shape[:-1], 0), np.int64) for g in groups})
        return prove(self.coupling, keep, cut(self.coupling, keep), self.feeds).worst

    def _compare(
        self,
        keep: Keep,
        got: Mapping[str, Any],
        want: Mapping[str, Any],
        pruned: Any,
        rounding: float,
    ) -> None:
        equal = set(self.coupling.constants) | {v.name for v in self.coupling.model.graph.inputs}
        for node in pruned.graph:
            if node.op_type == "Shape":
                continue  # in new coordinates, where nobody reads an element that is cut
            exact = node.op_type in MOVES and all(v is None or v.name in equal for v in node.inputs)
            for name in (v.name or "" for v in node.outputs):
                expected = self._sliced(keep, name, want)
                if expected is None:
                    continue
                gap = distance(np.asarray(got[name]), expected)
                place = f"{name} of {node.op_type} [{node.name}]"
                assert gap <= rounding, f"{place} is not the slice: {gap:.1e}"
                assert gap == 0 or not exact, f"{place} only moves numbers, yet differs: {gap:.1e}"
                if gap == 0:
                    equal.add(name)

    def _sliced(self, keep: Keep, name: str, want: Mapping[str, Any]) -> Array | None:
        """slice(original tensor); None where the tensor is new or has cut units in dynamic axes."""
        axes = self.coupling.axes.get(name)
        if axes is None or not isinstance(want.get(name), np.ndarray):
            return None
        if name in self.coupling.probe.shape_arithmetic:
            return np.asarray(want[name])  # original coordinates: not a number changes
        if any(not is_static(t) and any(map(is_static, factors(t))) for t in axes):
            return None
        index = [
            at if is_static(axes[k]) else np.arange(want[name].shape[k]).reshape(_along(k, at.ndim))
            for k, at in enumerate(keep.index(axes))
        ]
        return np.asarray(want[name][tuple(index)])


def _along(axis: int, rank: int) -> list[int]:
    return [-1 if k == axis else 1 for k in range(rank)]


def study(build: Build, outputs: Sequence[str] | str, opset: int = 18) -> Studied:
    """Canonical form, probe, packed parts on ways of their own, couple."""
    listed = [outputs] if isinstance(outputs, str) else list(outputs)
    return coupled(build.proto(listed, opset), build.feeds())


def coupled(proto: onnx.ModelProto, feeds: tuple[Feeds, ...], *, apart: bool = True) -> Studied:
    """The same for any model; the first two feeds are probed with."""
    model = canonical(from_proto(proto))
    probed = probe(model, (feeds[0], feeds[1]))
    if apart and unbind(model, probed):
        probed = probe(model, (feeds[0], feeds[1]))
    return Studied(couple(model, probed), feeds)


# ---------------------------------------------------------------- cases

Expected = int | tuple[int, ...]
"""The size of a group; for a dependent family also the sizes of its contexts."""


@dataclass(frozen=True)
class Case:
    """A graph and what is known of its groups.

    `cut`: the sizes of exactly the groups that are free (None: not the point); the law also cuts
    what something averages over. `stays`: size ->
    words in the reason why a group of that size may not.
    """

    name: str
    make: Callable[[Build], Any]
    inputs: Mapping[str, Sequence[int | str]]
    opset: int
    cut: Sequence[Expected] | None
    stays: Mapping[int, str]

    def study(self) -> Studied:
        """The coupled model."""
        build = Build(**self.inputs)
        return study(build, self.make(build), self.opset)

    def bypassed(self) -> Studied:
        """The same graph as a branch: a number that the input tells is added to what it gives."""
        build = Build(**self.inputs)
        made = self.make(build)
        number = build.ReduceMean(next(iter(self.inputs)), keepdims=0)
        listed = [made] if isinstance(made, str) else list(made)
        return study(build, [str(build.Add(y, number)) for y in listed], self.opset)


@dataclass
class Cases:
    """The cases of one family of ops; `@table(..)` above a function adds one per opset."""

    listed: list[Case] = field(default_factory=list)

    def __call__(
        self,
        *,
        opsets: Sequence[int] = (18,),
        cut: Sequence[Expected] | None = None,
        stays: Mapping[int, str] | None = None,
        **inputs: Sequence[int | str],
    ) -> Callable[[Callable[[Build], Any]], Callable[[Build], Any]]:
        def add(make: Callable[[Build], Any]) -> Callable[[Build], Any]:
            for opset in opsets:
                name = make.__name__ + (f"-{opset}" if len(opsets) > 1 else "")
                self.listed.append(Case(name, make, inputs or ROWS, opset, cut, stays or {}))
            return make

        return add

    def __iter__(self) -> Iterator[Case]:
        return iter(self.listed)


ROWS = {"x": ("B", 16)}
TOKENS = {"x": ("B", "S", 16)}
IMAGES = {"x": ("B", 3, "W", "H")}


def check_groups(case: Case, studied: Studied) -> None:
    """The groups are those that the case says."""
    groups = studied.coupling.groups
    if case.cut is not None:
        found = sorted((g.size, *(size_of(c)[0] for c in g.within)) for g in studied.coupling.free)
        expected = sorted((e,) if isinstance(e, int) else tuple(e) for e in case.cut)
        assert found == expected, {g.name: (*g.frozen, *g.width) for g in groups}
    for size, words in case.stays.items():
        reasons = [" | ".join((*g.frozen, *g.width)) for g in groups if g.size == size]
        assert reasons, f"no group of size {size}"
        assert all(words in reason for reason in reasons), reasons
