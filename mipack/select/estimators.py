"""Mutual information between units and what stands above them, from rows: I(x_B; z) in nats.

x is [r, features], z is [r, columns], `blocks` [units, b] says which features a unit has. Formulas
are those of papers.md 5.2 and 5.6.

pair    Gaussian, one pair at a time: sum over b and columns of -1/2 log(1 - rho^2)
joint   Gaussian, exact for vectors: -1/2 log det(I - C_BB^-1 C_Bz C_zz^-1 C_zB)
copula  `joint` of normal scores (ranks through the inverse normal): monotone maps change nothing
binned  histograms with `BINS` equally full bins, one pair at a time, bias (Bx-1)(By-1)/2N removed
knn     Kraskov, Stögbauer, Grassberger 2004 (algorithm 1, max-norm), one pair at a time

Between a layer and a function of it the true value is infinite (papers.md 1 b). `joint` therefore
sees z through noise: `noise` of each column's variance, by default what few rows demand anyway.
Sums over pairs count what several columns share several times; they rank, they measure nothing.
Columns that do not vary tell nothing and are told nothing: 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mipack.calibrate.ridge import shrinkage
from mipack.calibrate.sites import Array

Estimator = Callable[[Array, Array, Array], Array]
"""(x [r, features], z [r, columns], blocks [units, b]) -> nats of every unit [units]."""

BINS = 8
NEIGHBOURS = 3
PARTNERS = 32
"""Columns of z that `knn` looks at: those of largest correlation."""
KNN_ROWS = 256
"""Rows that `knn` looks at, the first: its cost grows with their square."""
JITTER = 1e-9


def pair(x: Array, z: Array, blocks: Array) -> Array:
    """Relevance of every feature to every column, summed: nothing is known of redundancy."""
    rho = standardised(x).T @ standardised(z) / len(x)
    nats = -0.5 * np.log1p(-np.minimum(rho**2, 1 - JITTER))
    return nats.sum(1)[blocks].sum(1)


def joint(x: Array, z: Array, blocks: Array, noise: float | None = None) -> Array:
    """The exact value for normal vectors, less the bias that so many rows have."""
    x, z = standardised(x), standardised(z)
    rows, columns, size = len(x), z.shape[1], blocks.shape[1]
    level = shrinkage(rows, columns) if noise is None else noise
    inner = z.T @ z / rows + (level + JITTER) * np.eye(columns)
    cross = x.T @ z / rows  # [features, columns]
    told = np.linalg.solve(inner, cross.T).T
    blocked = cross[blocks], told[blocks]  # [units, b, columns]
    own = np.einsum("rub,ruc->ubc", x[:, blocks], x[:, blocks], optimize=True) / rows
    own = own + JITTER * np.eye(size)
    left = own - blocked[1] @ blocked[0].transpose(0, 2, 1)
    left += JITTER * np.eye(size)
    nats = 0.5 * (np.linalg.slogdet(own)[1] - np.linalg.slogdet(left)[1])
    return nats - bias(rows, size, columns)


def bias(rows: int, n: int, m: int) -> float:
    """What `joint` of independent normal vectors of n and m entries says on average (papers.md
    5.6: the log-det of an estimated covariance); 0 where there are too few rows to tell."""
    freedom = rows - 1
    if freedom <= n + m:
        return 0.0

    def psi(k: int) -> float:
        return float(digamma((freedom - np.arange(k)) / 2).sum())

    return 0.5 * (psi(n) + psi(m) - psi(n + m))


def copula(x: Array, z: Array, blocks: Array) -> Array:
    """`joint` of normal scores: tames long tails, knows nothing of units or gain."""
    return joint(normal_scores(x), normal_scores(z), blocks)


def binned(x: Array, z: Array, blocks: Array) -> Array:
    """Plug-in information of histograms; equal values share a bin, so bins may be fewer."""
    first, second = (binary(bins(a)) for a in (x, z))  # [rows, columns, BINS]
    rows, columns = len(x), z.shape[1]
    flat = second.reshape(rows, -1)
    found = np.empty(x.shape[1])
    step = max(1, (1 << 24) // max(1, flat.shape[1] * BINS))
    for start in range(0, x.shape[1], step):
        part = first[:, start : start + step]
        counts = part.reshape(rows, -1).T @ flat
        table = counts.reshape(part.shape[1], BINS, columns, BINS).transpose(0, 2, 1, 3)
        found[start : start + step] = _plug_in(table.astype(np.float64)).sum(1)
    return found[blocks].sum(1)


def _plug_in(table: Array) -> Array:
    """Tables of counts [.., bins, bins] -> nats, Miller-Madow corrected."""
    total = table.sum((-1, -2))[..., None, None]
    rows, columns = table.sum(-1, keepdims=True), table.sum(-2, keepdims=True)
    ratio = table * total / np.maximum(rows * columns, 1.0)
    nats = (table * np.log(np.where(table > 0, ratio, 1.0))).sum((-1, -2)) / total[..., 0, 0]
    used = [(a > 0).sum((-1, -2)) - 1 for a in (rows, columns)]
    return nats - used[0] * used[1] / (2 * total[..., 0, 0])


def knn(x: Array, z: Array, blocks: Array) -> Array:
    """Nearest neighbours: free of a model, and by far the slowest; a diagnostic."""
    x, z = _spread(x[:KNN_ROWS]), _spread(z[:KNN_ROWS])
    rho = np.abs(standardised(x).T @ standardised(z))
    partners = np.argsort(-rho, axis=1, kind="stable")[:, :PARTNERS]
    found = np.array([ksg(x[:, f], z[:, partners[f]]).sum() for f in range(x.shape[1])])
    return found[blocks].sum(1)


def ksg(x: Array, z: Array, neighbours: int = NEIGHBOURS) -> Array:
    """One variable against each column of z: x [r], z [r, columns] -> nats [columns].

    psi(k) + psi(N) - <psi(nx + 1) + psi(nz + 1)>; never below 0.
    """
    rows = len(x)
    k = min(neighbours, rows - 1)
    found = np.zeros(z.shape[1])
    if k < 1 or not np.ptp(x) > 0:
        return found
    one = np.asarray(x, np.float64)
    own = np.abs(one[:, None] - one)
    apart = np.empty_like(own)
    for column in range(z.shape[1]):
        other = np.asarray(z[:, column], np.float64)
        if not np.ptp(other) > 0:
            continue
        np.abs(np.subtract(other[:, None], other, out=apart), out=apart)
        np.maximum(apart, own, out=apart)
        apart.partition(k, axis=1)  # a row's least is its distance to itself
        near = digamma(_within(one, apart[:, k])) + digamma(_within(other, apart[:, k]))
        start = digamma(np.array([k, rows])).sum()
        found[column] = max(0.0, float(start - near.mean()))
    return found


def _within(values: Array, radius: Array) -> Array:
    """How many values lie nearer than the radius to each, itself included."""
    order = np.sort(values)
    radius = np.maximum(radius - 1e-14 * np.abs(order).max(), 0)  # sums round
    high = np.searchsorted(order, values + radius, side="right")
    return high - np.searchsorted(order, values - radius)


def digamma(values: Array) -> Array:
    """The logarithmic derivative of the gamma function."""
    return torch.digamma(torch.from_numpy(np.asarray(values, np.float64))).numpy()


def _spread(x: Array) -> Array:
    """Standardised, with noise too small to matter that tells equal values apart; columns that do
    not vary stay 0."""
    x = standardised(x)
    noise = np.random.default_rng(0).normal(size=x.shape)
    return np.where(x.any(0), x + 1e-10 * noise, 0.0)


def standardised(x: Array) -> Array:
    """Columns of mean 0 and variance 1, float64; columns that do not vary become 0."""
    x = np.asarray(x, np.float64)
    mean = x.mean(0)
    x = x - mean
    deviation = np.sqrt((x**2).mean(0))
    varies = deviation > 1e-6 * np.abs(mean)
    return np.where(varies, x / np.where(varies, deviation, 1.0), 0.0)


def ranks(x: Array) -> Array:
    """Rank of every entry in its column, from 1/2 to r - 1/2; equal entries share their mean."""
    order = np.argsort(x, axis=0, kind="stable")
    ordered = np.take_along_axis(x, order, 0)
    places = np.arange(len(x))[:, None]
    new = np.ones(x.shape, np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(new, places, 0), axis=0)
    after = np.full(x.shape, len(x))
    after[:-1] = np.where(new[1:], places[1:], len(x))
    after = np.minimum.accumulate(after[::-1], axis=0)[::-1]
    found = np.empty(x.shape)
    np.put_along_axis(found, order, (first + after) / 2, 0)
    return found


def normal_scores(x: Array) -> Array:
    """Phi^-1((rank - 1/2) / N) of every column."""
    share = torch.from_numpy(ranks(x) / len(x))
    return torch.special.ndtri(share).numpy()


def bins(x: Array) -> Array:
    """The bin of every entry, 0 to BINS - 1, equally full but for equal entries."""
    return np.minimum((ranks(x) * BINS / len(x)).astype(np.int64), BINS - 1)


def binary(places: Array) -> Array:
    """Bins as indicators: [rows, columns, BINS], float32."""
    return (places[:, :, None] == np.arange(BINS)).astype(np.float32)


ESTIMATORS: dict[str, Estimator] = {
    "pair": pair,
    "joint": joint,
    "copula": copula,
    "binned": binned,
    "knn": knn,
}
