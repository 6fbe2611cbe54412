"""MIPP: pruning that preserves mutual information (Westphal, Hailes, Musolesi 2024,
arXiv 2411.00147; papers.md 2), by TERC with MI ordering.

From the output down, units are tried in the order of the information they carry alone, the least
first. One goes for good if what is kept above can be predicted without it, given the units that are
still there, as well as from all of them. What the paper leaves open, and our choice:

information the rise of a predictive loss, which is all the paper measures. The loss is that of the
            standardised activations above (`calibrate.sample`). Under a Gaussian model it bounds
            the loss of information (papers.md 5.3), says so, and needs no training: ridge in
            closed form, judged on rows that it was not fitted to
predictor   `--mipp-predictor mlp` trains a network instead, and some steps more without each unit,
            as the paper does; that is slow by design
confidence  a unit stays only if more than `--confidence` of the bootstrap samples of rows say that
            the loss is above that of all units (the paper: "more than x % sure", over 5 trainings)
order       the information of one unit alone: `--estimator` (the paper: predictive loss)
filters     the features of a unit go together; of several readers the losses add up
widths      come out of the test (`--confidence`): the loss of every width above is 0. Below it goes
            on by the Gaussian twin (papers.md 5.4) among the units that stay, so `--allocate tau`
            can meet a budget: every layer gives up the same share tau of its information
rows        at most 4,096; sites too wide for products are ranked by one unit's information
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipack.calibrate.ridge import shrinkage
from mipack.calibrate.sites import Array, Site, blocks_at
from mipack.couple.solve import Group
from mipack.select.criteria.mi_layerwise import mi_layerwise, relevance
from mipack.select.eliminate import Ranking, Stake, eliminate
from mipack.select.estimators import standardised
from mipack.select.evidence import Evidence
from mipack.select.predict import Predictor, Ridge, fitted, halves
from mipack.select.predict_mlp import Network

DRAWS = 200
"""Bootstrap samples."""
CHUNK = 32
"""Units that a predictor prepares for at a time."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """A site's rows x, what is kept above, and the features of each unit."""

    x: Array
    above: Array
    blocks: Array


def mipp(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Units that prediction can do without first, at no loss; then the least missed."""
    sites = evidence.readers(group)
    if not sites or not all(evidence.calibration.moments[site.name].full for site in sites):
        return mi_layerwise(evidence, group, preserved)
    readers = [_reader(evidence, site, group, preserved.get(site.name)) for site in sites]
    seed = zlib.crc32(group.name.encode()) ^ evidence.seed
    order = np.argsort(relevance(evidence, group, preserved).reshape(-1), kind="stable")
    make = PREDICTORS[evidence.options.mipp_predictor]
    predictors = [make(reader.x, reader.above, reader.blocks, seed) for reader in readers]
    bootstrap = Bootstrap([len(reader.x) for reader in readers], seed)
    gone = terc(predictors, order, bootstrap, evidence.options.confidence)
    stakes = [_stake(reader, gone) for reader in readers]
    return eliminate(stakes, group.size, group.shape[:-1])


def _reader(evidence: Evidence, site: Site, group: Group, kept: Array | None) -> _Reader:
    rows, blocks = evidence.rows(site), blocks_at(evidence.coupling, site, group)
    return _Reader(rows.x, rows.above if kept is None else rows.above[:, kept], blocks)


class Bootstrap:
    """How sure rows are that a mean over them, summed over readers, is above 0."""

    def __init__(self, rows: Sequence[int], seed: int) -> None:
        rng = np.random.default_rng(seed)
        tests = [len(range(*halves(count)[1].indices(count))) for count in rows]
        self._weights = [rng.multinomial(n, np.full(n, 1 / n), DRAWS) / n for n in tests]

    def confidence(self, rises: Sequence[Array]) -> float:
        """The share of bootstrap samples in which the sum of means is above 0."""
        means = [w @ rise for w, rise in zip(self._weights, rises, strict=True)]
        return float((np.sum(means, 0) > 0).mean())


def terc(
    predictors: Sequence[Predictor], order: Array, bootstrap: Bootstrap, confidence: float
) -> list[int]:
    """The units that go, of those listed in `order`, the first tried first."""
    gone: list[int] = []
    for start in range(0, len(order), CHUNK):
        chunk = [int(unit) for unit in order[start : start + CHUNK]]
        for predictor in predictors:
            predictor.look(chunk)
        for unit in chunk:
            rises = [predictor.rise(unit) for predictor in predictors]
            if bootstrap.confidence(rises) <= confidence:
                gone.append(unit)
                for predictor in predictors:
                    predictor.drop(unit)
    return gone


def _stake(reader: _Reader, gone: Sequence[int]) -> Stake:
    """Elimination of the squared error per output; nothing is at stake for units that are gone."""
    x, z = np.asarray(reader.x, np.float64), standardised(reader.above)
    ridge = shrinkage(len(x), x.shape[1])
    stays = np.ones(x.shape[1], bool)
    stays[reader.blocks[gone].reshape(-1)] = False
    precision, _ = fitted(x, z, ridge)
    slope = np.zeros((x.shape[1], z.shape[1]))
    if stays.any():
        slope[stays] = fitted(x[:, stays], z, ridge)[1]
    q = slope @ slope.T / max(z.shape[1], 1)
    return Stake(precision, q, reader.blocks)


PREDICTORS: dict[str, Callable[[Array, Array, Array, int], Predictor]] = {
    "ridge": lambda x, above, blocks, seed: Ridge(x, above, blocks),
    "mlp": Network,
}
