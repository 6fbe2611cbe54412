"""Random cuts of every model of the zoo pass the oracle on all calibration files.

Every group that may be cut is cut, each to another random share, head dims differently in every
head: the cut model must equal the original with the cut units silenced, at batch sizes and lengths
that no probe saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mipack.couple.solve import Coupling
from mipack.data.dataset import ReadOptions
from mipack.prepare import open_model, prepare, read_data
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep
from mipack.verify.oracle import prove
from mipack.verify.trials import cuttable, trial

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"
MODELS = sorted(path.parent.name for path in ZOO.glob("*/model.onnx")) or ["(no zoo)"]
NOTHING_KNOWN = 10
"""At most so many of the zoo's models may have nothing to cut (ops without a rule yet)."""
Feeds = dict[str, np.ndarray]


@cache
def coupled(name: str) -> Coupling:
    path = ZOO / name / "model.onnx"
    model = open_model(path)
    return prepare(path, read_data(path, model, path.parent / "calib", ReadOptions())).coupling


def calibration(name: str) -> Iterator[Feeds]:
    for file in sorted((ZOO / name / "calib").glob("*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            yield dict(arrays)


def cut_at_random(name: str, seed: int) -> bool:
    """Cut and prove; False where nothing may be cut."""
    coupling = coupled(name)
    tried = trial(coupling, calibration(name), np.random.default_rng([seed, *name.encode()]))
    if tried is None:
        return False
    assert smaller(coupling, tried.pruned)
    return True


def smaller(coupling: Coupling, pruned: object) -> bool:
    before, after = (
        sum(v.const_value.size for v in model.graph.initializers.values())
        for model in (coupling.model, pruned)
    )
    return after < before


@pytest.mark.parametrize("name", MODELS)
def test_a_random_cut_is_exact(shared: Path, name: str) -> None:
    cut_at_random(name, 0)


def test_most_models_have_something_to_cut(shared: Path) -> None:
    found = [name for name in MODELS if cuttable(coupled(name))]
    assert len(found) >= len(MODELS) - NOTHING_KNOWN, sorted(set(MODELS) - set(found))


@pytest.mark.heavy
@pytest.mark.parametrize("name", MODELS)
def test_every_group_that_may_go_goes_alone(shared: Path, name: str) -> None:
    coupling = coupled(name)
    for group in coupling.groups:
        if coupling.removable(group):
            keep = Keep.of({group: np.zeros((*group.shape[:-1], 0), np.int64)})
            pruned = cut(coupling, keep)
            assert prove(coupling, keep, pruned, calibration(name)).holds
            assert smaller(coupling, pruned)


@pytest.mark.heavy
@pytest.mark.parametrize("name", MODELS)
def test_three_more_random_cuts_are_exact(shared: Path, name: str) -> None:
    for seed in (1, 2, 3):
        cut_at_random(name, seed)
