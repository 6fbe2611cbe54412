"""The algebra by example: what is solved, what is refused and why, what is cheap."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from positions import paths, pattern

from mipack.layout import (
    EMPTY,
    REASONS_KEPT,
    UNIT,
    Inexpressible,
    Layout,
    Size,
    Term,
    factors,
    find,
    is_static,
    leaves,
    parts,
    show,
    size_of,
)

Sizes = Size | int


class Algebra(Layout):
    """Shorthand: `p(12, 32)` is a product and `s(6, 10)` a sum, of new atoms or given terms."""

    def term(self, what: Term | Sizes) -> Term:
        return what if isinstance(what, Term) else self.atom(what)

    def p(self, *what: Term | Sizes) -> Term:
        return self.prod(map(self.term, what))

    def s(self, *what: Term | Sizes) -> Term:
        return self.sum(map(self.term, what))


def spelled(term: Term) -> str:
    """A term with sizes for atoms: (6 x 2 x 32)."""
    return re.sub(r"a\d+:", "", show(term))


@pytest.fixture
def a() -> Algebra:
    return Algebra()


# ---------------------------------------------------------------- what is solved


def test_an_atom_becomes_what_it_meets(a: Algebra) -> None:
    atom, whole = a.atom(384), a.p(12, 32)
    a.equal(atom, whole)
    assert find(atom) is whole


def test_factors_are_refined_to_what_both_consist_of(a: Algebra) -> None:
    left, right = a.p(12, 32), a.p(6, 64)
    a.equal(left, right)
    assert find(left) is find(right)
    assert [f.size[0] for f in factors(left)] == [6, 2, 32]


def test_summands_are_refined_to_what_both_consist_of(a: Algebra) -> None:
    one, two = a.atom(6), a.atom(10)
    a.equal(a.s(one, two), a.s(two, one))
    assert (spelled(one), spelled(two)) == ("(2 + 2 + 2)", "(2 + 2 + 2 + 2 + 2)")
    assert len({*leaves(one), *leaves(two)}) == 1


def test_only_a_leading_factor_distributes(a: Algebra) -> None:
    left, right, block = a.atom(3), a.atom(5), a.atom(4)
    lead, tail = a.p(a.s(left, right), block), a.p(block, a.s(left, right))
    assert [factors(t) for t in a.summands(lead)] == [[left, block], [right, block]]
    assert a.summands(tail) == [tail]


def test_a_product_meets_its_distributed_form(a: Algebra) -> None:
    left, right, block = a.atom(3), a.atom(5), a.atom(4)
    other = a.s(a.p(3, 4), a.p(5, 4))
    a.equal(a.p(a.s(left, right), block), other)
    a.settle()
    assert not a.failed
    assert pattern([other]) == pattern([a.p(a.s(left, right), block)])


def test_the_parts_of_a_concatenation_share_their_blocks(a: Algebra) -> None:
    """q, k and v in one axis, read as 3 x H x D: three units, and one head layout."""
    q, k, v = a.atom(32), a.atom(32), a.atom(32)
    three, heads, dims = a.atom(3), a.atom(4), a.atom(8)
    a.equal(a.s(q, k, v), a.p(three, heads, dims))
    assert paths(q) == paths(k) == paths(v) == paths(a.p(heads, dims))
    assert spelled(three) == "(1 + 1 + 1)"


def test_a_dynamic_product_needs_no_symbols(a: Algebra) -> None:
    """[B, S, 12 x D] read as [B*S*12, D] and back: the heads come out, though B*S*12 is dynamic."""
    batch, length, heads = a.atom((2, 3)), a.atom((7, 11)), a.atom(12)
    merged = a.atom((2 * 7 * 12, 3 * 11 * 12))
    a.equal(merged, a.p(batch, length, heads))
    rows, again = a.atom((2 * 7, 3 * 11)), a.atom(12)
    a.equal(merged, a.p(rows, again))
    a.settle()
    assert not a.failed
    assert find(again) is find(heads)
    assert is_static(again)
    assert factors(rows) == [find(batch), find(length)]
    assert show(rows).count("*") == 2


def test_a_dynamic_part_of_a_concatenation(a: Algebra) -> None:
    """Past and new positions, split again at the same place."""
    past, new = a.atom((5, 9)), a.atom((2, 3))
    first, second = a.atom((5, 9)), a.atom((2, 3))
    a.equal(a.s(past, new), a.s(first, second))
    assert (find(past), find(new)) == (find(first), find(second))


def test_an_equation_may_wait_for_a_later_one(a: Algebra) -> None:
    pair, block, seam = a.atom(2), a.atom(6), a.s(4, 8)
    whole = a.p(pair, block)
    a.equal(whole, seam)  # a cut at 4 inside a block of 6
    assert not a.failed
    a.equal(pair, a.s(1, 1))  # now it is block + block
    a.settle()
    assert not a.failed
    assert paths(whole) == paths(seam)
    assert spelled(block) == "(4 + 2)"
    assert not any(leaf.frozen for leaf in leaves(seam))


def test_a_retry_that_refines_but_still_waits_helps_the_others(a: Algebra) -> None:
    """The second equation waits to the end, but on its second try gets as far as `pair`."""
    pair, block, seam, first = a.atom(2), a.atom(6), a.s(4, 8), a.atom(2)
    a.equal(a.p(pair, block), seam, "one")
    never = a.s(a.p(first, 6), pair, a.p(2, 6)), a.s(4, 8, 1, 1, 4, 8)
    a.equal(*never, "two")
    a.equal(first, a.s(1, 1), "three")
    a.settle()
    assert a.failed == ["a cut at 4 inside a block of 6 [two]"]
    assert not any(leaf.frozen for leaf in leaves(block))


# ---------------------------------------------------------------- what is not


def both(left: Callable[[Algebra], Term], right: Callable[[Algebra], Term], why: str) -> object:
    return pytest.param(left, right, why, id=why)


REFUSED = [
    both(lambda a: a.p(12, 32), lambda a: a.p(8, 48), "no common refinement of factors 32, 48"),
    both(lambda a: a.p(4, 6), lambda a: a.s(8, 16), "a cut at 8 inside a block of 6"),
    both(lambda a: a.p(5, a.s(2, 4)), lambda a: a.p(10, 3), "a block of 3 crosses a seam"),
    both(lambda a: a.atom(4), lambda a: a.atom(5), "sizes (4, 4) and (5, 5) differ"),
    both(lambda a: a.atom(4), lambda a: a.atom((4, 5)), "sizes (4, 4) and (4, 5) differ"),
    both(lambda a: a.s((5, 7), 6), lambda a: a.s(6, (5, 7)), "the order of the parts depends on"),
    both(lambda a: a.atom((0, 2)), lambda a: a.p((0, 2), (3, 1)), "empty in one probe"),
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("left", "right", "why"), REFUSED)
def test_what_has_no_common_refinement_freezes_both_sides(
    a: Algebra,
    left: Callable[[Algebra], Term],
    right: Callable[[Algebra], Term],
    why: str,
    turned: bool,
) -> None:
    sides = [left(a), right(a)]
    a.equal(sides[turned], sides[not turned], "Reshape /x")
    a.settle()
    (reason,) = a.failed
    assert turned or why in reason  # the two sides are named in their order
    assert reason.endswith(" [Reshape /x]")
    for leaf in [leaf for side in sides for leaf in leaves(side)]:
        assert list(leaf.frozen) == [reason]


def test_a_coprime_shuffle_freezes_the_axis(a: Algebra) -> None:
    """3 groups of 8 channels become 8 x 3 and are read as 3 groups again."""
    group, member = a.atom(3), a.atom(8)
    a.equal(a.p(member, group), a.p(3, 8), "Conv")
    a.settle()
    assert a.failed == ["no common refinement of factors 3, 8 [Conv]"]
    assert group.frozen
    assert member.frozen


def test_a_shuffle_by_a_power_of_two_is_solved(a: Algebra) -> None:
    """4 groups of 8 become 8 x 4: two factors of 4, the groups, and a 2 between them."""
    group, member = a.atom(4), a.atom(8)
    a.equal(a.p(member, group), a.p(group, member))
    a.settle()
    assert not a.failed
    assert {leaf.size for leaf in leaves(member)} == {(2, 2)}


def test_a_failure_freezes_no_more_than_its_part(a: Algebra) -> None:
    left, right, tail = a.p(12, 32), a.p(8, 48), a.atom(5)
    a.equal(a.s(left, tail), a.s(right, 5), "Add /sum")
    a.settle()
    assert a.failed == ["no common refinement of factors 32, 48 [Add /sum]"]
    assert all(leaf.frozen for side in (left, right) for leaf in leaves(side))
    assert not find(tail).frozen


def test_a_failure_inside_a_failure_comes_to_an_end(a: Algebra) -> None:
    """Each retry of the whole states the part anew."""
    left = a.s(a.p(12, 32), a.p(4, 6), 8)
    right = a.s(a.p(8, 48), 8, a.p(4, 6))
    for _ in range(2):
        a.equal(left, right, "Add")
    a.settle()
    assert sorted(a.failed) == [
        "a cut at 8 inside a block of 6 [Add]",
        "no common refinement of factors 32, 48 [Add]",
    ]


def test_blocks_of_a_concatenation_that_do_not_match_are_frozen(a: Algebra) -> None:
    """Both parts are read as blocks of 24 units, but those have no common refinement."""
    one, two = a.p(2, 4, 6), a.p(2, 3, 8)
    whole = a.s(one, two)
    a.divide(whole, (24, 24), "Reshape")
    a.settle()
    assert a.failed == ["no common refinement of factors 6, 8 [Reshape]"]
    for term in (one, two, whole):
        assert {leaf.size for leaf in leaves(term) if not leaf.frozen} == {(2, 2)}


@pytest.mark.parametrize("turned", [False, True])
def test_a_failure_in_the_depth_keeps_its_reason(a: Algebra, turned: bool) -> None:
    halves = a.s(a.p(4, 6), a.p(3, 8))
    sides = a.p(7, a.s(a.p(5, halves), 24)), a.p(77, 24)
    a.equal(sides[turned], sides[not turned], "Reshape")
    a.settle()
    assert a.failed == ["no common refinement of factors 6, 8 [Reshape]"]


# ---------------------------------------------------------------- marks


def test_marks_pass_to_both_sides_and_into_refinements(a: Algebra) -> None:
    old, new = a.atom(24), a.p(4, 6)
    a.freeze(old, "interface")
    a.normalise(new, "LayerNormalization")
    a.equal(old, new)
    a.equal(new, a.s(6, 18))
    assert len(leaves(old)) == 3  # (1 + 3) x 6, a unit does not show
    for leaf in leaves(old):
        assert (list(leaf.frozen), list(leaf.width)) == (["interface"], ["LayerNormalization"])


def test_only_the_first_reasons_are_kept(a: Algebra) -> None:
    atom = a.atom(4)
    for k in range(REASONS_KEPT + 3):
        a.freeze(atom, f"reason {k}")
    assert list(atom.frozen) == [f"reason {k}" for k in range(REASONS_KEPT)]


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
    a.freeze(axis, "time")
    a.settle()
    assert all(leaf.frozen for leaf in leaves(axis))


def test_long_sums_are_compared_in_linear_time() -> None:
    def work(many: int) -> Callable[[], None]:
        a = Algebra()
        left, right = a.s(1, *[2] * many), a.s(*[2] * many, 1)
        return lambda: a.equal(left, right)

    once, twice = calls(work(MANY // 2)), calls(work(MANY))
    assert twice < 2.2 * once
