"""What mipack knows of ops: one file per family, each imported here for its registrations."""

from mipack.ops import (
    concat_split,
    conv,
    elementwise,
    matmul,
    norm,
    reduce_pool,
    reshape,
    slice_gather,
)

__all__ = [
    "concat_split",
    "conv",
    "elementwise",
    "matmul",
    "norm",
    "reduce_pool",
    "reshape",
    "slice_gather",
]
