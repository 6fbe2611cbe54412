"""Equations that are met halfway: seams inside blocks, products without common refinement."""

from __future__ import annotations

from itertools import accumulate
from math import gcd

from algebra import Algebra
from hypothesis import given
from hypothesis import strategies as st
from positions import free, paths

from mipack.layout import leaves, size_of

FEW = st.integers(2, 7)


@given(groups=FEW, members=FEW, data=st.data())
def test_any_seam_through_any_blocks(groups: int, members: int, data: st.DataObject) -> None:
    """Nothing is frozen, and every block is the same cells: those between any two seams in it."""
    a = Algebra()
    cuts = data.draw(st.sets(st.integers(1, groups * members - 1), max_size=3))
    ends = [*sorted(cuts), groups * members]
    block = a.atom(members)
    whole = a.p(groups, block)
    seams = a.s(*(end - start for start, end in zip([0, *ends], ends, strict=False)))
    a.equal(whole, seams)
    a.settle()
    assert not a.failed
    assert paths(whole) == paths(seams)
    bounds = sorted({end % members for end in ends} | {0, members})
    assert [*accumulate(size_of(leaf)[0] for leaf in leaves(block))] == bounds[1:]


@given(outer=FEW, left=FEW, right=FEW, inner=FEW)
def test_products_meet_at_both_ends(outer: int, left: int, right: int, inner: int) -> None:
    """(o x l) x (r x i) against (o x r) x (l x i): at most the l x r in the middle is frozen."""
    a = Algebra()
    one, two = a.p(outer * left, right * inner), a.p(outer * right, left * inner)
    a.equal(one, two)
    a.settle()
    assert free(paths(one)) == free(paths(two))
    first, *_, last = leaves(one)
    if gcd(left, right) == 1:
        frozen = [leaf for leaf in leaves(one) if leaf.frozen]
        assert not (first.frozen or last.frozen)
        assert {leaf.size[0] for leaf in frozen} <= {left, right, left * right}
