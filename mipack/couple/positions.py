"""Where the units of an atom stand along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from mipack.layout import Kind, Term, find, parts, size_of

Array = np.ndarray[Any, Any]


def unit_positions(term: Term, atom: Term, within: Sequence[Term] = ()) -> Array:
    """Where each unit of an atom sits along an axis: [units, positions per unit].

    With `within`, contexts that stand on the axis too, the units of every context in turn.
    """
    atoms = [find(a) for a in (*within, atom)]
    labels = [unit_labels(term, a) for a in atoms]
    there = np.flatnonzero(np.all([label >= 0 for label in labels], axis=0))
    sizes = [size_of(a)[0] for a in atoms]
    units = np.ravel_multi_index(tuple(label[there] for label in labels), sizes)
    return there[np.argsort(units, kind="stable")].reshape(prod(sizes), -1)


def unit_labels(term: Term, atom: Term) -> Array:
    """For every position of an axis the unit of `atom` that it belongs to, or -1: [positions]."""
    term, atom = find(term), find(atom)
    if term is atom:
        return np.arange(size_of(term)[0])
    if term.kind is Kind.ATOM:
        return np.full(size_of(term)[0], -1)
    listed = [unit_labels(part, atom) for part in parts(term)]
    if term.kind is Kind.SUM:
        return np.concatenate(listed)
    total = listed[0]
    for part in listed[1:]:  # row-major: the earlier factor is repeated over the later one
        outer, inner = np.broadcast_arrays(total[:, None], part[None, :])
        total = np.where(outer >= 0, outer, inner).reshape(-1)
    return total
