"""The cost of a cut, against counting what the cut leaves."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mipack.couple.cost import Beside, Cost, width_of
from mipack.layout import Kind, Layout, Term, find

Widths = dict[Term, int]


def mask(term: Term, widths: Widths) -> np.ndarray:
    """True at the positions that stay when each atom keeps its first units."""
    term = find(term)
    if term.kind is Kind.ATOM:
        return np.arange(term.size[0]) < widths.get(term, term.size[0])
    listed = [mask(part, widths) for part in term.parts]
    if term.kind is Kind.SUM:
        return np.concatenate(listed)
    whole = np.ones(1, bool)
    for part in listed:
        whole = np.logical_and.outer(whole, part).reshape(-1)
    return whole


def remaining(products: list[list[Term]], widths: Widths) -> int:
    return sum(prod(int(mask(t, widths).sum()) for t in axes) for axes in products)


@st.composite
def terms(draw: st.DrawFn, layout: Layout, atoms: list[Term], depth: int = 3) -> Term:
    kind = draw(st.sampled_from(["atom", "sum", "prod"])) if depth else "atom"
    if kind == "atom":
        return draw(st.sampled_from(atoms))
    parts = draw(st.lists(terms(layout, atoms, depth=depth - 1), min_size=1, max_size=2))
    return layout.sum(parts) if kind == "sum" else layout.prod(parts)


class Graph:
    """Random axes; `named` are terms through which callers may know the atoms."""

    def __init__(self, draw: st.DrawFn) -> None:
        layout = Layout()
        self.atoms = [layout.atom(size) for size in (2, 3, 4, (2, 3))]
        self.named = [layout.atom(atom.size) for atom in self.atoms]
        axes = st.lists(terms(layout, [*self.atoms, layout.atom(1)]), max_size=3)
        self.products = draw(st.lists(axes, max_size=4))
        self.weights = draw(st.lists(axes, max_size=3))
        for name, atom in zip(self.named, self.atoms, strict=True):
            layout.equal(name, atom)
        self.cost = Cost(self.products, self.weights)

    def widths(self, data: st.DataObject) -> tuple[Widths, Widths]:
        """Random widths of some atoms, by representative and by other names."""
        chosen = data.draw(st.lists(st.sampled_from(range(4)), unique=True))
        listed = [(k, data.draw(st.integers(0, self.atoms[k].size[0]))) for k in chosen]
        return {self.atoms[k]: n for k, n in listed}, {self.named[k]: n for k, n in listed}


graphs = st.composite(Graph)()


@given(graphs, st.data())
def test_cost_counts_what_stays(graph: Graph, data: st.DataObject) -> None:
    widths, named = graph.widths(data)
    for given_widths in (widths, named):
        assert graph.cost.macs(given_widths) == remaining(graph.products, widths)
        assert graph.cost.params(given_widths) == remaining(graph.weights, widths)


@given(graphs, st.data())
def test_a_width_counts_what_stays(graph: Graph, data: st.DataObject) -> None:
    widths, _ = graph.widths(data)
    for term in (term for axes in graph.products for term in axes):
        assert width_of(term, widths) == mask(term, widths).sum()


@given(graphs, st.data())
def test_a_curve_is_the_share_of_an_atom_at_every_width(graph: Graph, data: st.DataObject) -> None:
    """What the atom takes part in, others as given, and nothing else."""
    widths, named = graph.widths(data)
    atom, name = data.draw(st.sampled_from([*zip(graph.atoms, graph.named, strict=True)]))
    candidates = np.arange(atom.size[0] + 1)
    for of, products in (("macs", graph.products), ("params", graph.weights)):
        with_it = [axes for axes in products if any(takes_part(atom, term) for term in axes)]
        expected = [remaining(with_it, {**widths, atom: int(c)}) for c in candidates]
        assert graph.cost.curve(of, atom, widths, candidates).tolist() == expected
        assert graph.cost.curve(of, name, named, candidates).tolist() == expected


def takes_part(atom: Term, term: Term) -> bool:
    term = find(term)
    return term is atom or any(takes_part(atom, part) for part in term.parts)


def test_dynamic_sizes_count_as_in_the_first_probe() -> None:
    layout = Layout()
    rows, inner, out = layout.atom((2, 3)), layout.atom(4), layout.atom(5)
    cost = Cost([[rows, inner, out]], [[inner, out]])
    assert cost.macs({}) == 2 * 4 * 5
    assert cost.macs({inner: 1}) == 2 * 1 * 5
    assert cost.params({inner: 1, out: 2}) == 2


def test_widths_of_atoms_that_are_nowhere_change_nothing() -> None:
    layout = Layout()
    inner, other = layout.atom(4), layout.atom(5)
    cost = Cost([[inner]], [])
    assert cost.macs({other: 1}) == 4
    assert cost.curve("macs", other, {}, np.arange(3)).tolist() == [0, 0, 0]


def test_bytes_count_the_bits_of_every_element() -> None:
    """Nibbles are packed: 15 of 4 bits take 8 bytes."""
    layout = Layout()
    inner, out = layout.atom(5), layout.atom(3)
    cost = Cost([], [[inner, out], [out]], [4, 32])
    assert cost.full("bytes") == 8 + 12
    assert cost.total("bytes", {out: 1}) == 3 + 4  # 20 bits and 32
    assert Cost([], [[inner]]).full("bytes") == 20


def test_something_beside_a_measure_stays() -> None:
    layout = Layout()
    inner = layout.atom(5)
    cost = Cost([], [[inner]])
    cost = cost.adding("size", Beside(cost.measure("bytes"), 100, 130)).holding({inner: 4})
    assert (cost.full("size"), cost.total("size", {}), cost.total("size", {inner: 1})) == (
        130,
        116,
        104,
    )
    assert cost.curve("size", inner, {}, np.array([1, 2])).tolist() == [4, 8]


def test_sums_may_nest_deeply() -> None:
    """An axis sliced from its start again and again: 2,000 sums in each other."""
    layout = Layout()
    rest = axis = layout.atom(2000)
    for left in range(1999, 0, -1):
        rest = layout.piece(rest, 1, left + 1)
    assert width_of(axis, {}) == 2000
    assert Cost([[axis]], []).macs({find(rest): 0}) == 1999
