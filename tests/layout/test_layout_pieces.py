"""Units, empties, pieces and blocks by example, and what long axes cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from algebra import Algebra, spelled
from hypothesis import given
from hypothesis import strategies as st
from positions import paths

from mipack.layout import (
    EMPTY,
    UNIT,
    Inexpressible,
    Size,
    Term,
    find,
    leaves,
    parts,
    show,
    size_of,
)


@pytest.fixture
def a() -> Algebra:
    return Algebra()


# ---------------------------------------------------------------- units, empties, pieces, blocks


def test_units_and_empties_vanish_where_they_mean_nothing(a: Algebra) -> None:
    atom = a.atom(4)
    assert a.p(1, atom, 1) is a.s(0, atom, 0) is atom
    assert size_of(a.p(1, 1)) == size_of(a.p()) == UNIT
    assert size_of(a.s(0, 0)) == size_of(a.s()) == EMPTY
    assert size_of(a.s(1, atom, 1)) == (6, 6)


@pytest.mark.parametrize("size", [UNIT, EMPTY])
def test_equal_units_and_empties_say_nothing(a: Algebra, size: Size) -> None:
    left, right = a.atom(size), a.atom(size)
    a.equal(left, right)
    a.equal(right, a.p(left, 3) if size == EMPTY else left)
    a.settle()
    assert not a.failed
    assert find(left) is not find(right)


@given(st.integers(1, 6), st.integers(1, 5), st.lists(st.integers(0, 6)), st.booleans())
def test_pieces_tile_an_axis(lead: int, block: int, bounds: list[int], as_sum: bool) -> None:
    a = Algebra()
    axis = a.p(lead, block) if not as_sum else a.p(a.s(lead, 6 - lead), block)
    lead = size_of(axis)[0] // block
    cuts = [0, *sorted(min(bound, lead) for bound in bounds), lead]
    tiles = [a.piece(axis, *(k * block for k in pair)) for pair in pairwise(cuts)]
    assert [size_of(t)[0] for t in tiles] == [(high - low) * block for low, high in pairwise(cuts)]
    assert paths(a.sum(tiles)) == paths(axis)


def test_pieces_beyond_the_ends_are_clamped(a: Algebra) -> None:
    axis = a.atom(8)
    assert a.piece(axis, -3, 99) is axis
    assert size_of(a.piece(axis, 3, 3)) == size_of(a.piece(axis, 8, 12)) == EMPTY


def test_a_piece_cannot_cut_a_block(a: Algebra) -> None:
    axis = a.p(4, 6)
    with pytest.raises(Inexpressible, match="a cut at 8 inside a block of 6"):
        a.piece(axis, 0, 8)


def test_a_piece_ends_at_the_same_seam_in_both_probes(a: Algebra) -> None:
    axis = a.s((4, 5), (4, 3))
    with pytest.raises(Inexpressible, match="the order of the parts depends on the sizes"):
        a.piece(axis, 0, 4)


def test_behind_a_unit_the_next_factor_leads(a: Algebra) -> None:
    """(1 + 1) x (3 + 5) has four summands, and cuts between all of them."""
    axis, units = a.p(a.s(1, 1), a.s(3, 5)), a.s(1, 1)
    assert [part.size[0] for part in a.summands(axis)] == [3, 5, 3, 5]
    assert paths(a.piece(axis, 3, 11)) == paths(axis)[3:11]
    a.equal(axis, a.s(3, 13))
    a.equal(a.p(a.s(2, a.p(units, a.s(3, 5))), 2), a.s(10, 26))
    a.settle()
    assert not a.failed


@pytest.mark.parametrize(
    ("make", "inner", "outer_size", "text"),
    [
        (lambda a: a.atom(24), 6, 4, "(4 x 6)"),
        (lambda a: a.p(4, 6), 12, 2, "((2 x 2) x 6)"),
        (lambda a: a.p(4, 6), 3, 8, "(4 x (2 x 3))"),
        (lambda a: a.s(8, 4), 4, 3, "((2 + 1) x 4)"),
        (lambda a: a.p(a.s(2, 3), 4), 4, 5, "((2 + 3) x 4)"),
        (lambda a: a.p(a.s(4, 6), 4), 8, 5, "(((2 + 3) x 2) x 4)"),
        (lambda a: a.p(2, a.s(4, 6)), 2, 10, "(2 x ((2 + 3) x 2))"),
        (lambda a: a.s(a.p(2, 6), 18), 6, 5, "((2 + 3) x 6)"),
        (lambda a: a.atom((12, 24)), 6, 2, "(2* x 6)"),
        (lambda a: a.atom(24), 1, 24, "24"),
        (lambda a: a.atom(24), 24, 1, "24"),
    ],
)
def test_divide(
    a: Algebra, make: Callable[[Algebra], Term], inner: int, outer_size: int, text: str
) -> None:
    term = make(a)
    outer, block = a.divide(term, (inner, inner))
    a.settle()
    assert not a.failed
    assert (size_of(outer)[0], size_of(block)[0]) == (outer_size, inner)
    assert paths(a.prod([outer, block])) == paths(term)
    assert spelled(term) == text


@pytest.mark.parametrize(
    ("make", "inner", "why"),
    [
        (lambda a: a.atom(24), 5, "24 is not a multiple of 5"),
        (lambda a: a.p(6, 4), 3, "no common refinement of factors 4, 3"),
        (lambda a: a.s(6, 18), 8, "a block of 8 crosses a seam of a concatenation"),
        (lambda a: a.atom((12, 25)), 6, "12 is not a multiple of 6"),
    ],
)
def test_divide_refuses(a: Algebra, make: Callable[[Algebra], Term], inner: int, why: str) -> None:
    with pytest.raises(Inexpressible, match=why):
        a.divide(make(a), (inner, inner))


# ---------------------------------------------------------------- size

MANY = 2000


def calls(work: Callable[[], object]) -> int:
    """How many calls Python makes meanwhile: the cost of an algorithm without a clock."""
    count = 0

    def tick(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(tick)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_a_long_chain_of_concatenations(a: Algebra) -> None:
    """As in a dense block: every result is named, then concatenated with one part more."""
    axis, pieces = a.atom(3), [a.atom(3) for _ in range(MANY)]
    start = axis
    for piece in pieces:
        whole = a.atom(size_of(axis)[0] + 3)
        a.equal(whole, a.s(axis, piece))
        axis = whole
    assert leaves(axis) == parts(axis) == a.summands(axis) == [start, *pieces]
    assert a.atom(1).id < 4 * MANY  # terms that were made


def test_an_axis_read_step_by_step(a: Algebra) -> None:
    """x[1:], again and again: refinement nests sums as deep as the axis is long."""
    axis = rest = a.atom(MANY)
    for left in range(MANY - 1, 0, -1):
        rest = a.piece(rest, 1, left + 1)
    assert show(axis).count("+") == MANY - 1
    assert len(parts(axis)) == len(a.summands(axis)) == len(leaves(axis)) == MANY
    assert find(axis).parts == parts(axis)  # stored flat
    a.equal(axis, a.p(MANY // 2, 2))
    a.settle()
    a.freeze(axis, "time")
    assert all(leaf.frozen for leaf in leaves(axis))


def test_long_sums_are_compared_in_linear_time() -> None:
    def work(many: int) -> Callable[[], None]:
        a = Algebra()
        left, right = a.s(1, *[2] * many), a.s(*[2] * many, 1)
        return lambda: a.equal(left, right)

    once, twice = calls(work(MANY // 2)), calls(work(MANY))
    assert twice < 2.2 * once
