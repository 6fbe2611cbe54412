"""What a user is told when the cut was too deep."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest

from mipack.errors import InputError
from mipack.material import Material
from mipack.options import PruneOptions
from mipack.select.decide import Request
from mipack.stages import advise


class Listener:
    """The options of a run, and the warnings."""

    def __init__(self, **settings: Any) -> None:
        self.options = PruneOptions(**settings)
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


class Curve:
    """Loses (1 - keep)^2; below `least` there is nothing to choose from."""

    def __init__(self, least: float = 0.0) -> None:
        self.least = least

    def widths(self, request: Request) -> float:
        if request.share < self.least:
            raise InputError("out of reach")
        return request.share

    def loss(self, widths: float) -> float:
        return (1 - widths) ** 2


def advice(agreement: float | None, decider: Any = None, **settings: Any) -> list[str]:
    listener = Listener(**{"keep": 0.4, **settings})
    measured = {"agreement": agreement, "kl": None if agreement is None else 0.3}
    advise(cast(Material, listener), decider, measured)
    return listener.said


@pytest.mark.parametrize("agreement", [None, 0.9, 0.97, 1.0])
def test_good_results_and_no_results_need_none(agreement: float | None) -> None:
    assert advice(agreement, Curve()) == []


def test_poor_agreement_names_the_keep_that_is_predicted_to_do() -> None:
    """Disagreement falls like the root of the loss: to get from 20 % to 2 %, (1 - keep)^2 falls to
    a hundredth, from 0.36 at keep 0.4 to 0.0036 at 0.94."""
    (said,) = advice(0.8, Curve())
    assert said.startswith("only 80.0% of held-out answers agree")
    assert re.search(r"--keep 0\.9[45] is predicted to give 98%", said)


def test_shares_out_of_reach_are_no_advice_and_no_error() -> None:
    (said,) = advice(0.8, Curve(least=0.6), keep=0.7)
    assert re.search(r"--keep 0\.9[78]", said)


def test_without_curves_it_only_warns() -> None:
    assert advice(0.5, None) == ["only 50.0% of held-out answers agree with the original"]
    assert "--keep" not in advice(0.5, Curve(), allocate="uniform")[0]
