"""Along which axes ops keep positions apart: one small rule per op.

A rule answers, for an axis of the first result: which axis of each operand holds the same
positions? Position p of the result then depends on position p of these operands and on all of the
others. `None`: positions mix along this axis, or nothing is known. What a rule cannot see it must
not say: an operand that is left out is read as a whole, which is always right.
"""

from mipack.graph.along import apart, moves, products  # fill the table
from mipack.graph.along.products import HEAVY
from mipack.graph.along.rule import STANDARD, Axes, Op, axes_along, known_ops

__all__ = [
    "HEAVY",
    "STANDARD",
    "Axes",
    "Op",
    "apart",
    "axes_along",
    "known_ops",
    "moves",
    "products",
]
