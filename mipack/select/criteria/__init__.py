"""Criteria: how the units of a group are ranked. Adding one is a function and a table entry."""

from mipack.select.criteria.mi import mi
from mipack.select.criteria.norms import magnitude, random, wanda
from mipack.select.evidence import Criterion

CRITERIA: dict[str, Criterion] = {
    "mi": mi,
    "magnitude": magnitude,
    "wanda": wanda,
    "random": random,
}
