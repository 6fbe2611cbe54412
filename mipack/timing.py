"""The original and its cuts on this machine, at one shape: predicted from single ops, and raced."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from mipack.bench.law import Law, contracted, law_of, shapes_in
from mipack.bench.loop import against
from mipack.bench.profile import profile
from mipack.bench.stats import Ratio
from mipack.bench.times import Times
from mipack.data.dims import dim_sizes
from mipack.data.synthetic import resize_feeds
from mipack.graph.load import runnable
from mipack.material import Material
from mipack.runtime.machine import cache_folder, physical_cores
from mipack.runtime.session import Feeds, Session
from mipack.select.allocate import allowed_widths
from mipack.select.steps import timed_step

PROFILE_SECONDS, RACE_SECONDS = 4.0, 6.0
NEAR = 0.03
"""A measured time this near to the budget, relative, is on it."""


@dataclass(frozen=True, slots=True)
class Race:
    """Time of a cut model over the original's, and the share that was asked for."""

    ratio: Ratio
    share: float

    @property
    def holds(self) -> bool:
        """On the budget, as far as the machine lets one tell."""
        near = abs(self.ratio.value - self.share) <= NEAR * self.share
        return near or (self.ratio.noise > NEAR and self.ratio.low <= self.share <= self.ratio.high)

    @property
    def exceeds(self) -> bool:
        """Above the budget, beyond doubt."""
        return min(self.ratio.value, self.ratio.low) > (1 + NEAR) * self.share

    def __str__(self) -> str:
        ratio = self.ratio
        return f"measured {ratio.value:.3f} of the time ({ratio.low:.3f} to {ratio.high:.3f})"

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {"ratio": self.ratio.value, "interval": [self.ratio.low, self.ratio.high]}


class Clock:
    """Measures everything with the same feeds, threads and provider, as `bench` would."""

    def __init__(self, material: Material) -> None:
        """Raises InputError for dimensions that the model does not have."""
        self._material, shape = material, material.options.shape
        signature = material.prepared.signature
        self.feeds: Feeds = resize_feeds(signature, material.typical_feeds, shape)
        self.shape = dim_sizes(signature, self.feeds)
        self._threads, self._provider = physical_cores(), material.provider
        self._times = Times(cache_folder(), threads=self._threads, provider=self._provider)

    def law(self) -> Law:
        """Predicted nanoseconds of any cut; ops are measured when they are first asked for."""
        material, coupling = self._material, self._material.prepared.coupling
        with runnable(coupling.model) as source:
            found = profile(
                source,
                self.feeds,
                threads=self._threads,
                provider=self._provider,
                seconds=PROFILE_SECONDS,
            )
        shapes = shapes_in(coupling.model, contracted(coupling), self.feeds)
        widths = {
            group.atom: allowed_widths(group.size, timed_step(coupling, group))
            for group in material.groups
        }
        return law_of(coupling, found, shapes, self._times.of, widths)

    def race(self, model: ir.Model) -> Race:
        """The original and this model, alternately."""
        ratio = against(self._base, self._session(model), self.feeds, seconds=RACE_SECONDS)
        return Race(ratio, self._material.options.latency or 1.0)

    def save(self) -> None:
        """Keep the times of ops for the next run."""
        self._times.save()

    @cached_property
    def _base(self) -> Session:
        return self._session(self._material.prepared.original)

    def _session(self, model: ir.Model) -> Session:
        with runnable(model) as source:
            return Session(source, threads=self._threads, provider=self._provider)
