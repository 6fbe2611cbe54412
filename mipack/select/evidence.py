"""What a criterion may use: structure, moments, and the signal that weighs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mipack.calibrate.moments import Calibration
from mipack.calibrate.sites import Array, Site
from mipack.couple.solve import Coupling, Group
from mipack.select.eliminate import Ranking


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a criterion may use of a model and its data."""

    coupling: Coupling
    sites: tuple[Site, ...]
    calibration: Calibration
    signal: str = "identity"
    seed: int = 0

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


Criterion = Callable[[Evidence, Group, Mapping[str, Array]], Ranking]
"""(evidence, group, output columns preserved above per site) -> ranking."""
