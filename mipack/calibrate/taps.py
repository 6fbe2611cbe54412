"""Streaming data through the model: activations at the sites become moments at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mipack.calibrate.heads import CLASSES_MOST, Head, heads_of
from mipack.calibrate.moments import Accumulator, Calibration, Moments, waves
from mipack.calibrate.pairs import Operand, PairMoments, PairSums, pair_moments
from mipack.calibrate.rows import RowMap
from mipack.calibrate.sample import RowSample, Sampler, above_of
from mipack.calibrate.sites import Site
from mipack.couple.solve import Coupling
from mipack.graph.probe import session_with
from mipack.runtime.session import Session

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]
MEMORY = 1 << 30
"""Bytes that sums and tapped activations may take at a time; more sites take another pass."""


class BatchLike(Protocol):
    """What is read of a batch."""

    @property
    def feeds(self) -> Mapping[str, Array]: ...

    @property
    def samples(self) -> int: ...


class DataBatch(BatchLike, Protocol):
    """What is read of a batch of data."""

    @property
    def origin(self) -> Array: ...


Batches = Callable[[], Iterable[BatchLike]]
"""Starts a pass over the data."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The original's outputs on some data, cut to the real samples of each batch."""

    heads: tuple[Head, ...]
    outputs: tuple[Mapping[str, Array], ...]
    per_sample: bool = True
    """Whether every row of the head's output belongs to one sample, in order."""

    @property
    def head(self) -> Head | None:
        """The output that signals and fidelity speak of."""
        return self.heads[0] if self.heads else None


def crop(outputs: Mapping[str, Array], batch: BatchLike) -> dict[str, Array]:
    """Outputs without the rows that only fill up a batch."""
    rows = max((len(v) for v in batch.feeds.values() if np.ndim(v)), default=0)
    return {
        name: value[: batch.samples] if np.ndim(value) and len(value) == rows else value
        for name, value in outputs.items()
    }


def answers(session: Session, outputs: Sequence[str], batches: Batches) -> Answers:
    """Run the original and keep its outputs."""
    found, samples = [], []
    for batch in batches():
        found.append(crop(session.run(batch.feeds, outputs), batch))
        samples.append(batch.samples)
    heads = heads_of(found) if found else ()
    rows = [len(output[heads[0].name]) for output in found] if heads else []
    return Answers(heads, tuple(found), rows == samples)


def calibrate(
    coupling: Coupling,
    sites: Sequence[Site],
    batches: Callable[[], Iterable[DataBatch]],
    known: Answers,
    rows: RowMap,
    *,
    keys: tuple[str, str],
    operands: Sequence[Operand] = (),
    sample: int | None = None,
    batch_bytes: int = 0,
    provider: str = "cpu",
    advance: Callable[[int], None] = lambda _: None,
) -> Calibration:
    """One pass over the data per wave of sites.

    `sample` is the seed of a sample of rows (None: none is drawn). `batch_bytes` is what one
    element of the first probe stands for in a batch: 4 bytes times the samples of a batch over
    those of the probe.
    """
    head, columns = known.head, _columns(known)
    above = {} if sample is None else {site.name: above_of(coupling, site) for site in sites}
    held = {
        site.name: batch_bytes * _elements(coupling, [site.linear.x, above.get(site.name, "")])
        for site in sites
    }
    moments: dict[str, Moments] = {}
    drawn: dict[str, RowSample] = {}
    pairs: dict[str, PairMoments] = {}
    found = waves(sites, columns, MEMORY, held)
    if not found and operands:
        found = [[]]
    for index, wave in enumerate(found):
        taps = _Taps(coupling, rows, wave, () if index else operands, above)
        session = session_with(coupling.model, taps.names, provider=provider)
        taps.start(columns, "cuda" if session.on_gpu else "cpu", sample or 0)
        for batch, outputs in zip(batches(), known.outputs, strict=True):
            scores = head.scores(outputs[head.name]) if head and columns else None
            taps.add(run_tensors(session, batch.feeds, taps.names), batch, scores)
            advance(batch.samples)
        moments |= {name: total.result() for name, total in taps.sums.items()}
        drawn |= {name: sampler.result() for name, sampler in taps.samplers.items()}
        pairs |= pair_moments(taps.beside)
    samples = sum(len(next(iter(o.values()))) for o in known.outputs)
    return Calibration(moments, _curvature(known, columns), samples, *keys, pairs, rows=drawn)


class _Taps:
    """What one pass gathers: sums and rows of its sites, and sums of operands beside them."""

    def __init__(
        self,
        coupling: Coupling,
        rows: RowMap,
        sites: Sequence[Site],
        operands: Sequence[Operand],
        above: Mapping[str, str],
    ) -> None:
        self._coupling, self._rows, self._sites, self._above = coupling, rows, sites, above
        self.beside = [(operand, PairSums(coupling, operand)) for operand in operands]
        tapped = [site.linear.x for site in sites] + [operand.name for operand in operands]
        self.names = [*tapped, *(above[site.name] for site in sites if above)]
        self.sums: dict[str, Accumulator] = {}
        self.samplers: dict[str, Sampler] = {}

    def start(self, columns: int, device: str, seed: int) -> None:
        """Empty sums, on the device that activations come from."""
        self.sums = {site.name: Accumulator(site, columns, device) for site in self._sites}
        self.samplers = {site.name: Sampler(site, seed) for site in self._sites if self._above}

    def add(
        self, tensors: Mapping[str, torch.Tensor], batch: DataBatch, scores: Array | None
    ) -> None:
        """One batch: its tensors by name, and the head's scores of its samples."""
        for site in self._sites:
            x, owner = site_rows(self._coupling, site, tensors[site.linear.x], self._rows, batch)
            self.sums[site.name].add(x, _scores_of(scores, owner, x))
            if self._above:
                name = self._above[site.name]
                upper = output_rows(self._coupling, site, tensors, name, self._rows, batch)
                self.samplers[site.name].add(x, upper, owner, batch.origin)
        for operand, sums in self.beside:
            sums.add(tensors[operand.name], self._rows, batch.feeds, batch.samples)


def _elements(coupling: Coupling, names: Sequence[str]) -> int:
    shapes = [coupling.probe.shapes.get(name) or () for name in names]
    return sum(int(np.prod([size[0] for size in shape], dtype=np.int64)) for shape in shapes)


def _columns(known: Answers) -> int:
    head = known.head
    if head is None or not known.per_sample or len(head.variance) > CLASSES_MOST:
        return 0
    return len(head.variance)


def _curvature(known: Answers, columns: int) -> Array:
    head = known.head
    if head is None or not columns:
        return np.zeros((0, 0))
    scores = np.concatenate([head.scores(o[head.name]) for o in known.outputs])
    mean = head.curvature(scores) / len(scores)
    return mean + 1e-3 * np.trace(mean) / columns * np.eye(columns)


def _scores_of(scores: Array | None, owner: Array | None, x: torch.Tensor) -> torch.Tensor:
    import torch

    if scores is None or owner is None:
        return torch.zeros((len(x), 0), dtype=torch.float32, device=x.device)
    return torch.from_numpy(scores.astype(np.float32)).to(x.device)[torch.from_numpy(owner)]


def run_tensors(
    session: Session, feeds: Mapping[str, Array], names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Run, with results as torch tensors where the session computed them."""
    import torch

    wanted = list(dict.fromkeys(names))
    inner = [name for name in wanted if name not in feeds]
    if session.on_gpu:
        found = {
            n: torch.utils.dlpack.from_dlpack(v)
            for n, v in session.run_on_gpu(feeds, inner).items()
        }
    else:
        found = {n: torch.from_numpy(v) for n, v in session.run(feeds, inner).items()}
    return found | {n: torch.from_numpy(np.asarray(feeds[n])) for n in wanted if n in feeds}


def site_rows(
    coupling: Coupling, site: Site, x: torch.Tensor, rows: RowMap, batch: BatchLike
) -> tuple[torch.Tensor, Array | None]:
    """The rows of a site that carry data, [r, features], and the sample of each (None: unknown)."""
    import torch

    features = site.rows(x)
    flat = features.reshape(-1, features.shape[-1])
    kept, owner = row_owners(coupling, site, x.shape, features.shape[:-1], rows, batch)
    if kept is None or owner is None:
        return flat, None
    if len(kept) == len(flat):
        return flat, owner
    return flat[torch.from_numpy(kept).to(flat.device)], owner


def output_rows(
    coupling: Coupling,
    site: Site,
    tensors: Mapping[str, torch.Tensor],
    name: str,
    rows: RowMap,
    batch: BatchLike,
) -> torch.Tensor:
    """The rows of a tensor of the axes of a site's output, those of `site_rows`: [r, outputs]."""
    import torch

    x, y = tensors[site.linear.x], tensors[name].movedim(site.linear.y_axis, -1)
    flat = y.reshape(-1, y.shape[-1])
    places = y.shape[:-1] if site.linear.window is None else (len(y), len(flat) // len(y))
    kept, _ = row_owners(coupling, site, x.shape, places, rows, batch)
    if kept is None or len(kept) == len(flat):
        return flat
    return flat[torch.from_numpy(kept).to(flat.device)]


def row_owners(
    coupling: Coupling,
    site: Site,
    shape: Sequence[int],
    places: Sequence[int],
    rows: RowMap,
    batch: BatchLike,
) -> tuple[Array, Array] | tuple[None, None]:
    """Indices of the rows that carry data and the sample of each; None where rows have no sample.

    `shape` is x's, `places` that of its rows (convolutions: [batch, places]).
    """
    axes = [t for k, t in enumerate(coupling.axes[site.linear.x]) if k != site.linear.x_axis]
    sizes = [n for k, n in enumerate(shape) if k != site.linear.x_axis]
    weights = rows.weights(batch.feeds, batch.samples)
    if weights is None or not rows.knows(axes):
        return None, None
    rows.observe(batch.feeds)
    per_place = 1
    if site.linear.window is not None:  # spatial axes were flattened
        axes, sizes, per_place = axes[:1], [places[0]], places[1]
        weights = weights.max(1) if weights.ndim == 2 else weights
    kept = rows.spread(weights, axes, sizes).reshape(-1).repeat(per_place) > 0
    owner = rows.spread(np.arange(len(weights)), axes, sizes).reshape(-1).repeat(per_place)
    return np.flatnonzero(kept), owner[kept]
