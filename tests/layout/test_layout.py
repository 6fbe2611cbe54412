"""The algebra by example: what is solved, what is refused and why, where marks go."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from algebra import Algebra, spelled
from positions import free, paths, pattern

from mipack.layout import (
    REASONS_KEPT,
    Kind,
    Term,
    factors,
    find,
    is_static,
    leaves,
    show,
)


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
    dynamic = a.p((2, 3), 6), a.s(4, (8, 14))  # which cannot be unrolled
    a.equal(a.p(pair, block), seam, "one")
    never = a.s(a.p(first, 6), pair, dynamic[0]), a.s(4, 8, 1, 1, dynamic[1])
    a.equal(*never, "two")
    a.equal(first, a.s(1, 1), "three")
    a.settle()
    assert a.failed == ["a cut at 4 inside a block of 6 [two]"]
    assert not any(leaf.frozen for leaf in leaves(block))


# ---------------------------------------------------------------- what is not


def both(left: Callable[[Algebra], Term], right: Callable[[Algebra], Term], why: str) -> object:
    return pytest.param(left, right, why, id=why)


REFUSED = [
    both(lambda a: a.p(8, 3), lambda a: a.p(3, 8), "no common refinement of factors 3, 8"),
    both(lambda a: a.p((4, 6), 6), lambda a: a.s(8, (16, 28)), "a cut at 8 inside a block of 6"),
    both(lambda a: a.p(3, a.s(2, 2)), lambda a: a.p(4, 3), "no common refinement of factors 4, 3"),
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


def test_what_both_products_share_is_divided_off_at_both_ends(a: Algebra) -> None:
    """12 x 32 against 8 x 48: only the 3 x 2 that is a 2 x 3 stays whole."""
    left, right = a.p(12, 32), a.p(8, 48)
    a.equal(left, right, "Reshape")
    a.settle()
    assert a.failed == ["no common refinement of factors 2, 3 [Reshape]"]
    (first, *whole, last), (other, *_, end) = leaves(left), leaves(right)
    assert (first.size, last.size, first, last) == ((4, 4), (16, 16), other, end)
    assert not first.frozen
    assert not last.frozen
    assert all(leaf.frozen for leaf in whole)
    assert free(paths(left)) == free(paths(right))


def test_a_seam_inside_a_block_unrolls_the_blocks(a: Algebra) -> None:
    """8 + 16 channels as 4 groups of 6: the groups stay, a group loses alike in all of them."""
    group, block, seam = a.atom(4), a.atom(6), a.s(8, 16)
    whole = a.p(group, block)
    a.equal(whole, seam, "Conv")
    assert find(group).kind is Kind.ATOM  # only when nothing else helps
    a.settle()
    assert not a.failed
    assert spelled(block) == "(2 + 4)"
    assert spelled(group) == "(1 + 1 + 1 + 1)"
    assert paths(whole) == paths(seam)
    assert not any(leaf.frozen for leaf in leaves(seam))


def test_blocks_across_the_seam_of_a_factor_unroll_it(a: Algebra) -> None:
    left, right = a.p(5, a.s(2, 4)), a.p(10, 3)
    a.equal(left, right)
    a.settle()
    assert not a.failed
    assert paths(left) == paths(right)


def test_blocks_of_dynamic_size_are_not_unrolled(a: Algebra) -> None:
    """Where the seam lies in a block is another place in every run."""
    sides = a.p(4, (6, 9)), a.s((8, 10), (16, 26))
    a.equal(*sides, "Conv")
    a.settle()
    assert a.failed == ["a cut at 8 inside a block of 6 [Conv]"]
    accident = a.p(4, (6, 9), (3, 2)), a.s(8, 64)
    a.equal(*accident, "Add")
    a.settle()
    assert a.failed[1:] == ["a cut at 8 inside a block of 18 [Add]"]


def test_blocks_that_are_not_cut_anyway_are_not_unrolled(a: Algebra) -> None:
    group, block, seam = a.atom(4), a.atom(6), a.s(8, 16)
    a.freeze(block, "time")
    a.equal(a.p(group, block), seam, "Conv")
    a.settle()
    assert a.failed == ["a cut at 8 inside a block of 6 [Conv]"]
    assert find(group).kind is Kind.ATOM
    assert all(leaf.frozen for leaf in leaves(seam))


def test_a_shuffle_by_a_power_of_two_is_solved(a: Algebra) -> None:
    """4 groups of 8 become 8 x 4: two factors of 4, the groups, and a 2 between them."""
    group, member = a.atom(4), a.atom(8)
    a.equal(a.p(member, group), a.p(group, member))
    a.settle()
    assert not a.failed
    assert {leaf.size for leaf in leaves(member)} == {(2, 2)}


def test_a_failure_freezes_no_more_than_its_part(a: Algebra) -> None:
    left, right, tail = a.p(3, 32), a.p(32, 3), a.atom(5)
    a.equal(a.s(left, tail), a.s(right, 5), "Add /sum")
    a.settle()
    assert a.failed == ["no common refinement of factors 32, 3 [Add /sum]"]
    assert all(leaf.frozen for side in (left, right) for leaf in leaves(side))
    assert not find(tail).frozen


def test_a_failure_inside_a_failure_comes_to_an_end(a: Algebra) -> None:
    """Each retry of the whole states the part anew."""
    left = a.s(a.p(3, 32), a.p((2, 3), 6), 8)
    right = a.s(a.p(32, 3), 8, a.p((2, 3), 6))
    for _ in range(2):
        a.equal(left, right, "Add")
    a.settle()
    assert sorted(a.failed) == [
        "a cut at 8 inside a block of 6 [Add]",
        "no common refinement of factors 32, 3 [Add]",
    ]


def test_blocks_of_a_concatenation_that_do_not_match_are_frozen(a: Algebra) -> None:
    """Both parts are read as blocks of 24 units, of which 4 x 3 and 3 x 4 stay whole."""
    one, two = a.p(2, 4, 6), a.p(2, 3, 8)
    whole = a.s(one, two)
    a.divide(whole, (24, 24), "Reshape")
    a.settle()
    assert a.failed == ["no common refinement of factors 3, 4 [Reshape]"]
    for term in (one, two, whole):
        assert {leaf.size for leaf in leaves(term) if not leaf.frozen} == {(2, 2)}


@pytest.mark.parametrize("turned", [False, True])
def test_a_failure_in_the_depth_keeps_its_reason(a: Algebra, turned: bool) -> None:
    halves = a.s(a.p(4, 6), a.p(3, 8))
    sides = a.p(7, a.s(a.p(5, halves), 24)), a.p(77, 24)
    a.equal(sides[turned], sides[not turned], "Reshape")
    a.settle()
    assert a.failed == ["no common refinement of factors 3, 4 [Reshape]"]


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
