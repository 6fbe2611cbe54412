"""Criteria: how the units of a group are ranked. Adding one is a function and a table entry."""

from mipack.select.criteria.mi import mi
from mipack.select.criteria.mi_layerwise import mi_layerwise
from mipack.select.criteria.mipp import PREDICTORS, mipp
from mipack.select.criteria.norms import magnitude, magnitude_l1, random, wanda
from mipack.select.criteria.obs import obs
from mipack.select.criteria.sdp import sdp
from mipack.select.criteria.sensitivity import fisher, taylor
from mipack.select.evidence import Criterion

CRITERIA: dict[str, Criterion] = {
    "mi": mi,
    "mi-layerwise": mi_layerwise,
    "mipp": mipp,
    "obs": obs,
    "sdp": sdp,
    "taylor": taylor,
    "fisher": fisher,
    "magnitude": magnitude,
    "magnitude-l1": magnitude_l1,
    "wanda": wanda,
    "random": random,
}

OF_ROWS = ("mi-layerwise", "mipp")
"""Criteria that sums are not enough for: calibration draws a sample of rows."""

OF_GRADIENTS = ("taylor", "fisher")
"""Criteria of nothing but gradients: of labels where there are, and never without."""

OF_SIGNAL = ("mi",)
"""Criteria that `--signal` speaks to."""

REPAIRING = ("sdp",)
"""Criteria whose refit is least squares per layer and then gives outputs their variance back."""

OF_WEIGHTS = ("magnitude", "magnitude-l1", "random")
"""Criteria that need no data."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "mi-layerwise": ("estimator",),
    "mipp": ("estimator", "confidence", "mipp_predictor"),
}
"""What a criterion reads of `CriterionOptions`."""

__all__ = [
    "CRITERIA",
    "OF_GRADIENTS",
    "OF_ROWS",
    "OF_SIGNAL",
    "OF_WEIGHTS",
    "OPTIONS",
    "PREDICTORS",
    "REPAIRING",
]
