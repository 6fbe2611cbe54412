"""Every op as a torch function, for the twin that gives exact gradients (`mipack.twin`).

The table is filled by the imports below; see `call` for what a function may see.
"""

from mipack.ops.torch import fused, layers, moving, pointwise, recurrent, reducing, resizing
from mipack.ops.torch.call import Call, Entry, entries, entry_for

__all__ = [
    "Call",
    "Entry",
    "entries",
    "entry_for",
    "fused",
    "layers",
    "moving",
    "pointwise",
    "recurrent",
    "reducing",
    "resizing",
]
