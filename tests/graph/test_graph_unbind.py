"""Packed q, k and v get ways of their own: the same numbers, and dims that are chosen apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from laws.lawkit import Build, Studied, coupled

from mipack.graph.canonical import canonical
from mipack.graph.load import from_proto
from mipack.graph.probe import exposed, probe
from mipack.graph.unbind import unbind

HEADS, SIZE = 3, 4
Split = Callable[[Build, str], tuple[str, str, str]]


def gathered(b: Build, packed: str) -> tuple[str, str, str]:
    q, k, v = (b.Gather(packed, np.int64(i), axis=0) for i in (0, 1, -1))
    return q, k, v


def split(b: Build, packed: str) -> tuple[str, str, str]:
    q, k, v = (b.Squeeze(part, [0]) for part in b.Split(packed, [1, 1, 1], axis=0, n=3))
    return q, k, v


def sliced(b: Build, packed: str) -> tuple[str, str, str]:
    q, k, v = (b.Squeeze(b.Slice(packed, [i], [i + 1], [0]), [0]) for i in range(3))
    return q, k, v


def model(b: Build, select: Split, *, inner: bool = False) -> str:
    """[B, S, 3, H, D] or [B, S, H, 3, D], to [3, B, H, S, D]."""
    h = b.lin("x", 6, 3 * HEADS * SIZE)
    shape = [HEADS, 3, SIZE] if inner else [3, HEADS, SIZE]
    sizes = b.Concat(b.Shape("x", start=0, end=2), shape, axis=0)
    packed = b.Transpose(b.Reshape(h, sizes), perm=[3, 0, 2, 1, 4] if inner else [2, 0, 3, 1, 4])
    q, k, v = select(b, packed)
    return b.lin(b.attend(q, k, v, HEADS, SIZE), HEADS * SIZE, 5)


def unbound(select: Split, inner: bool) -> tuple[Studied, Studied]:
    b = Build(x=("B", "S", 6))
    proto, feeds = b.proto([model(b, select, inner=inner)], 18), b.feeds()
    return coupled(proto, feeds), coupled(proto, feeds, apart=False)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("select", [gathered, split, sliced])
def test_the_dims_of_values_are_chosen_apart(select: Split, inner: bool) -> None:
    apart, packed = unbound(select, inner)
    count = [len([g for g in s.coupling.free if g.size == SIZE]) for s in (apart, packed)]
    assert count[0] == 2 and count[1] <= 1
    heads = [g for g in apart.coupling.free if g.size == HEADS]
    assert len(heads) == 1
    for seed in range(3):
        apart.law(seed)


@pytest.mark.parametrize("inner", [False, True])
def test_no_number_changes(inner: bool) -> None:
    apart, packed = unbound(gathered, inner)
    output = packed.coupling.model.graph.outputs[0].name or ""
    with exposed(apart.coupling.model) as ours, exposed(packed.coupling.model) as theirs:
        for feeds in apart.feeds:
            np.testing.assert_array_equal(ours.run(feeds)[output], theirs.run(feeds)[output])


def test_one_part_alone_is_a_last_step() -> None:
    b = Build(x=("B", 24))
    h = b.Reshape(b.lin("x", 24, 24), [0, 3, 8])
    proto = b.proto([b.lin(b.Gather(h, np.int64(-1), axis=1), 8, 5)], 18)
    form = canonical(from_proto(proto))
    assert not unbind(form, probe(form, b.feeds()[:2]))


def test_a_tensor_that_is_read_whole_stays() -> None:
    b = Build(x=("B", 24))
    h = b.Reshape(b.lin("x", 24, 24), [0, 3, 8])
    parts = [b.Gather(h, np.int64(i), axis=1) for i in range(2)]
    whole = b.ReduceSum(h, [1], keepdims=0)
    proto = b.proto([b.lin(b.Add(b.Mul(*parts), whole), 8, 5)], 18)
    form = canonical(from_proto(proto))
    assert not unbind(form, probe(form, b.feeds()[:2]))
