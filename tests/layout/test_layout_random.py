"""Random programs over the algebra: whatever is stated, no answer may be wrong."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from hypothesis import given, settings
from hypothesis import strategies as st
from positions import Path, free, measured, paths

from mipack.layout import (
    UNIT,
    Inexpressible,
    Kind,
    Layout,
    Size,
    Term,
    divides,
    factors,
    find,
    leaves,
    parts,
    size_of,
)

LARGEST = 48
SIZES: list[Size] = [(n, n) for n in (1, 2, 2, 3, 4, 4, 6, 8, 12, 24)] + [(2, 3), (5, 7)]
Check = Callable[[], bool]


class World:
    """Axes, and what was said of them in the words of positions."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.layout, self.draw = Layout(), draw
        self.axes: list[Term] = [self.layout.atom(draw(st.sampled_from(SIZES))) for _ in range(4)]
        self.checks: list[Check] = []
        self.marked: list[tuple[Term, str]] = []

    def see(self, term: Term, probe: int = 0) -> list[Path]:
        """All positions; what fails is told of frozen units only."""
        listed = paths(term, probe)
        return free(listed) if self.layout.failed else listed

    def agree(self, left: Term, right: Term) -> bool:
        return all(self.see(left, probe) == self.see(right, probe) for probe in (0, 1))

    def pick(self) -> Term:
        return self.draw(st.sampled_from(self.axes))

    def add(self, term: Term) -> None:
        if max(size_of(term)) <= LARGEST and size_of(term)[0]:
            self.axes.append(term)

    def new_atom(self) -> None:
        self.add(self.layout.atom(self.draw(st.sampled_from(SIZES))))

    def new_sum(self) -> None:
        self.add(self.layout.sum(self.draw(st.lists(st.sampled_from(self.axes), max_size=4))))

    def new_prod(self) -> None:
        listed = self.draw(st.lists(st.sampled_from(self.axes), max_size=3))
        if prod(max(size_of(t)) for t in listed) <= LARGEST:
            self.add(self.layout.prod(listed))

    def piece(self) -> None:
        term = self.pick()
        total, second = size_of(term)
        if total != second:
            return
        low = self.draw(st.integers(0, total - 1))
        high = self.draw(st.integers(low + 1, total))
        try:
            found = self.layout.piece(term, low, high)
        except Inexpressible:
            return
        assert size_of(found) == (high - low, high - low)
        self.add(found)
        self.checks.append(lambda: self.see(term)[low:high] == self.see(found))

    def divide(self) -> None:
        term = self.pick()
        inner = self.draw(st.sampled_from(SIZES))
        try:
            outer, block = self.layout.divide(term, inner)
        except Inexpressible:
            return
        assert size_of(block) == inner
        self.add(outer)
        self.checks.append(lambda: self.agree(term, self.layout.prod([outer, block])))

    def equal(self) -> None:
        term = self.pick()
        same = [t for t in self.axes if size_of(t) == size_of(term)]
        other = self.draw(st.sampled_from(same))
        self.say(term, other)

    def reshaped(self) -> None:
        """term = a product of new atoms."""
        term, rest = self.pick(), list[Term]()
        size = size_of(term)
        while size != UNIT:
            inner = self.draw(st.sampled_from([s for s in [*SIZES, size] if divides(s, size)]))
            inner = size if inner == UNIT else inner
            rest.append(self.layout.atom(inner))
            size = (size[0] // inner[0], size[1] // inner[1])
        self.say(term, self.layout.prod(rest[::-1]))

    def concatenated(self) -> None:
        """term = a sum of terms that are there, filled up with a new atom."""
        term = self.pick()
        size, rest = size_of(term), list[Term]()
        while True:
            fits = [
                t for t in self.axes if all(a < b for a, b in zip(size_of(t), size, strict=True))
            ]
            if not fits or len(rest) > 3:
                break
            rest.append(self.draw(st.sampled_from(fits)))
            size = (size[0] - size_of(rest[-1])[0], size[1] - size_of(rest[-1])[1])
        rest.insert(self.draw(st.integers(0, len(rest))), self.layout.atom(size))
        self.say(term, self.layout.sum(rest))

    def say(self, left: Term, right: Term) -> None:
        self.layout.equal(left, right, "said")
        self.checks.append(lambda: self.agree(left, right))

    def freeze(self) -> None:
        term = self.pick()
        self.layout.freeze(term, "frozen by hand")
        self.marked.append((term, "frozen"))

    def normalise(self) -> None:
        term = self.pick()
        self.layout.normalise(term, "averaged")
        self.marked.append((term, "width"))


BUILD = (World.new_atom, World.new_sum, World.new_prod, World.piece, World.divide)
STATE = (World.equal, World.reshaped, World.concatenated)
MARK = (World.freeze, World.normalise)
ACTS = [*BUILD, World.new_sum, World.new_prod, *STATE, *STATE, *MARK]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World(draw)
    for act in draw(st.lists(st.sampled_from(ACTS), min_size=4, max_size=24)):
        act(world)
    world.layout.settle()
    return world


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_no_answer_is_wrong(world: World) -> None:
    """What was said holds at every position; where something failed, but for frozen units."""
    assert all(check() for check in world.checks)


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_sizes_add_up_in_both_probes(world: World) -> None:
    assert all(measured(axis) == size_of(axis) for axis in world.axes)


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_readers_see_the_normal_form(world: World) -> None:
    for axis in world.axes:
        if find(axis).kind is Kind.PROD:
            assert len(factors(axis)) > 1
            assert all(f.size != UNIT and f.kind is not Kind.PROD for f in factors(axis))
        if find(axis).kind is Kind.SUM:
            assert all(part.kind is not Kind.SUM for part in parts(axis))
        leads = [factors(part)[:1] for part in world.layout.summands(axis)]
        assert not any(f.kind is Kind.SUM for lead in leads for f in lead)


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_no_mark_is_lost(world: World) -> None:
    """Units are never cut; beside a failed equation a frozen unit need not be a width as well."""
    for term, slot in world.marked:
        cut = [leaf for leaf in leaves(term) if leaf.size != UNIT and not leaf.frozen]
        assert all(leaf.width and slot == "width" for leaf in cut)
