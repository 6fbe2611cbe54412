"""The table of rules, and what a rule sees of a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.graph.probe import Probe
from mipack.terms import UNIT, Size

Axes = Mapping[int, int]
"""Operand -> its axis."""
STANDARD = ("", "ai.onnx")


class Op:
    """A node with what two runs showed of it."""

    def __init__(self, node: ir.Node, probe: Probe, opset: int) -> None:
        self.node, self.opset, self._probe = node, opset, probe
        self.inputs = tuple(node.inputs)  # of the node as it is now
        self.name = node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"

    def has(self, index: int) -> bool:
        """Whether the operand is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def x(self, index: int) -> tuple[Size, ...]:
        """The sizes of an operand; none where it is absent."""
        return self._shape(self.inputs[index]) if self.has(index) else ()

    @property
    def y(self) -> tuple[Size, ...]:
        """The sizes of the first result."""
        return self._shape(self.node.outputs[0])

    @property
    def results(self) -> list[tuple[Size, ...]]:
        """The sizes of every result."""
        return [self._shape(value) for value in self.node.outputs]

    def _shape(self, value: ir.Value | None) -> tuple[Size, ...]:
        return (self._probe.shapes.get(value.name or "") or ()) if value is not None else ()

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value."""
        found = self.node.attributes.get(name)
        return default if found is None or found.value is None else found.value

    def axis(self, rank: int, default: int = 0) -> int:
        """The axis attribute, made positive."""
        return int(self.attr("axis", default)) % max(rank, 1)

    def const(self, index: int) -> np.ndarray[Any, Any] | None:
        """The value of an operand that the file holds."""
        value = self.inputs[index] if self.has(index) else None
        if value is None or value.const_value is None or not value.is_initializer():
            return None
        return value.const_value.numpy()

    def both(self, index: int) -> Sequence[tuple[int, int]] | None:
        """A vector of integers in both runs, pair by pair."""
        constant = self.const(index)
        if constant is not None:
            return [(int(n), int(n)) for n in constant.reshape(-1)]
        value = self.inputs[index] if self.has(index) else None
        seen = self._probe.vectors.get(value.name or "") if value is not None else None
        return None if seen is None else [(int(a), int(b)) for a, b in zip(*seen, strict=True)]

    def single(self, *indices: int) -> bool:
        """Whether these operands hold one number each, where they are given."""
        return all(size == UNIT for index in indices for size in self.x(index))

    def listed(self, name: str, index: int, rank: int) -> set[int] | None:
        """Axes from an attribute or an operand; None where they are not in the file."""
        value = self.attr(name)
        if value is None and self.has(index):
            value = self.const(index)
            if value is None:
                return None
        return {int(a) % rank for a in np.reshape(value, -1)} if value is not None else set()


Rule = Callable[[Op, int], Axes | None]
_RULES: dict[str, Rule] = {}


def along(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule."""

    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(ops, function))
        return function

    return register


def axes_along(op: Op, axis: int) -> Axes | None:
    """See above; what a rule says is held against the sizes of both runs."""
    rule = _RULES.get(op.name)
    found = rule(op, axis) if rule is not None and axis < len(op.y) else None
    if found is None or any(op.x(i)[a] != op.y[axis] for i, a in found.items()):
        return None
    return found


def known_ops() -> tuple[str, ...]:
    """Every op with a rule, sorted."""
    return tuple(sorted(_RULES))


def spread(op: Op, axis: int, *operands: int) -> Axes:
    """Operands that broadcast to the result: where one has size 1, or no such axis, every position
    reads the same of it."""
    found = {}
    for index in operands:
        own = axis - len(op.y) + len(op.x(index))
        if own >= 0 and op.x(index)[own] != UNIT:
            found[index] = own
    return found
