"""What mipack knows of ops: one file per family, each imported here for its registrations."""

from mipack.ops import (
    concat_split,
    contrib,
    conv,
    elementwise,
    matmul,
    norm,
    quantized,
    recurrent,
    reduce_pool,
    reshape,
    slice_gather,
    spatial,
)

__all__ = [
    "concat_split",
    "contrib",
    "conv",
    "elementwise",
    "matmul",
    "norm",
    "quantized",
    "recurrent",
    "reduce_pool",
    "reshape",
    "slice_gather",
    "spatial",
]
