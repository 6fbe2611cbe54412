"""op -> torch function: the table, and what such a function may see of its node.

A function takes a `Call` and the operands as tensors (None for one that is left out, a list for a
sequence) and returns its result, or a tuple of results in the order of the op's outputs. It never
changes an operand. All floating types are computed in float32: the twin is for gradients, not for
the rounding of the original. Numbers that say where or how much (shapes, axes, bounds) are read on
the host, so operands listed as `host` stay where they are; the others come on one device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from mipack.errors import UnsupportedError
from mipack.ops.registry import key

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A function of the table and the operands that it reads on the host."""

    function: Function
    host: tuple[int, ...] = ()


class Call:
    """A node as its function sees it."""

    def __init__(self, node: ir.Node, opset: int) -> None:
        self.node, self.opset = node, opset
        self.results = len(node.outputs)
        self.host: frozenset[int] = frozenset()
        self._attributes = {name: _plain(a.value) for name, a in node.attributes.items()}

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value."""
        found = self._attributes.get(name)
        return default if found is None else found

    def refuse(self, why: str) -> UnsupportedError:
        """The error for a form of the op that has no function here."""
        return UnsupportedError(why, node=self.node.name or "", op=self.node.op_type)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


_TABLE: dict[str, Entry] = {}


def op(*names: str, host: Sequence[int] = ()) -> Callable[[Function], Function]:
    """Register a function for ops; those of other domains are written `domain::op`."""

    def register(function: Function) -> Function:
        for name in names:
            if name in _TABLE:
                raise ValueError(f"two functions for {name}")
            _TABLE[name] = Entry(function, tuple(host))
        return function

    return register


def entry_for(node: ir.Node) -> Entry | None:
    """The function of a node's op, if there is one."""
    return _TABLE.get(key(node))


def entries() -> tuple[str, ...]:
    """Every op with a function, sorted."""
    return tuple(sorted(_TABLE))


def ints(operand: torch.Tensor | None) -> list[int]:
    """An operand's numbers on the host, flattened."""
    return [] if operand is None else [int(v) for v in operand.reshape(-1).tolist()]


def axes_of(call: Call, operand: torch.Tensor | None, rank: int) -> list[int] | None:
    """Axes from the attribute (old opsets) or the operand, made positive; None where absent."""
    listed = call.attr("axes")
    if listed is None and operand is not None:
        listed = ints(operand)
    return None if listed is None else [axis % max(rank, 1) for axis in listed]


def as_float(operand: torch.Tensor) -> torch.Tensor:
    """Integers to float32."""
    return operand if operand.is_floating_point() else operand.to(torch.float32)
