"""Random programs over the algebra: whatever is stated, no answer may be wrong."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from hypothesis import event, given, settings
from hypothesis import strategies as st
from positions import agree, free, measured, paths

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
        self.checks.append(lambda: free(paths(term))[low:high] == free(paths(found)))

    def divide(self) -> None:
        term = self.pick()
        inner = self.draw(st.sampled_from(SIZES))
        try:
            outer, block = self.layout.divide(term, inner)
        except Inexpressible:
            return
        assert size_of(block) == inner
        self.add(outer)
        self.checks.append(lambda: agree(term, self.layout.prod([outer, block])))

    def equal(self) -> None:
        term = self.pick()
        same = [t for t in self.axes if size_of(t) == size_of(term)]
        other = self.draw(st.sampled_from(same))
        self.say(term, other)

    def reshaped(self) -> None:
        """term = a product of new atoms."""
        term, rest = self.pick(), []
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
        size, rest = size_of(term), []
        while True:
            fits = [t for t in self.axes if all(a < b for a, b in zip(size_of(t), size, strict=True))]
            if not fits or len(rest) > 3:
                break
            rest.append(self.draw(st.sampled_from(fits)))
            size = (size[0] - size_of(rest[-1])[0], size[1] - size_of(rest[-1])[1])
        rest.insert(self.draw(st.integers(0, len(rest))), self.layout.atom(size))
        self.say(term, self.layout.sum(rest))

    def say(self, left: Term, right: Term) -> None:
        self.layout.equal(left, right, "said")
        self.checks.append(lambda: agree(left, right))

    def freeze(self) -> None:
        term = self.pick()
        self.layout.freeze(term, "frozen by hand")
        self.marked.append((term, "frozen"))

    def normalise(self) -> None:
        term = self.pick()
        self.layout.normalise(term, "averaged")
        self.marked.append((term, "width"))


ACTS = [
    World.new_atom, World.new_sum, World.new_prod, World.piece, World.divide, World.equal,
    World.reshaped, World.concatenated, World.freeze, World.normalise,
]  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World(draw)
    for act in draw(st.lists(st.sampled_from(ACTS), min_size=4, max_size=14)):
        act(world)
    world.layout.settle()
    return world


@settings(max_examples=MAXEX, deadline=None)
@given(worlds())
def test_no_answer_is_wrong(world: World) -> None:
    event("with a failure" if world.layout.failed else "all solved")
    assert all(check() for check in world.checks)
    for axis in world.axes:
        assert measured(axis) == size_of(axis)
        if find(axis).kind is Kind.PROD:
            listed = factors(axis)
            assert len(listed) > 1
            assert all(f.size != UNIT and f.kind is not Kind.PROD for f in listed)
        if find(axis).kind is Kind.SUM:
            assert all(p.kind is not Kind.SUM for p in parts(axis))
            listed = world.layout.summands(axis)
            assert all(factors(p)[0].kind is not Kind.SUM for p in listed if size_of(p) != UNIT)
    for term, slot in world.marked:
        assert all(leaf.frozen or getattr(leaf, slot) for leaf in leaves(term) if leaf.size != UNIT)
