"""Which of several refits of one cut is gone with."""

from __future__ import annotations

import numpy as np
import pytest

from mipack.calibrate.taps import Answers
from mipack.refit import choose
from mipack.refit.choose import Candidate, best

NAMES = ("plain", "local", "bottom-up")


def chosen(monkeypatch: pytest.MonkeyPatch, *divergences: object) -> str:
    """The name chosen where candidates diverge so, sample by sample."""
    given = dict(zip(NAMES, divergences, strict=True))
    monkeypatch.setattr(choose, "divergence", lambda name, *_: np.asarray(given[name], float))
    known = Answers(("head",), ())  # type: ignore[arg-type]
    candidates = [Candidate(name, name) for name in NAMES]  # type: ignore[arg-type]
    return best(candidates, known, [object()]).chosen.name  # type: ignore[list-item]


def test_the_last_is_taken_though_one_sample_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local, walked = np.full(64, 0.02), np.full(64, 0.01)
    walked[5] = 1.5  # its mean is higher
    assert chosen(monkeypatch, local + 1, local, walked) == "bottom-up"


def test_what_is_surely_worse_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).uniform(0, 0.001, 64)
    local = np.full(64, 0.02)
    assert chosen(monkeypatch, local + 1, local, local + 0.01 + noise) == "local"


def test_no_refit_where_every_refit_has_the_higher_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = np.full(64, 0.02)
    refit = np.full(64, 0.01)
    refit[3] = 2.0
    assert chosen(monkeypatch, plain, refit, refit) == "plain"


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_numbers_that_are_not_finite_lose(monkeypatch: pytest.MonkeyPatch, broken: float) -> None:
    fine = np.full(8, 0.5)
    bad = fine.copy()
    bad[2] = broken
    assert chosen(monkeypatch, fine, fine, bad) == "local"
    assert chosen(monkeypatch, bad, fine, fine) == "bottom-up"
