"""Equations that have a common refinement: several views of one hidden layout are always solved.

A view of a layout hides subtrees behind new atoms, puts neighbours in brackets and multiplies
sums out. Whatever views are equated, in whatever order and direction, nothing fails, and what
comes out is the hidden layout, no finer and no coarser.
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from positions import paths, pattern

from mipack.layout import EMPTY, Layout, Size, Term, leaves, plus, times


class Tree(NamedTuple):
    """A term as plain data: an atom is known by its name."""

    kind: str
    parts: tuple[Tree, ...] = ()
    name: str = ""
    units: Size = EMPTY

    @property
    def size(self) -> Size:
        if self.kind == "atom":
            return self.units
        return (plus if self.kind == "sum" else times)(part.size for part in self.parts)

    def build(self, layout: Layout, atoms: dict[str, Term]) -> Term:
        if self.kind == "atom":
            return atoms.setdefault(self.name, layout.atom(self.units))
        built = [part.build(layout, atoms) for part in self.parts]
        return layout.sum(built) if self.kind == "sum" else layout.prod(built)


Pair = tuple[Tree, Tree]


@st.composite
def trees(draw: st.DrawFn, depth: int = 3, under: str = "") -> Tree:
    """Few names, so that an atom occurs in several places; some are dynamic."""
    kind = draw(st.sampled_from(["atom", "sum", "prod"])) if depth else "atom"
    if kind in (under, "atom"):
        units = draw(st.sampled_from([(2, 2), (2, 2), (3, 3), (3, 3), (4, 4), (2, 3), (5, 7)]))
        return Tree("atom", name=f"{draw(st.sampled_from('abc'))}{units}", units=units)
    parts = draw(st.lists(trees(depth=depth - 1, under=kind), min_size=2, max_size=3))
    return Tree(kind, tuple(parts))


class Viewer:
    """Draws views; `known` is what the named subtrees stand for."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.known, self.numbers = draw, dict[str, Tree](), count()

    def view(self, tree: Tree) -> Tree:
        choice = self.draw(st.sampled_from(["new", "known", "open", "open", "open"]))
        if choice == "new":
            return Tree("atom", name=f"new {next(self.numbers)}", units=tree.size)
        if choice == "known" or tree.kind == "atom":
            self.known[str(tree)] = tree
            return Tree("atom", name=str(tree), units=tree.size)
        head, *tail = tree.parts
        if tree.kind == "prod" and head.kind == "sum" and self.draw(st.booleans()):
            return self.view(Tree("sum", tuple(Tree("prod", (p, *tail)) for p in head.parts)))
        return Tree(tree.kind, tuple(self.view(part) for part in self._bracketed(tree)))

    def _bracketed(self, tree: Tree) -> list[Tree]:
        listed = list(tree.parts)
        if len(listed) > 2 and self.draw(st.booleans()):
            at = self.draw(st.integers(0, len(listed) - 2))
            listed[at : at + 2] = [Tree(tree.kind, tuple(listed[at : at + 2]))]
        return listed


class Case(NamedTuple):
    hidden: Tree
    views: list[Tree]
    links: list[Pair]
    """Equations that connect all views, and some twice."""
    meanings: list[Pair]
    """What the names and the first view stand for."""

    def solve(self, pairs: list[Pair]) -> tuple[Layout, list[Term]]:
        layout, atoms = Layout(), dict[str, Term]()
        axes = [tree.build(layout, atoms) for tree in self.views]
        for left, right in pairs:
            layout.equal(left.build(layout, atoms), right.build(layout, atoms), "view")
        layout.settle()
        return layout, axes


@st.composite
def cases(draw: st.DrawFn) -> Case:
    hidden, viewer = draw(trees()), Viewer(draw)
    views = [viewer.view(hidden) for _ in range(4)]
    links = [(views[draw(st.integers(0, k - 1))], views[k]) for k in range(1, 4)]
    links += draw(st.lists(st.tuples(*[st.sampled_from(views)] * 2), max_size=2))
    meanings = [(Tree("atom", name=n, units=t.size), t) for n, t in viewer.known.items()]
    return Case(hidden, views, links, [*meanings, (views[0], hidden)])


def shuffled(data: st.DataObject, pairs: list[Pair]) -> list[Pair]:
    """Another order, and some with their sides exchanged."""
    turned = [(b, a) if data.draw(st.booleans()) else (a, b) for a, b in pairs]
    return data.draw(st.permutations(turned))


@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_views_come_out_as_the_hidden_layout(case: Case, data: st.DataObject) -> None:
    layout, axes = case.solve(shuffled(data, case.links + case.meanings))
    assert not layout.failed
    assert pattern(axes) == pattern([case.hidden.build(Layout(), {})] * len(axes))


@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_neither_order_nor_direction_matters(case: Case, data: st.DataObject) -> None:
    first, axes = case.solve(case.links)
    second, others = case.solve(shuffled(data, case.links))
    assert not first.failed
    assert not second.failed
    assert pattern(axes) == pattern(others)


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_stating_it_again_changes_nothing(case: Case, data: st.DataObject) -> None:
    layout, axes = case.solve(case.links)
    before = [paths(axis) for axis in axes]
    for left, right in data.draw(st.lists(st.tuples(*[st.sampled_from(axes)] * 2))):
        layout.equal(left, right)
    layout.settle()
    assert [paths(axis) for axis in axes] == before  # the very same atoms
    assert not layout.failed


@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_marks_follow_the_units_and_nothing_else(case: Case, data: st.DataObject) -> None:
    """Two atoms are marked, then refined and linked: in the end their units have the marks."""
    layout, atoms = Layout(), dict[str, Term]()
    axes = [tree.build(layout, atoms) for tree in case.views]
    frozen, width = (data.draw(st.sampled_from(list(atoms.values()))) for _ in range(2))
    layout.freeze(frozen, "kept")
    layout.normalise(width, "averaged")
    for left, right in case.links:
        layout.equal(left.build(layout, atoms), right.build(layout, atoms))
    layout.settle()
    every = {leaf for axis in axes for leaf in leaves(axis)}
    assert {leaf for leaf in every if leaf.frozen} == set(leaves(frozen))
    assert {leaf for leaf in every if leaf.width} == set(leaves(width))
