"""What mipack knows of ops: one file per family, each imported here for its registrations."""

from mipack.ops import (
    blockwise,
    concat_split,
    contrib,
    conv,
    elementwise,
    matmul,
    norm,
    opaque,
    qlinear,
    quantized,
    recurrent,
    reduce_pool,
    regions,
    reshape,
    slice_gather,
    spatial,
)

__all__ = [
    "blockwise",
    "concat_split",
    "contrib",
    "conv",
    "elementwise",
    "matmul",
    "norm",
    "opaque",
    "qlinear",
    "quantized",
    "recurrent",
    "reduce_pool",
    "regions",
    "reshape",
    "slice_gather",
    "spatial",
]
