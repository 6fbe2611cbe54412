"""Dependent families: what may be chosen differently for each unit of what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from mipack.couple.families import contexts
from mipack.layout import Kind, Layout, Term, find

Axes = Sequence[Term]


class Atoms(Layout):
    """H heads, D and E head dims, I and O widths of layers, B and S dynamic."""

    def __init__(self) -> None:
        super().__init__()
        self.h, self.d, self.e, self.i, self.o = map(self.atom, (4, 8, 6, 16, 5))
        self.b, self.s = self.atom((2, 3)), self.atom((7, 11))


def attention(a: Atoms, heads: Term) -> list[Axes]:
    """All tensors of self-attention; the queries have `heads`, the keys and values H."""
    keys, values = a.prod([a.h, a.d]), a.prod([a.h, a.e])
    queries, mixed = a.prod([heads, a.d]), a.prod([heads, a.e])
    weights = [[a.i, queries], [a.i, keys], [a.i, values], [mixed, a.o]]
    joined = [[a.b, a.s, a.i], [a.b, a.s, queries], [a.b, a.s, keys], [a.b, a.s, values]]
    apart = [[a.b, heads, a.s, a.d], [a.b, a.h, a.s, a.e], [a.b, heads, a.s, a.s]]
    return [*weights, *joined, *apart, [a.b, a.s, a.o]]


def test_head_dims_are_chosen_per_head() -> None:
    a = Atoms()
    tensors = attention(a, a.h)
    found = contexts(tensors, [[a.b, a.h, a.s], [a.b, a.h, a.d], [a.b, a.h, a.e]])
    assert found == {a.d: (a.h,), a.e: (a.h,)}


def test_grouped_queries_depend_on_their_key_head() -> None:
    a = Atoms()
    group = a.atom(3)
    found = contexts(attention(a, a.prod([a.h, group])), [])
    assert found == {a.d: (a.h,), a.e: (a.h,), group: (a.h,)}


def test_a_mix_of_heads_ties_the_dims_of_all_heads() -> None:
    """Talking heads: [B, S, D, H] times a square matrix [H, H], tied by a residual."""
    a = Atoms()
    tensors = [[a.b, a.s, a.prod([a.h, a.d])], [a.b, a.s, a.d, a.h], [a.h, a.h]]
    assert contexts(tensors, []) == {a.d: (a.h,)}  # every tensor has H beside D
    walked = [[a.b, a.s, a.d], [a.b, a.s, a.h], [a.b, a.s, a.h]]
    assert contexts(tensors, walked) == {}


def test_one_tensor_without_the_context_is_enough() -> None:
    a = Atoms()
    tensors = [[a.i, a.prod([a.h, a.d])], [a.b, a.s, a.i], [a.b, a.prod([a.h, a.d])], [a.h]]
    assert contexts(tensors, []) == {a.d: (a.h,)}
    assert contexts([*tensors, [a.b, a.d]], []) == {}


def test_a_context_under_a_sum_is_none() -> None:
    a = Atoms()
    assert contexts([[a.h, a.d], [a.h]], []) == {a.d: (a.h,)}
    assert contexts([[a.h, a.d], [a.h], [a.sum([a.h, a.i]), a.d], [a.i]], []) == {}
    doubtful = [[a.h, a.sum([a.h, a.i]), a.d], [a.prod([a.h, a.d, a.sum([a.h, a.i])])]]
    for tensor in doubtful:
        assert contexts([tensor, [a.h], [a.i]], []) == {}


def test_what_depends_may_stand_under_a_sum() -> None:
    """H x (D + E) rotates one part of the dims; H x D + H x E is packed."""
    a = Atoms()
    rotary = [a.prod([a.h, a.sum([a.d, a.e])])]
    packed = [a.sum([a.prod([a.h, a.d]), a.prod([a.h, a.e])])]
    beside = [a.h, a.sum([a.d, a.e])]
    for tensor in (rotary, packed, beside):
        assert contexts([tensor, [a.h]], []) == {a.d: (a.h,), a.e: (a.h,)}


def test_of_two_mutual_contexts_the_outer_wins() -> None:
    a = Atoms()
    big = a.atom(32)  # more than D: the order, not the size, decides
    assert contexts([[a.prod([big, a.d])], [a.d, big]], []) == {a.d: (big,)}
    assert contexts([[a.prod([a.d, big])], [a.d, big]], []) == {big: (a.d,)}


def test_of_two_mutual_contexts_without_order_the_smaller_wins() -> None:
    a = Atoms()
    assert contexts([[a.h, a.d]], []) == contexts([[a.d, a.h]], []) == {a.d: (a.h,)}
    both_ways = [[a.prod([a.h, a.d])], [a.prod([a.d, a.h])]]
    assert contexts(both_ways, []) == {a.d: (a.h,)}


def test_a_context_is_independent_itself() -> None:
    a = Atoms()
    assert contexts([[a.prod([a.h, a.d, a.i])], [a.h, a.d], [a.h]], []) == {
        a.d: (a.h,),
        a.i: (a.h,),
    }


def test_dynamic_axes_and_units_are_no_contexts() -> None:
    a = Atoms()
    assert contexts([[a.b, a.atom(1), a.d]], []) == {}
    assert contexts([[a.prod([a.b, a.h]), a.d], [a.h]], []) == {a.d: (a.h,)}


def test_the_context_in_the_same_product_comes_first() -> None:
    """In [H x D, H x D] each D belongs to the H of its own axis; in [H, H, D] none is meant."""
    a = Atoms()
    square = [a.prod([a.h, a.d])] * 2
    assert contexts([square, [a.h]], []) == {a.d: (a.h,)}
    assert contexts([square, [a.h], [a.h, a.h, a.d]], []) == {}
    assert contexts([[a.prod([a.h, a.h, a.d])], [a.h]], []) == {}


def test_an_outer_context_reaches_through_sums_and_products() -> None:
    a = Atoms()
    axis = a.prod([a.h, a.sum([a.prod([a.d, a.e]), a.i])])
    assert contexts([[axis], [a.h]], []) == {a.d: (a.h,), a.e: (a.h,), a.i: (a.h,)}


def test_refined_atoms_are_read_through() -> None:
    a = Atoms()
    axis = a.atom(32)
    a.equal(axis, a.prod([a.h, a.d]))
    assert contexts([[axis], [a.h]], []) == {a.d: (a.h,)}


def test_deep_sums() -> None:
    a = Atoms()
    axis = rest = a.atom(1200)
    for left in range(1199, 1, -1):
        rest = a.piece(rest, 1, left + 1)
    assert contexts([[a.h, axis], [a.h]], []) == {rest: (a.h,)}


# ---------------------------------------------------------------- against positions

Path = tuple[Term, ...]


def paths(term: Term) -> list[Path]:
    """The atoms that each position of an axis stands for, once per run of units."""
    term = find(term)
    if term.kind is Kind.ATOM:
        return [(term,)]
    listed = [paths(part) for part in term.parts]
    if term.kind is Kind.SUM:
        return [path for part in listed for path in part]
    return [sum(choice, ()) for choice in product(*listed)]


def found_beside(axes: Sequence[Path], at: int, context: Term) -> bool:
    """Whether one unit of the context is meant at a position of a tensor."""
    own = axes[at].count(context)
    others = sum(path.count(context) for k, path in enumerate(axes) if k != at)
    return own == 1 if own else others == 1


@st.composite
def tensors(draw: st.DrawFn) -> list[Axes]:
    layout = Layout()
    atoms = [layout.atom(size) for size in (2, 3, 4, 5, (2, 3))]
    leaf = st.sampled_from(atoms)
    short = st.lists(leaf, min_size=1, max_size=3, unique=draw(st.booleans()))
    product_ = short.map(layout.prod)
    mixed = st.one_of(leaf, product_, st.lists(product_, min_size=1, max_size=2).map(layout.sum))
    nested = st.lists(mixed, min_size=1, max_size=2).map(layout.prod)
    return draw(st.lists(st.lists(nested, min_size=1, max_size=3), min_size=1, max_size=4))


@given(tensors())
def test_every_position_of_a_family_names_its_context(listed: list[Axes]) -> None:
    for atom, chosen in contexts(listed, []).items():
        for axes in listed:
            for choice in product(*map(paths, axes)):
                for at in (k for k, path in enumerate(choice) if atom in path):
                    assert all(found_beside(choice, at, context) for context in chosen)


@given(tensors(), st.data())
def test_families_are_two_floors_and_know_no_order(listed: list[Axes], data: st.DataObject) -> None:
    found = contexts(listed, [])
    assert not {c for chosen in found.values() for c in chosen} & found.keys()
    assert contexts(data.draw(st.permutations(listed)), []) == found
    split = data.draw(st.integers(0, len(listed)))
    assert contexts(listed[:split], listed[split:]) == found
