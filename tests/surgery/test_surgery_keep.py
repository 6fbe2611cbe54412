"""Keep tables against a brute-force expansion of every position of random layouts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from layout.positions import Path, paths

from mipack.couple.families import contexts
from mipack.layout import Inexpressible, Layout, Term, find, is_static, leaves
from mipack.surgery.keep import Keep

Axes = Sequence[Term]
calm = settings(deadline=None, max_examples=150)


@st.composite
def terms(draw: st.DrawFn, layout: Layout, atoms: list[Term]) -> Term:
    """An atom, a product, a sum, or a product with sums in it."""
    leaf = st.sampled_from(atoms)
    short = st.lists(leaf, min_size=1, max_size=2, unique=True).map(layout.prod)
    sums = st.lists(short, min_size=1, max_size=2).map(layout.sum)
    return draw(
        st.one_of(leaf, short, sums, st.lists(sums, min_size=1, max_size=2).map(layout.prod))
    )


@st.composite
def tensors(draw: st.DrawFn) -> list[list[Term]]:
    """Some tensors; a dynamic axis has nothing static in it."""
    layout = Layout()
    atoms, dynamic = [layout.atom(size) for size in (2, 3, 4, 1)], layout.atom((2, 3))
    axis = st.one_of(terms(layout, atoms), terms(layout, atoms), st.just(dynamic))
    return draw(st.lists(st.lists(axis, min_size=1, max_size=3), min_size=1, max_size=3))


def static_atoms(axes: Axes) -> list[Term]:
    found = dict.fromkeys(leaf for term in axes for leaf in leaves(term))
    return [atom for atom in found if is_static(atom) and atom.size[0] > 1]


@st.composite
def keeps(draw: st.DrawFn, listed: list[list[Term]]) -> Keep:
    """Random tables for some atoms, per unit of their contexts where they have some."""
    families = contexts(listed, [])
    tables, within = {}, {}
    for atom in dict.fromkeys(a for axes in listed for a in static_atoms(axes)):
        if draw(st.booleans()):
            continue
        outer = [c.size[0] for c in families.get(atom, ())]
        size = atom.size[0]
        count = draw(st.integers(0, size))
        rows = [
            sorted(draw(st.permutations(range(size)))[:count]) for _ in range(int(np.prod(outer)))
        ]
        tables[atom] = np.array(rows, np.int64).reshape(*outer, count)
        within[atom] = families.get(atom, ())
    return Keep(tables, within)


def stays(keep: Keep, where: Sequence[Path], axis: int) -> bool:
    """Whether a position of one axis is kept, given the positions of the others."""
    for atom, unit in where[axis]:
        if atom not in keep.tables:
            continue
        at = tuple(context_unit(c, where, axis) for c in keep.within.get(atom, ()))
        if unit not in keep.tables[atom][at]:
            return False
    return True


def context_unit(context: Term, where: Sequence[Path], axis: int) -> int:
    """Which unit of a context is meant: the one beside it in its own axis, else the only one."""
    own = [unit for atom, unit in where[axis] if atom is context]
    others = [u for k, path in enumerate(where) if k != axis for a, u in path if a is context]
    return own[0] if own else others[0]


def kept_positions(keep: Keep, axes: Axes) -> list[tuple[int, ...]]:
    """Old positions of a tensor that stay, in order; dynamic axes count as one position."""
    listed = [list(enumerate(paths(term))) if is_static(term) else [(0, ())] for term in axes]
    found = []
    for choice in product(*listed):
        where = [path for _, path in choice]
        if all(stays(keep, where, axis) for axis in range(len(axes))):
            found.append(tuple(old for old, _ in choice))
    return found


@calm
@given(tensors(), st.data())
def test_index_lists_what_stays(listed: list[list[Term]], data: st.DataObject) -> None:
    keep = data.draw(keeps(listed))
    for axes in listed:
        expected = kept_positions(keep, axes)
        index = np.broadcast_arrays(*keep.index(axes))
        shape = tuple(keep.size(term) if is_static(term) else 1 for term in axes)
        assert index[0].shape == shape
        found = list(zip(*(i.reshape(-1).tolist() for i in index), strict=True))
        assert sorted(found) == expected
        if not keep.within:  # the order of units stays; per context it may not, over all of them
            assert all((np.diff(old, axis=axis) > 0).all() for axis, old in enumerate(index))


@calm
@given(tensors(), st.data())
def test_mask_marks_what_stays(listed: list[list[Term]], data: st.DataObject) -> None:
    keep = data.draw(keeps(listed))
    for axes in listed:
        mask = np.broadcast_to(
            keep.mask(axes), [term.size[0] if is_static(term) else 1 for term in axes]
        )
        assert [tuple(map(int, at)) for at in np.argwhere(mask)] == kept_positions(keep, axes)


@calm
@given(st.data())
def test_boundaries_move_with_what_is_before_them(data: st.DataObject) -> None:
    """A slice that the algebra can express starts and ends where its units went."""
    layout = Layout()
    atoms = [layout.atom(size) for size in (2, 3, 4, 6, 1)]
    axis = data.draw(terms(layout, atoms))
    total = axis.size[0]
    bounds = []
    for _ in range(data.draw(st.integers(1, 3))):
        low = data.draw(st.integers(0, total))
        high = data.draw(st.integers(low, total))
        try:
            layout.piece(axis, low, high)
        except Inexpressible:
            continue
        bounds += [low, high]
    keep = data.draw(keeps([[axis]]))
    old = [at for (at,) in kept_positions(keep, [axis])]
    for bound in bounds:
        assert keep.position(axis, bound) == sum(at < bound for at in old)
    assert keep.position(axis, total + 5) == len(old) == keep.size(axis)
    assert keep.position(axis, -3) == 0


def test_sizes_of_dynamic_axes_are_those_of_a_probe() -> None:
    layout = Layout()
    batch, heads = layout.atom((2, 3)), layout.atom(4)
    keep = Keep({heads: np.array([0, 2])})
    merged = layout.prod([batch, heads])
    assert (keep.size(merged), keep.size(merged, 1)) == (4, 6)
    assert keep.mask([batch, heads]).shape == (1, 4)


def test_a_mask_is_no_larger_than_what_it_tells_apart() -> None:
    layout = Layout()
    heads, dims, other = layout.atom(4), layout.atom(6), layout.atom(100)
    keep = Keep({dims: np.zeros((4, 1), np.int64)}, {dims: (heads,)})
    assert keep.mask([other, heads, dims]).shape == (1, 4, 6)  # dims are told apart per head
    assert keep.mask([other, heads]).shape == (1, 4)


def test_tables_follow_atoms_through_their_links() -> None:
    """A plan may know an atom by a name that was linked to another since."""
    layout = Layout()
    known, met = layout.atom(4), layout.atom(4)
    keep_before = {known: np.array([1, 3])}
    layout.equal(known, met)
    keep = Keep(keep_before, {known: []})
    assert find(known) is find(met)
    assert keep.cuts(met)
    assert keep.flat(met).tolist() == [1, 3]


def test_only_some_atoms_leave_the_contexts_of_a_family_whole() -> None:
    layout = Layout()
    heads, dims = layout.atom(2), layout.atom(3)
    keep = Keep({heads: np.array([1]), dims: np.array([[0, 1], [1, 2]])}, {dims: (heads,)})
    axis = layout.prod([heads, dims])
    assert keep.flat(axis).tolist() == [4, 5]
    assert keep.only({dims}).flat(axis).tolist() == [0, 1, 4, 5]
    assert keep.only({heads}).flat(axis).tolist() == [3, 4, 5]


def test_deep_sums() -> None:
    """An axis sliced from its start again and again."""
    layout = Layout()
    axis = rest = layout.atom(1500)
    for left in range(1499, 1, -1):
        rest = layout.piece(rest, 1, left + 1)
    keep = Keep({rest: np.array([1])})
    assert keep.size(axis) == 1499
    assert keep.flat(axis).tolist() == [*range(1498), 1499]
    assert keep.position(axis, 1498) == 1498
