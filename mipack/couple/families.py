"""Dependent families: atoms that may be kept differently for each unit of another atom.

Head dims D may be chosen per head H if H is there in *every* occurrence of D: beside it in the
axis' product, or as a whole factor of another axis, never under a sum. What one operation walks
in step counts as an occurrence too (`NodeView.together`), so that a mix of heads breaks the tie.
If each is a context of the other the outer one wins; a context must itself be independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mipack.layout import Kind, Term, factors, find, is_static, leaves, size_of

Contexts = dict[Term, tuple[Term, ...]]


class _Seen:
    def __init__(self) -> None:
        self.contexts: dict[Term, set[Term]] = {}
        self.outer: set[tuple[int, int]] = set()

    def tensor(self, axes: Sequence[Term]) -> None:
        tops = [[f for f in factors(t) if f.kind is Kind.ATOM] for t in axes]
        for k, term in enumerate(axes):
            beside = {atom for j, row in enumerate(tops) if j != k for atom in row}
            self.walk(term, beside)

    def walk(self, term: Term, beside: set[Term]) -> None:
        term = find(term)
        if term.kind is Kind.ATOM:
            if is_static(term) and size_of(term)[0] > 1:
                known = self.contexts.get(term)
                here = beside - {term}
                self.contexts[term] = here if known is None else known & here
            return
        if term.kind is Kind.SUM:
            for part in term.parts:
                self.walk(part, beside)
            return
        row = factors(term)
        atoms = [f for f in row if f.kind is Kind.ATOM]
        for at, factor in enumerate(row):
            before = [f for f in row[:at] if f.kind is Kind.ATOM]
            self.outer.update((f.id, leaf.id) for f in before for leaf in leaves(factor))
            self.walk(factor, beside | {a for a in atoms if a is not factor})


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
