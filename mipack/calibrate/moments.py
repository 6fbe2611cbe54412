"""Moments: the sums over rows that selection and the local refit need; they merge.

Per site with features x (rows weighted by the mask) and the head's scores z of the row's sample:
the count n, sum x, sum x x', sum z, sum x z'. Products in float32, sums in float64. A site of more
than `FEATURES_MOST` features keeps only its squares (memory would be 8 features^2 bytes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mipack.calibrate.pairs import PairMoments
from mipack.calibrate.sample import RowSample
from mipack.calibrate.sites import Site
from mipack.errors import PlanMismatch
from mipack.graph.load import publish, staging

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]
FEATURES_MOST = 4_608
CHUNK = 4_096
FORMAT = "mipack-moments/2"
FIELDS = ("first", "second", "scores", "cross")
GRADIENT_FIELDS = ("outer", "mask_first", "mask_second")
ROW_FIELDS = ("priority", "x", "above")


@dataclass(slots=True)
class Moments:
    """Sums over the rows of one site; `second` is [n, n], or [n] (squares only) for wide sites."""

    count: float
    first: Array
    second: Array
    scores: Array
    cross: Array

    @property
    def full(self) -> bool:
        """Whether products of features are known."""
        return self.second.ndim == 2

    @property
    def mean(self) -> Array:
        """E x."""
        return self.first / max(self.count, 1.0)

    def covariance(self) -> Array:
        """cov x: [n, n], or [n] variances."""
        mean, n = self.mean, max(self.count, 1.0)
        if self.full:
            return self.second / n - np.outer(mean, mean)
        return np.maximum(self.second / n - mean**2, 0)

    def cross_covariance(self) -> Array:
        """cov(x, z): [n, columns]."""
        n = max(self.count, 1.0)
        return self.cross / n - np.outer(self.mean, self.scores / n)

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows."""
        return Moments(
            self.count + other.count,
            self.first + other.first,
            self.second + other.second,
            self.scores + other.scores,
            self.cross + other.cross,
        )


@dataclass(slots=True)
class GradientMoments:
    """Sums of gradients at one site (`gradients`) over so many `samples`.

    outer         G: sum over rows of g g', g = d log p / d y, averaged over the classes by p:
                  [outputs, outputs], or [outputs] (squares only) of very wide sites
    mask_first    sum over samples of |s|, s = d log p / d m for a factor m on a channel of x
                  (the root of the mean square over the classes): [channels]
    mask_second   sum over samples of s s': [channels, channels], or [channels] (squares only)

    Channels are the positions of x's contracted axis (of convolutions: without the kernel).
    """

    samples: float
    outer: Array
    mask_first: Array
    mask_second: Array

    @property
    def mask_square(self) -> Array:
        """Sum over samples of s^2: [channels]."""
        second = self.mask_second
        return np.diagonal(second) if second.ndim == 2 else second

    def merge(self, other: GradientMoments) -> GradientMoments:
        """The sums over both sets of rows."""
        return GradientMoments(
            self.samples + other.samples,
            self.outer + other.outer,
            self.mask_first + other.mask_first,
            self.mask_second + other.mask_second,
        )


class Accumulator:
    """Collects the moments of one site, on the device that rows arrive on.

    Rows are buffered to `CHUNK` before they are multiplied: many small products would spend their
    time adding into the float64 sums. The first chunk's mean is taken from all rows, and put back
    in float64: a large mean would drown a small variance in float32 products.
    """

    def __init__(self, site: Site, columns: int, device: str = "cpu") -> None:
        n = site.features
        self._full = n <= FEATURES_MOST
        self._count, self._waiting = 0, 0
        self._centre: torch.Tensor | None = None
        self._buffer: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._first = _zeros(device, n)
        self._second = _zeros(device, n, n) if self._full else _zeros(device, n)
        self._scores, self._cross = _zeros(device, columns), _zeros(device, n, columns)

    def add(self, rows: torch.Tensor, scores: torch.Tensor) -> None:
        """rows [r, n] and the head's scores of each row's sample [r, columns] (or [r, 0])."""
        self._buffer.append((rows, scores))
        self._waiting += len(rows)
        if self._waiting >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        import torch

        if not self._waiting:
            return
        rows = torch.cat([r for r, _ in self._buffer]).to(torch.float32)
        scores = torch.cat([s for _, s in self._buffer]).to(torch.float32)
        ones = torch.ones(len(rows), dtype=torch.float32, device=rows.device)
        if self._centre is None:
            self._centre = ones @ rows / len(rows)
        rows = rows - self._centre
        self._buffer, self._waiting = [], 0
        self._count += len(rows)
        self._first += ones @ rows  # a product: faster by far than a sum over the first axis
        self._second += rows.T @ rows if self._full else ones @ rows.square()
        if scores.shape[1]:
            self._scores += ones @ scores
            self._cross += rows.T @ scores

    def result(self) -> Moments:
        """The sums so far, on the host."""
        import torch

        self._flush()
        first, second, cross = self._first, self._second, self._cross
        if self._centre is not None:
            c, n = self._centre.double(), self._count
            if self._full:
                second = second + torch.outer(c, first) + torch.outer(first, c)
                second = second + n * torch.outer(c, c)
            else:
                second = second + 2 * c * first + n * c * c
            cross = cross + torch.outer(c, self._scores)
            first = first + n * c
        sums = (first, second, self._scores, cross)
        return Moments(float(self._count), *(total.cpu().numpy() for total in sums))


def _zeros(device: str, *shape: int) -> torch.Tensor:
    import torch

    return torch.zeros(shape, dtype=torch.float64, device=device)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Moments of every site, and the mean curvature H of the head over `samples` samples;
    gradients of every site where they were asked for."""

    moments: Mapping[str, Moments]
    curvature: Array
    samples: int
    model_key: str
    data_key: str
    pairs: Mapping[str, PairMoments] = field(default_factory=dict)
    """Of the operands of products without a weight, by `Operand.key`."""
    gradients: Mapping[str, GradientMoments] = field(default_factory=dict)
    rows: Mapping[str, RowSample] = field(default_factory=dict)
    """A sample of rows per site, where one was asked for."""

    def save(self, path: Path) -> None:
        """Write an .npz that `load_calibration` reads, atomically."""
        arrays: dict[str, Array] = {
            "format": np.array(FORMAT),
            "model_key": np.array(self.model_key),
            "data_key": np.array(self.data_key),
            "samples": np.array(self.samples),
            "curvature": self.curvature,
            "sites": np.array(sorted(self.moments)),
            "pairs": np.array(sorted(self.pairs)),
        }
        for index, name in enumerate(sorted(self.moments)):
            moments = self.moments[name]
            for part in ("count", *FIELDS):
                arrays[f"{index}.{part}"] = np.asarray(getattr(moments, part))
            gradients = self.gradients.get(name)
            for part in ("samples", *GRADIENT_FIELDS) if gradients else ():
                arrays[f"{index}.gradient.{part}"] = np.asarray(getattr(gradients, part))
            rows = self.rows.get(name)
            for part in ROW_FIELDS if rows else ():
                arrays[f"{index}.rows.{part}"] = np.asarray(getattr(rows, part))
        for index, (_, pair) in enumerate(sorted(self.pairs.items())):
            arrays[f"pair{index}.count"] = np.asarray(pair.count)
            arrays[f"pair{index}.first"], arrays[f"pair{index}.second"] = pair.first, pair.second
        with staging(path) as folder:
            with (folder / "moments").open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            publish(folder / "moments", path)


def load_calibration(path: Path, model_key: str, data_key: str | None) -> Calibration:
    """Saved moments; PlanMismatch where they were taken of another model or other data (not
    checked where no data is at hand)."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if str(data["format"]) != FORMAT:
                raise PlanMismatch(f"{path} is no moments file of this version", hint="delete it")
            other_data = data_key is not None and str(data["data_key"]) != data_key
            if str(data["model_key"]) != model_key or other_data:
                what = "other data" if other_data else "another model"
                raise PlanMismatch(
                    f"{path} holds the moments of {what}",
                    hint="delete it or name another --moments FILE",
                )
            names = {str(name): i for i, name in enumerate(data["sites"])}
            moments = {
                name: Moments(float(data[f"{i}.count"]), *(data[f"{i}.{part}"] for part in FIELDS))
                for name, i in names.items()
            }
            gradients = {
                name: _gradients(data, f"{i}.gradient")
                for name, i in names.items()
                if f"{i}.gradient.samples" in data
            }
            pairs = {
                str(name): PairMoments(
                    float(data[f"pair{i}.count"]), data[f"pair{i}.first"], data[f"pair{i}.second"]
                )
                for i, name in enumerate(data["pairs"])
            }
            rows = {
                name: RowSample(*(data[f"{i}.rows.{part}"] for part in ROW_FIELDS))
                for name, i in names.items()
                if f"{i}.rows.priority" in data
            }
            samples, found = int(data["samples"]), str(data["data_key"])
            sums = (moments, data["curvature"], samples, model_key, found)
            return Calibration(*sums, pairs, gradients, rows)
    except PlanMismatch:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        raise PlanMismatch(
            f"{path} is not a readable moments file", hint="delete it and calibrate again"
        ) from error


def _gradients(data: Mapping[str, Array], prefix: str) -> GradientMoments:
    sums = (data[f"{prefix}.{part}"] for part in GRADIENT_FIELDS)
    return GradientMoments(float(data[f"{prefix}.samples"]), *sums)


def model_key(digest: str, sites: Sequence[Site]) -> str:
    """What moments depend on beside the data: the model and the sites."""
    text = "\n".join([FORMAT, digest, *(f"{s.name} {s.features}" for s in sites)])
    return hashlib.sha256(text.encode()).hexdigest()


def wave_bytes(sites: Sequence[Site], columns: int) -> int:
    """Memory of the sums of some sites, in bytes."""
    total = 0
    for site in sites:
        n = site.features
        total += 8 * (n * n if n <= FEATURES_MOST else n) + 8 * n * (columns + 1)
    return total


def waves(
    sites: Sequence[Site],
    columns: int,
    budget: int,
    activations: Mapping[str, int] | None = None,
) -> list[list[Site]]:
    """Sites in groups that fit into `budget` bytes together (at least one site each): their sums,
    and the activations of one batch, `activations[site name]` bytes."""
    found: list[list[Site]] = [[]]
    used = 0
    for site in sites:
        needed = wave_bytes([site], columns) + (activations or {}).get(site.name, 0)
        if found[-1] and used + needed > budget:
            found.append([])
            used = 0
        found[-1].append(site)
        used += needed
    return [wave for wave in found if wave]
