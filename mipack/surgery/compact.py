"""From the original size of a tensor to its kept positions, and back.

Along a static axis that is one Gather. An axis like `C x W x H` with sizes that only a run knows is
taken apart into its factors first, and put together again afterwards: the size of the unknown ones
is that of the axis by those of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mipack.layout import Term, factors, is_static, size_of
from mipack.surgery.keep import Ints, Keep
from mipack.surgery.writer import Emit, Writer

Piece = Term | None
"""A static part of an axis, or None for what only a run knows."""


def rows_of(axes: Sequence[Term], keep: Keep) -> list[list[Piece]]:
    """The axes, those of mixed size as their factors; a run of dynamic ones is one piece.

    One of mixed size that cannot be taken apart (two unknown sizes) counts as one unknown piece.
    """
    rows: list[list[Piece]] = []
    for axis in axes:
        if is_static(axis) or not keep.cuts(axis):
            rows.append([axis if is_static(axis) else None])
            continue
        row: list[Piece] = []
        for factor in factors(axis):
            piece = factor if is_static(factor) else None
            if piece is not None or row[-1:] != [None]:
                row.append(piece)
        rows.append(row if row.count(None) <= 1 else [None])
    return rows


def compacted(
    value: ir.Value, rows: list[list[Piece]], keep: Keep, write: Writer, emit: Emit
) -> ir.Value:
    """The kept positions of a tensor of original size."""
    return _Grid(rows, keep, write, emit, back=False).moved(value)


def spread_out(
    value: ir.Value, rows: list[list[Piece]], keep: Keep, write: Writer, emit: Emit
) -> ir.Value:
    """A tensor of kept positions at its original size; what is between them repeats a neighbour."""
    return _Grid(rows, keep, write, emit, back=True).moved(value)


class _Grid:
    def __init__(
        self, rows: list[list[Piece]], keep: Keep, write: Writer, emit: Emit, *, back: bool
    ) -> None:
        self.rows, self.keep, self.back = rows, keep, back
        self.write, self.emit = write, emit

    def moved(self, value: ir.Value) -> ir.Value:
        pieces = [piece for row in self.rows for piece in row]
        cut = [(k, p) for k, p in enumerate(pieces) if p is not None and self.keep.cuts(p)]
        if not cut:
            return value
        near, parted = value.name or "", any(len(row) > 1 for row in self.rows)
        sizes = self.emit("Shape", [value]) if parted else None
        if sizes is not None:
            value = self.emit("Reshape", [value, self._parts(sizes, near)])
        for axis, piece in cut:
            index = self.write.constant(f"{near}.index", self._index(piece))
            value = self.emit("Gather", [value, index], axis=axis)
        return value if sizes is None else self.emit("Reshape", [value, self._whole(sizes, near)])

    def _size(self, piece: Term, *, after: bool) -> int:
        return self.keep.size(piece) if after != self.back else size_of(piece)[0]

    def _static(self, row: Sequence[Piece], *, after: bool) -> int:
        """The product of the known sizes of an axis."""
        return int(np.prod([self._size(p, after=after) for p in row if p is not None], dtype=int))

    def _parts(self, sizes: ir.Value, near: str) -> ir.Value:
        """The sizes of all pieces, before."""
        flat = [(k, piece) for k, row in enumerate(self.rows) for piece in row]
        axis = np.array([k for k, _ in flat], np.int64)
        known = np.array(
            [0 if p is None else self._size(p, after=False) for _, p in flat], np.int64
        )
        inner = np.array([self._static(self.rows[k], after=False) for k, _ in flat], np.int64)
        each = self.emit("Gather", [sizes, self.write.constant(near, axis)])
        each = self.emit("Div", [each, self.write.constant(near, np.where(known > 0, 1, inner))])
        fixed, listed = (self.write.constant(near, a) for a in (known > 0, known))
        return self.emit("Where", [fixed, listed, each])

    def _whole(self, sizes: ir.Value, near: str) -> ir.Value:
        """The sizes of the axes, after."""
        new, old = (
            self.write.constant(
                near, np.array([self._static(row, after=after) for row in self.rows], np.int64)
            )
            for after in (True, False)
        )
        return self.emit("Div", [self.emit("Mul", [sizes, new]), old])

    def _index(self, piece: Term) -> Ints:
        kept = self.keep.flat(piece)
        if not self.back:
            return kept
        return np.clip(np.searchsorted(kept, np.arange(size_of(piece)[0])), 0, len(kept) - 1)
