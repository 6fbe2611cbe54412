"""Equations across the border of a body: what enters and leaves it keeps its axes.

A value that comes back round after round has one layout; where a size changes on the way (a value
that grows), both sides are frozen. The axis that is walked stays whole: a step that is left out is
not a step of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from mipack.graph.bodies import Link, bodies, border
from mipack.layout import Layout, Term, size_of


def tie_bodies(node: ir.Node, layout: Layout, axes: Callable[[str], Sequence[Term]]) -> None:
    """State the equations between a node of `bodies.FLOW` and its bodies."""
    label = f"{node.op_type} {node.name}"

    def tie(outer: Sequence[Term], inner: Sequence[Term]) -> None:
        alike = len(outer) == len(inner)
        for a, b in zip(outer, inner, strict=False):
            if alike and size_of(a) == size_of(b):
                layout.equal(a, b, label)
            else:
                _freeze(layout, [a, b], f"changes size from round to round [{label}]")
        if not alike:
            _freeze(layout, [*outer, *inner], f"changes rank from round to round [{label}]")

    def cross(link: Link) -> None:
        outer = list(axes(link.outer))
        if link.axis is not None and outer:
            _freeze(layout, [outer.pop(link.axis)], f"rounds [{label}]")
        tie(outer, axes(link.inner))

    for body in bodies(node):
        around = border(node, body)
        for link in (*around.enter, *around.leave):
            cross(link)
        for made, read in around.back:
            tie(axes(made), axes(read))


def _freeze(layout: Layout, terms: Sequence[Term], why: str) -> None:
    for term in terms:
        layout.freeze(term, why)
