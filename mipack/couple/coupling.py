"""Groups and all that later stages know of a graph's structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.couple.branches import Branches
from mipack.couple.cost import Cost
from mipack.graph.adjust import set_weight
from mipack.graph.probe import Probe
from mipack.graph.view import Linear, Statements
from mipack.layout import Layout, Term, leaves, size_of


@dataclass(frozen=True, slots=True)
class Group:
    """Units that are cut together; `touches` lists (initializer, axis) in topological order."""

    name: str
    atom: Term
    size: int
    kind: str
    touches: tuple[tuple[str, int], ...]
    within: tuple[Term, ...]
    frozen: tuple[str, ...]
    width: tuple[str, ...]
    macs: int

    @property
    def free(self) -> bool:
        """Neither frozen nor normalised over."""
        return not (self.frozen or self.width)

    @property
    def shape(self) -> tuple[int, ...]:
        """[contexts.., units]: of a family every context unit chooses for itself."""
        return (*(size_of(context)[0] for context in self.within), self.size)


@dataclass(frozen=True)
class Coupling:
    """All that later stages know of the graph's structure; they see axes, never ops."""

    model: ir.Model
    probe: Probe
    layout: Layout
    axes: Mapping[str, tuple[Term, ...]]
    said: Statements
    groups: tuple[Group, ...]
    constants: Mapping[str, np.ndarray[Any, Any]]
    unknown_ops: Mapping[str, int]

    @cached_property
    def cost(self) -> Cost:
        """MACs, parameters and bytes as functions of widths."""
        return self.cost_of({})

    def cost_of(self, left: Mapping[str, Fraction]) -> Cost:
        """The same where some nodes, by name, do a share of their multiply-adds only."""
        weights = {n: self.axes[n] for n, v in self.constants.items() if v.ndim and n in self.axes}
        bits = [self._bits(name) for name in weights]
        listed = [(name, terms) for name, ts in self.said.products.items() for terms in ts]
        shares = [left.get(name, Fraction(1)) for name, _ in listed] if left else []
        idle = [self.branches.idle.get(name, ()) for name, _ in listed]
        unread = [self.branches.unread.get(name, ()) for name in weights]
        products = [terms for _, terms in listed]
        return Cost(products, weights.values(), bits, shares, idle=idle, unread=unread)

    def _bits(self, weight: str) -> int:
        """Of each element, as the file holds it."""
        tensor = self.model.graph.initializers[weight].const_value
        return 0 if tensor is None else int(tensor.dtype.bitwidth)

    @cached_property
    def branches(self) -> Branches:
        """What may go entirely."""
        return Branches(self)

    def removable(self, group: Group) -> bool:
        """Whether no unit of a group need stay."""
        return group.atom in self.branches.removable

    @property
    def free(self) -> tuple[Group, ...]:
        """The groups that may be cut."""
        return tuple(group for group in self.groups if group.free)

    @property
    def widths(self) -> tuple[Group, ...]:
        """The groups that something averages over: cut on request only."""
        return tuple(group for group in self.groups if group.width and not group.frozen)

    def linears_reading(self, group: Group) -> list[Linear]:
        """Contractions with weights that absorb the group."""
        return self._readers.get(group.atom, [])

    @cached_property
    def _readers(self) -> dict[Term, list[Linear]]:
        found: dict[Term, list[Linear]] = {}
        for site in self.said.linears:
            for atom in dict.fromkeys(leaves(self.axes[site.x][site.x_axis])):
                found.setdefault(atom, []).append(site)
        return found

    def with_weights(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Coupling:
        """The same structure with other values of some initializers; this one is left as it is."""
        model = self.model.clone()
        model.meta.update(self.model.meta)
        for name, array in arrays.items():
            set_weight(model.graph, name, array)
        twins = dict(zip(self.model.graph.all_nodes(), model.graph.all_nodes(), strict=True))
        said = self.said
        moved = replace(
            said,
            encodings=[replace(e, node=twins[e.node]) for e in said.encodings],
            pins=[replace(pin, node=twins[pin.node]) for pin in said.pins],
            linears=[replace(site, node=twins[site.node]) for site in said.linears],
            averaged={twins[node]: terms for node, terms in said.averaged.items()},
            edges={(twins[node], slot): name for (node, slot), name in said.edges.items()},
        )
        constants = {**self.constants, **arrays}
        return replace(self, model=model, said=moved, constants=constants)
