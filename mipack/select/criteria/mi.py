"""Gaussian conditional mutual information (the default)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mipack.calibrate.sites import Array, blocks_at
from mipack.couple.solve import Group
from mipack.select.criteria.norms import magnitude
from mipack.select.criteria.products import products
from mipack.select.eliminate import Ranking, eliminate
from mipack.select.evidence import Evidence
from mipack.select.signal import SIGNALS, stake


def mi(evidence: Evidence, group: Group, preserved: Mapping[str, Array]) -> Ranking:
    """Gaussian conditional mutual information by backward elimination (design.md 6).

    A group that no weight reads is ranked by what its products lose (`products`), or by magnitude.
    """
    stakes = [
        stake(
            evidence.calibration.moments[site.name],
            evidence.weight(site),
            blocks_at(evidence.coupling, site, group),
            evidence.calibration.curvature,
            SIGNALS[evidence.signal],
            preserved.get(site.name),
            evidence.fisher(site),
        )
        for site in evidence.readers(group)
    ]
    if not stakes:
        return products(evidence, group) or magnitude(evidence, group, preserved)
    known = evidence.signal == "fisher" and all(
        evidence.fisher(site) is not None for site in evidence.readers(group)
    )
    return replace(eliminate(stakes, group.size, group.shape[:-1]), nats=known)
