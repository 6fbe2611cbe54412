"""Shorthand for tests of the algebra."""

from __future__ import annotations

import re

from mipack.layout import Layout, Size, Term, show

Sizes = Size | int


class Algebra(Layout):
    """Shorthand: `p(12, 32)` is a product and `s(6, 10)` a sum, of new atoms or given terms."""

    def term(self, what: Term | Sizes) -> Term:
        return what if isinstance(what, Term) else self.atom(what)

    def p(self, *what: Term | Sizes) -> Term:
        return self.prod(map(self.term, what))

    def s(self, *what: Term | Sizes) -> Term:
        return self.sum(map(self.term, what))


def spelled(term: Term) -> str:
    """A term with sizes for atoms: (6 x 2 x 32)."""
    return re.sub(r"a\d+:", "", show(term))
