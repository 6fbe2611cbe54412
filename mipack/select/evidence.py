"""What a criterion may use: structure, moments, and the signal that weighs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mipack.calibrate.moments import Calibration, GradientMoments
from mipack.calibrate.sample import RowSample
from mipack.calibrate.sites import Array, Site
from mipack.couple.solve import Coupling, Group
from mipack.errors import PlanMismatch
from mipack.select.eliminate import Ranking

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CriterionOptions:
    """What single criteria can be told, each with its default."""

    estimator: str = "joint"
    """Of mutual information, a name in `select.estimators` (`mi-layerwise`, `mipp`)."""
    confidence: float = 0.95
    """How sure `mipp` must be that a unit adds information to keep it."""
    mipp_predictor: str = "ridge"
    """What predicts the layer above (`mipp`): ridge or mlp."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a criterion may use of a model and its data."""

    coupling: Coupling
    sites: tuple[Site, ...]
    calibration: Calibration
    signal: str = "identity"
    seed: int = 0
    options: CriterionOptions = CriterionOptions()

    def readers(self, group: Group) -> list[Site]:
        """The sites that absorb a group."""
        known = {site.name: site for site in self.sites}
        linears = self.coupling.linears_reading(group)
        return [known[name] for name in (lin.node.name or "" for lin in linears) if name in known]

    def fisher(self, site: Site) -> Array | None:
        """What each output of a site tells of the model's answer, summed over a sample's rows:
        [m, m], or [m] of very wide sites; None where no gradients were taken."""
        found = self.calibration.gradients.get(site.name)
        return found.outer / max(found.samples, 1.0) if found is not None else None

    def weight(self, site: Site) -> Array:
        """A site's weight, [features, outputs]."""
        return site.matrix(self.coupling.constants[site.linear.w])

    def rows(self, site: Site) -> RowSample:
        """The sample of a site's rows. PlanMismatch where the calibration drew none."""
        return _held(self.calibration.rows, site, "rows")

    def gradients(self, site: Site) -> GradientMoments:
        """The gradient moments of a site. PlanMismatch where the calibration took none."""
        return _held(self.calibration.gradients, site, "gradients")


def _held(table: Mapping[str, T], site: Site, what: str) -> T:
    if site.name not in table:
        raise PlanMismatch(
            f"the saved moments hold no {what}, which this criterion judges by",
            hint="delete the file or name another --moments FILE",
        )
    return table[site.name]


Criterion = Callable[[Evidence, Group, Mapping[str, Array]], Ranking]
"""(evidence, group, output columns preserved above per site) -> ranking."""
