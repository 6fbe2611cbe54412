"""Calibration samples as Triton's warm-up reads them: one raw file per input of a sample.

Numbers lie as they are in memory (little endian, C order), strings as the protocol carries them:
4 bytes of length, then the bytes. Where the server batches, a file holds one sample without the
batch axis, and Triton repeats it to the size of the warm-up request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mipack.data.dataset import Dataset
from mipack.records import Signature, TensorSpec

Array = np.ndarray[Any, Any]
FOLDER = "warmup"
LOOKED_AT = 64
"""Samples among which the smallest and the largest are looked for."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One raw file; `shape` without the batch axis where the server batches."""

    spec: TensorSpec
    file: str
    shape: tuple[int, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """One warm-up request."""

    name: str
    tensors: tuple[Tensor, ...]


def warm_up(dataset: Dataset, signature: Signature, *, batched: bool) -> tuple[Sample, ...]:
    """The smallest and the largest of the first samples: the runtime's memory has then grown to
    what real requests need. One where all are of one size."""
    few = dataset.subset(list(range(min(LOOKED_AT, dataset.samples))))
    ranked = sorted((batch.feeds for batch in few.batches(1)), key=_size)
    chosen = ranked[:1] if _size(ranked[0]) == _size(ranked[-1]) else [ranked[0], ranked[-1]]
    return tuple(
        Sample(
            name,
            tuple(
                _tensor(spec, feeds[spec.name], f"input{at}-{name}", batched=batched)
                for at, spec in enumerate(signature.inputs)
            ),
        )
        for name, feeds in zip(("smallest", "largest"), chosen, strict=False)
    )


def _size(feeds: Mapping[str, Array]) -> int:
    return sum(array.size for array in feeds.values())


def _tensor(spec: TensorSpec, array: Array, file: str, *, batched: bool) -> Tensor:
    array = array[0] if batched else array
    return Tensor(spec, file, np.shape(array), _raw(array))


def _raw(array: Array) -> bytes:
    if array.dtype.kind not in "USO":
        return np.ascontiguousarray(array).tobytes()
    words = [one if isinstance(one, bytes) else str(one).encode() for one in array.flat]
    return b"".join(len(word).to_bytes(4, "little") + word for word in words)
