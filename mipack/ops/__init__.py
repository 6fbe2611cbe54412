"""What mipack knows of ops: one file per family, each imported here for its registrations."""

from mipack.ops import (
    attention,
    concat_split,
    contrib,
    conv,
    elementwise,
    matmul,
    mixture,
    norm,
    quantized,
    recurrent,
    reduce_pool,
    reshape,
    rotary,
    slice_gather,
    spatial,
)

__all__ = [
    "attention",
    "concat_split",
    "contrib",
    "conv",
    "elementwise",
    "matmul",
    "mixture",
    "norm",
    "quantized",
    "recurrent",
    "reduce_pool",
    "reshape",
    "rotary",
    "slice_gather",
    "spatial",
]
