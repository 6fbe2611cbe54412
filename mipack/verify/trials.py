"""Random cuts: what rules, models and the proof itself are tried with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mipack.couple.solve import Coupling, Group
from mipack.layout import size_of
from mipack.runtime.session import Feeds
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep
from mipack.verify.oracle import Proof, prove


@dataclass(frozen=True, slots=True)
class Trial:
    """A model cut at random, and its proof."""

    pruned: ir.Model
    proof: Proof


def cuttable(coupling: Coupling) -> list[Group]:
    """Groups that surgery may cut and the oracle can follow, dependent families included."""
    return [group for group in coupling.groups if not group.frozen]


def random_keep(groups: Sequence[Group], rng: np.random.Generator) -> Keep:
    """Random units of groups, 25 to 90 % of each; dependent ones drawn anew per context unit."""
    tables, within = {}, {}
    for group in groups:
        count = max(1, round(group.size * float(rng.uniform(0.25, 0.9))))
        outer = [size_of(context)[0] for context in group.within]
        rows = [np.sort(rng.permutation(group.size)[:count]) for _ in range(int(np.prod(outer)))]
        tables[group.atom] = np.array(rows).reshape(*outer, count)
        if group.within:
            within[group.atom] = group.within
    return Keep(tables, within)


def trial(coupling: Coupling, batches: Iterable[Feeds], rng: np.random.Generator) -> Trial | None:
    """Cut everything that may be cut at random, and prove it; None where nothing may.

    Raises VerificationError where the proof fails.
    """
    groups = cuttable(coupling)
    if not groups:
        return None
    keep = random_keep(groups, rng)
    pruned = cut(coupling, keep)
    return Trial(pruned, prove(coupling, keep, pruned, batches))
