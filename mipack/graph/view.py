"""NodeView: all that a rule may see and say.

A rule reads the layouts of its node's operands (`x`, `y`), known parameters (`const`, `attr`) and
states equations between them. What it says of sizes written into the node (`encode`), of defaults
that follow a size (`pin`), of the work it does (`macs`), of weights that refit may solve for
(`linear`) and of axes that walk together (`together`) is recorded for the later stages, which know
no ops. An operand that a rule does not look at is noticed: `unaccounted` lists it, and the solver
freezes it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.graph.probe import Probe
from mipack.layout import UNIT, Layout, Size, Term, size_of


@dataclass(frozen=True, slots=True)
class Encoding:
    """A number in the file that spells a size: element `element` of operand or attribute `slot`.

    It is the size of `term` (below zero where it is `taken` away), or, where `low` is given, the
    position in `term` that the original position `low` moves to. Where `runs` are given the whole
    operand lists positions of `term`: all from a low bound to a high one, run after run.
    """

    node: ir.Node
    slot: int | str
    element: int | None
    term: Term
    low: int | None = None
    runs: tuple[tuple[int, int], ...] = ()
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Pin:
    """An attribute whose default follows the size of `term`: the original's value, to be written
    down where the term is cut."""

    node: ir.Node
    name: str
    value: float | Sequence[int]
    term: Term


@dataclass(frozen=True, slots=True)
class Window:
    """The sliding window of a convolution, per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """Begins, then ends."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A contraction with a weight from the file: y = x . W (+ bias), one row per position.

    `w_in` and `w_out` are axes of the weight; `x_axis` is the contracted axis of x and `y_axis`
    the produced axis of y; `scale` multiplies the product (Gemm's alpha).
    """

    node: ir.Node
    x: str
    w: str
    y: str
    x_axis: int
    y_axis: int
    w_in: int
    w_out: int
    bias: str | None
    bias_slot: int | None
    window: Window | None = None
    scale: float = 1.0


@dataclass(slots=True)
class Statements:
    """What all rules of a graph said, beside their equations."""

    encodings: list[Encoding] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    products: dict[str, list[tuple[Term, ...]]] = field(default_factory=dict)
    linears: list[Linear] = field(default_factory=list)
    together: list[tuple[Term, ...]] = field(default_factory=list)
    zeros: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Quantised value -> (the value that means zero in it, the axis that it is a vector along)."""
    averaged: dict[ir.Node, list[Term]] = field(default_factory=dict)
    """The axes that a node takes statistics over."""
    edges: dict[tuple[ir.Node, int], str] = field(default_factory=dict)
    """Operands that may be other positions of a table than its other uses -> the name that their
    axes are under."""


class NodeView:
    """One node, as its rule sees it."""

    def __init__(
        self,
        node: ir.Node,
        layout: Layout,
        axes: Callable[[str], list[Term]],
        probe: Probe,
        constants: Mapping[str, np.ndarray[Any, Any]],
        said: Statements,
        opset: int,
    ) -> None:
        self.node, self.layout, self.said, self.opset = node, layout, said, opset
        self.op, self.label = node.op_type, f"{node.op_type} {node.name}"
        self._axes, self._probe, self._constants = axes, probe, constants
        self._seen: set[int] = set()
        self.inputs = [(v.name or "") if v is not None else "" for v in node.inputs]
        self.outputs = [v.name or "" for v in node.outputs]

    # -- operands

    def has(self, index: int) -> bool:
        """Whether the optional input is given."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def x(self, index: int = 0) -> list[Term]:
        """The axes of an input."""
        self._seen.add(index)
        return list(self._axes(self.inputs[index])) if self.has(index) else []

    def y(self, index: int = 0) -> list[Term]:
        """The axes of an output."""
        there = index < len(self.outputs) and self.outputs[index]
        return list(self._axes(self.outputs[index])) if there else []

    def const(self, index: int) -> np.ndarray[Any, Any] | None:
        """The value of an input where it is the same in every run; None where it is data."""
        if not self.has(index):
            return None
        self._seen.add(index)
        name = self.inputs[index]
        found = self._constants.get(name)
        return self._probe.known.get(name) if found is None else found

    def is_weight(self, index: int) -> bool:
        """Whether an input is an initializer."""
        return self.has(index) and self.inputs[index] in self._constants

    def ignore(self, *indices: int) -> None:
        """These inputs take no part in any layout (scalars, seeds)."""
        self._seen.update(indices)

    def unaccounted(self) -> list[int]:
        """Inputs with an axis longer than 1 that the rule did not look at."""
        return [
            i
            for i, name in enumerate(self.inputs)
            if name and i not in self._seen and any(size_of(t) != UNIT for t in self._axes(name))
        ]

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value."""
        found = self.node.attributes.get(name)
        if found is None or found.value is None:
            return default
        value = found.value
        return list(value) if isinstance(value, (list, tuple)) else value

    def axis(self, rank: int, name: str = "axis", default: int = 0) -> int:
        """An axis attribute, made positive."""
        return int(self.attr(name, default)) % max(rank, 1)

    def axes_param(self, rank: int, index: int | None) -> list[int] | None:
        """Axes from the attribute (old opsets) or the operand; None where absent or data."""
        value = self.attr("axes")
        if value is None and index is not None and self.has(index):
            value = self.const(index)
        if value is None:
            return None
        return [int(a) % rank for a in np.atleast_1d(np.asarray(value))]

    # -- statements

    def eq(self, left: Term, right: Term) -> None:
        """Both axes are the same."""
        self.layout.equal(left, right, self.label)

    def freeze(self, terms: Term | Iterable[Term], why: str) -> None:
        """These axes stay as they are."""
        for term in [terms] if isinstance(terms, Term) else terms:
            self.layout.freeze(term, f"{why} [{self.label}]")

    def normalise(self, term: Term, why: str = "normalised over") -> None:
        """The op takes statistics over this axis."""
        self.layout.normalise(term, f"{why} [{self.label}]")
        self.said.averaged.setdefault(self.node, []).append(term)

    def align(self, index: int, output: int = 0, *, result: Sequence[Term] | None = None) -> None:
        """Broadcasting: an input against an output, from the right; size 1 gives no equation."""
        own, other = self.x(index), list(self.y(output) if result is None else result)
        for a, b in zip(reversed(own), reversed(other), strict=False):
            if size_of(a) != UNIT and size_of(a) == size_of(b):
                self.eq(a, b)

    def same(self, a: Sequence[Term], b: Sequence[Term], why: str = "changes size") -> None:
        """Axis by axis equal where the sizes agree, frozen where they do not."""
        for left, right in zip(a, b, strict=False):
            if size_of(left) == size_of(right):
                self.eq(left, right)
            else:
                self.freeze([left, right], why)

    def freeze_all(self, why: str) -> None:
        """No operand's axes may be cut."""
        for index in range(len(self.inputs)):
            self.freeze(self.x(index), why)
        for index in range(len(self.outputs)):
            self.freeze(self.y(index), why)

    def encode(
        self,
        slot: int | str,
        element: int | None,
        term: Term,
        low: int | None = None,
        runs: Sequence[tuple[int, int]] = (),
        taken: bool = False,
    ) -> None:
        """See `Encoding`."""
        if isinstance(slot, int):
            self._seen.add(slot)
        self.said.encodings.append(
            Encoding(self.node, slot, element, term, low, tuple(runs), taken)
        )

    def result(self, index: int) -> str:
        """The name of an output."""
        return self.outputs[index] if index < len(self.outputs) else ""

    def zero(self, output: int, point: int | str, axis: int = 0) -> None:
        """In a quantised result this operand (or value) means zero; a vector runs along `axis`."""
        value = self.inputs[point] if isinstance(point, int) else point
        if value:
            self.said.zeros[self.outputs[output]] = (value, axis)

    def pin(self, name: str, value: float | Sequence[int], term: Term) -> None:
        """See `Pin`."""
        self.said.pins.append(Pin(self.node, name, value, term))

    def macs(self, *terms: Term) -> None:
        """The node multiplies and adds once per position of the product of these axes."""
        self.said.products.setdefault(self.node.name or "", []).append(tuple(terms))

    def together(self, *terms: Term) -> None:
        """Axes that one operation walks in step: what may be a context of what (families)."""
        self.said.together.append(tuple(terms))

    def mixed(self, terms: Sequence[Term], axes: Iterable[int]) -> None:
        """Numbers meet along these axes: what is beside them is kept alike all along."""
        over = set(axes)
        self.together(*(term for k, term in enumerate(terms) if k not in over))

    def linear(
        self,
        x: int,
        w: int,
        *,
        x_axis: int,
        y_axis: int,
        w_in: int,
        w_out: int,
        bias: int | None = None,
        window: Window | None = None,
        scale: float = 1.0,
    ) -> None:
        """Refit may solve for this weight (if it is one)."""
        if not self.is_weight(w) or self.is_weight(x):
            return
        self.said.linears.append(
            Linear(
                node=self.node,
                x=self.inputs[x],
                w=self.inputs[w],
                y=self.outputs[0],
                x_axis=x_axis % len(self.x(x)),
                y_axis=y_axis % len(self.y()),
                w_in=w_in,
                w_out=w_out,
                bias=self.inputs[bias] if bias is not None and self.has(bias) else None,
                bias_slot=bias,
                window=window,
                scale=scale,
            )
        )

    # -- terms

    def atom(self, size: Size | int) -> Term:
        """A new atom."""
        return self.layout.atom(size)

    def prod(self, *parts: Term) -> Term:
        """Row-major product."""
        return self.layout.prod(parts)

    def sum(self, *parts: Term) -> Term:
        """Concatenation."""
        return self.layout.sum(parts)


def without(axes: Sequence[Term], left_out: Collection[int]) -> list[Term]:
    """All axes but some."""
    return [term for k, term in enumerate(axes) if k not in left_out]
