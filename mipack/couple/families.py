"""Dependent families: atoms that may be kept differently for each unit of another atom.

Head dims D may be chosen per head H if H is there in *every* occurrence of D: beside it in the
axis' product, or as a whole factor of another axis. Beside it comes first: in a weight
[H x D, H x D] each D belongs to the H of its own axis. Under a sum of another axis H is not there
at every position, and where it is met twice it is open which unit is meant: then it is no context.

What one operation walks in step counts as an occurrence too (`NodeView.together`), so that a mix
of heads breaks the tie. If each is a context of the other the outer one wins; a context must
itself be independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mipack.layout import Kind, Term, factors, find, is_static, leaves, parts, size_of

Contexts = dict[Term, tuple[Term, ...]]


class _Seen:
    def __init__(self) -> None:
        self.contexts: dict[Term, set[Term]] = {}
        self.outer: set[tuple[int, int]] = set()

    def tensor(self, axes: Sequence[Term]) -> None:
        total = _mentioned(axes)
        whole = (atom for term in axes for atom in _atoms(factors(term)))
        others = {atom for atom in whole if total[atom] == 1}
        for term in axes:
            self.walk(find(term), _Way(others, set(), Counter()))

    def walk(self, term: Term, way: _Way) -> None:
        if term.kind is Kind.PROD:
            self.product(factors(term), way)
        elif term.kind is Kind.SUM:
            for part in parts(term):
                self.walk(part, way)
        elif _static_unit(term):
            here = way.contexts() - {term}
            self.contexts[term] = self.contexts.get(term, here) & here

    def product(self, row: Sequence[Term], way: _Way) -> None:
        whole, total = way.whole | set(_atoms(row)), way.mentioned + _mentioned(row)
        for at, factor in enumerate(row):
            before = _atoms(row[:at])
            self.outer.update((f.id, leaf.id) for f in before for leaf in leaves(factor))
            inside = Counter[Term]() if factor.kind is Kind.ATOM else _mentioned([factor])
            self.walk(factor, _Way(way.others, whole, total - inside))


@dataclass(frozen=True, slots=True)
class _Way:
    """The way to a term of a tensor: whole factors of other axes, those of products on the way
    down its own axis, and how often the latter mention what."""

    others: set[Term]
    whole: set[Term]
    mentioned: Counter[Term]

    def contexts(self) -> set[Term]:
        """What has one unit here, and no doubt which."""
        own = {atom for atom in self.whole if self.mentioned[atom] == 1}
        return own | (self.others - self.mentioned.keys())


def _mentioned(terms: Iterable[Term]) -> Counter[Term]:
    return Counter(leaf for term in terms for leaf in leaves(term))


def _atoms(row: Iterable[Term]) -> list[Term]:
    return [factor for factor in row if factor.kind is Kind.ATOM]


def contexts(tensors: Iterable[Sequence[Term]], together: Iterable[Sequence[Term]]) -> Contexts:
    """For each dependent atom the atoms that it depends on."""
    seen = _Seen()
    for axes in [*tensors, *together]:
        seen.tensor(axes)
    found: Contexts = {}
    for atom, candidates in seen.contexts.items():
        chosen = [c for c in candidates if _static_unit(c) and _is_outer(seen, c, atom)]
        if chosen:
            found[atom] = tuple(sorted(chosen, key=lambda c: c.id))
    independent = {a: tuple(c for c in cs if c not in found) for a, cs in found.items()}
    return {atom: cs for atom, cs in independent.items() if cs}


def _static_unit(atom: Term) -> bool:
    return is_static(atom) and size_of(atom)[0] > 1


def _is_outer(seen: _Seen, context: Term, atom: Term) -> bool:
    if atom not in seen.contexts.get(context, set()):
        return True  # one-sided: the context also occurs without the atom
    first = (context.id, atom.id) in seen.outer
    second = (atom.id, context.id) in seen.outer
    if first != second:
        return first
    return (size_of(context), context.id) < (size_of(atom), atom.id)
