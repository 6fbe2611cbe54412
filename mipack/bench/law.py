"""How long a model would take at other widths, from its profile and a table of single ops.

    time(w) = what no cut changes + sum over steps t * r(w)

t is a step's time in a profile of the original. r is 1 at full width: for a contraction the time
of the op alone at these widths over that at full width (measured at some widths, linear between
them), for anything else the share of the elements of the largest value that it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import prod as product
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from mipack.bench.alone import Alone, Shapes, Solo
from mipack.bench.profile import Profile, Step
from mipack.couple.cost import Numbers, Widths, width_of
from mipack.couple.solve import Coupling
from mipack.errors import MipackError
from mipack.graph.load import in_parts
from mipack.layout import Term, find, leaves
from mipack.runtime.session import Feeds, Session

NANO = 1e9
KNOTS = 8
"""Widths of a group at which ops are measured."""
CANNOT = (MipackError, ValueError, KeyError, TypeError)
"""What an op that cannot be had alone raises."""
FUSED_MOST = 64
"""More nodes than this are not one step: the way back from its results got lost."""


class Ratio(Protocol):
    """What a step takes, over what it took in the original."""

    @property
    def atoms(self) -> tuple[Term, ...]:
        """What it depends on."""

    def at(self, widths: tuple[int, ...]) -> float:
        """The ratio where the atoms have these widths."""


class Counted:
    """As many numbers: a sum of products of axis sizes."""

    def __init__(self, products: Iterable[Sequence[Term]]) -> None:
        self._products = [tuple(axes) for axes in products]
        found = (leaf for axes in self._products for term in axes for leaf in leaves(term))
        self.atoms = tuple(dict.fromkeys(found))
        self._full = self._count({})

    def at(self, widths: tuple[int, ...]) -> float:
        return self._count(dict(zip(self.atoms, widths, strict=True))) / max(self._full, 1)

    def _count(self, widths: Widths) -> int:
        return sum(product(width_of(t, widths) for t in axes) for axes in self._products)


class Tabled:
    """As long as measured: `seconds` of single ops at the `knots` of every atom, linear between
    them; exact at widths of atoms without knots. Where an op cannot be run narrower it takes its
    share of `otherwise`."""

    def __init__(
        self,
        ops: Sequence[Alone],
        seconds: Callable[[Solo], float],
        knots: Mapping[Term, Sequence[int]],
        otherwise: Counted,
    ) -> None:
        self._ops, self._seconds = tuple(ops), seconds
        self.atoms = tuple(dict.fromkeys(atom for op in ops for atom in op.atoms))
        self._knots = [knots.get(atom) for atom in self.atoms]
        self._known: dict[tuple[int, ...], float] = {}
        self._otherwise = otherwise
        whole: dict[Term, int] = {}
        self._full = sum(self._seconds(op.at(whole)) for op in self._ops)
        self._known[tuple(width_of(atom, {}) for atom in self.atoms)] = self._full

    def at(self, widths: tuple[int, ...]) -> float:
        corners: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
        for width, knots in zip(widths, self._knots, strict=True):
            ends = _between(width, knots)
            corners = [((*c, end), share * part) for c, share in corners for end, part in ends]
        return sum(share * self._table(corner) for corner, share in corners) / self._full

    def _table(self, widths: tuple[int, ...]) -> float:
        if widths not in self._known:
            named = dict(zip(self.atoms, widths, strict=True))
            try:
                self._known[widths] = sum(
                    0.0 if op.gone(named) else self._seconds(op.at(named)) for op in self._ops
                )
            except CANNOT:
                atoms = self._otherwise.atoms
                share = self._otherwise.at(tuple(named.get(a, width_of(a, {})) for a in atoms))
                self._known[widths] = self._full * share
        return self._known[widths]


def _between(width: int, knots: Sequence[int] | None) -> list[tuple[int, float]]:
    """The knots around a width, with their shares."""
    if knots is None or width in knots or not knots[0] < width < knots[-1]:
        return [(width, 1.0)]
    above = int(np.searchsorted(knots, width))
    low, high = knots[above - 1], knots[above]
    share = (width - low) / (high - low)
    return [(low, 1.0 - share), (high, share)]


def knots_of(widths: Sequence[int]) -> tuple[int, ...]:
    """A few of the widths, closer where they are small, and both ends."""
    if len(widths) <= KNOTS:
        return tuple(widths)
    chosen = np.unique(np.round(np.geomspace(1, len(widths), KNOTS)).astype(int) - 1)
    return tuple(widths[k] for k in chosen)


class Law:
    """A measure (`mipack.couple.cost.Measure`) in nanoseconds."""

    def __init__(self, fixed: float, steps: Sequence[tuple[float, Ratio]]) -> None:
        """`steps`: seconds and how they change."""
        self._fixed, self._steps = fixed, tuple(steps)
        self._known: list[dict[tuple[int, ...], float]] = [{} for _ in self._steps]
        self._whole = [tuple(width_of(a, {}) for a in ratio.atoms) for _, ratio in self._steps]
        self._atoms = [tuple(map(find, ratio.atoms)) for _, ratio in self._steps]
        self._of: dict[Term, list[int]] = {}
        for index, atoms in enumerate(self._atoms):
            for atom in dict.fromkeys(atoms):
                self._of.setdefault(atom, []).append(index)
        self.full = self.total({})

    def total(self, widths: Widths) -> int:
        """Nanoseconds of a run."""
        widths = {find(atom): width for atom, width in widths.items()}
        changed = {index for atom in widths for index in self._of.get(atom, ())}
        seconds = [
            self._step(i, self._at(i, widths)) if i in changed else taken
            for i, (taken, _) in enumerate(self._steps)
        ]
        return round(NANO * (self._fixed + sum(seconds)))

    def curve(self, atom: Term, widths: Widths, candidates: Numbers) -> Numbers:
        """See `Measure.curve`."""
        widths, atom = {find(a): width for a, width in widths.items()}, find(atom)
        found = np.zeros(len(candidates))
        for index in self._of.get(atom, ()):
            own = [each is atom for each in self._atoms[index]]
            at = self._at(index, widths)
            for k, width in enumerate(candidates.tolist()):
                here = tuple(width if o else w for o, w in zip(own, at, strict=True))
                found[k] += self._step(index, here)
        return NANO * found

    def _at(self, index: int, widths: Widths) -> tuple[int, ...]:
        """The widths of a step's atoms."""
        pairs = zip(self._atoms[index], self._whole[index], strict=True)
        return tuple(widths.get(atom, full) for atom, full in pairs)

    def _step(self, index: int, at: tuple[int, ...]) -> float:
        known = self._known[index]
        if at not in known:
            seconds, ratio = self._steps[index]
            known[at] = seconds * ratio.at(at)
        return known[at]


def law_of(
    coupling: Coupling,
    profile: Profile,
    shapes: Shapes,
    seconds: Callable[[Solo], float],
    widths: Mapping[Term, Sequence[int]],
) -> Law:
    """The law of a canonical model that was profiled; `widths`: those that each group may take."""
    knots = {find(atom): knots_of(listed) for atom, listed in widths.items()}
    producers = {v.name: node for node in coupling.model.graph for v in node.outputs}
    steps: list[tuple[float, Ratio]] = []
    for step in profile.steps:
        nodes = _contractions(coupling, producers, step)
        counted = Counted(_counted(coupling, nodes, step))
        ratio: Ratio = counted
        with suppress(*CANNOT):
            ops = [Alone(coupling, node, shapes, blocked=step.blocked) for node in nodes]
            ratio = Tabled(ops, seconds, knots, counted) if ops else counted
        steps.append((step.seconds, ratio))
    profiled = sum(taken for taken, _ in steps)
    if profiled > profile.seconds:  # a profiler takes time too
        steps = [(taken * profile.seconds / profiled, ratio) for taken, ratio in steps]
    return Law(max(profile.seconds - profiled, 0.0), steps)


def _counted(coupling: Coupling, nodes: Sequence[ir.Node], step: Step) -> list[tuple[Term, ...]]:
    """What a step's time goes with: its multiply-adds, else its largest value."""
    if nodes:
        return [axes for node in nodes for axes in coupling.said.products[node.name or ""]]
    touched = [coupling.axes[n] for n in (*step.outputs, *step.inputs) if n in coupling.axes]
    return [max(touched, key=_elements)] if touched else []


def _elements(axes: Sequence[Term]) -> int:
    return product(width_of(term, {}) for term in axes)


def _contractions(
    coupling: Coupling, producers: Mapping[str | None, ir.Node], step: Step
) -> list[ir.Node]:
    """The contractions that a step does: those between its results and what it reads.

    One of the step's own op is all of it: beyond it names may be those of a blocked layout. None
    where the way back passes what the step reads by: it then does not do what lies there.
    """
    found: dict[ir.Node, None] = {}
    past = {value.name for value in coupling.model.graph.inputs}.difference(step.inputs)
    seen, waiting = set(step.inputs), [name for name in step.outputs if name in producers]
    while waiting:
        name = waiting.pop()
        if name in past:
            return []
        node = producers.get(name)
        if name in seen or node is None or node in found:
            continue
        seen.add(name)
        found[node] = None
        if len(found) > FUSED_MOST:
            return []
        if node.op_type != step.op or (node.name or "") not in coupling.said.products:
            waiting += [v.name for v in node.inputs if v is not None and v.name]
    return [node for node in found if (node.name or "") in coupling.said.products]


def contracted(coupling: Coupling) -> tuple[str, ...]:
    """The operands of all contractions."""
    nodes = [n for n in coupling.model.graph if (n.name or "") in coupling.said.products]
    listed = [v.name for n in nodes for v in n.inputs if v is not None and v.name]
    return tuple(dict.fromkeys(n for n in listed if n not in coupling.constants))


def shapes_in(model: ir.Model, names: Sequence[str], feeds: Feeds) -> dict[str, tuple[int, ...]]:
    """The shapes of some values in a run on these feeds."""
    other = model.clone()
    values: dict[str | None, ir.Value] = {v.name: v for v in other.graph.inputs}
    values |= {v.name: v for node in other.graph for v in node.outputs}
    wanted = {}
    for name in names:
        node = ir.node("Shape", [values[name]])
        node.outputs[0].name = wanted[name] = f"{name}//shape"
        node.outputs[0].type = ir.TensorType(ir.DataType.INT64)
        other.graph.append(node)
        other.graph.outputs.append(node.outputs[0])
    session = Session(in_parts(other), optimize=False)
    found: dict[str, Any] = session.run(feeds, list(wanted.values()))
    return {name: tuple(map(int, found[shape])) for name, shape in wanted.items()}
