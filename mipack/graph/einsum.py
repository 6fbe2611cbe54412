"""The letters of an Einsum."""

from __future__ import annotations


def axis_names(equation: str, ranks: list[int]) -> list[list[str]]:
    """The name of every axis of the operands and of the result (whose rank comes last); an
    ellipsis names its axes by their places from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        once = sorted(c for c in set(left) - set(",.") if left.count(c) == 1)
        right = "".join(["..." if "..." in left else "", *once])
    return [_named(term, rank) for term, rank in zip([*terms, right], ranks, strict=True)]


def _named(term: str, rank: int) -> list[str]:
    head, dots, tail = term.partition("...")
    count = rank - len(head) - len(tail) if dots else 0
    return [*head, *(f".{k}" for k in reversed(range(count))), *tail]
