"""What makes a result print well: as text, and in a notebook as tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from mipack.show.blocks import Block, html, plain


class Shown(ABC):
    """A record that tells of itself in blocks; a dataclass of it needs `repr=False`."""

    __slots__ = ()

    @abstractmethod
    def blocks(self, *, every: bool = False) -> Sequence[Block]:
        """What there is to tell; `every`: details too."""

    def __repr__(self) -> str:
        return plain(self.blocks()).rstrip("\n")

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return html(self.blocks())
