"""The law over random graphs: what no list of cases thinks of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lawkit import Build, study
from random_graph import random_graph
from random_images import random_images
from random_seams import random_seams
from random_walk import Draw

Generator = Callable[[Draw, int], tuple[Build, str]]
GENERATORS: list[Generator] = [random_graph, random_images, random_seams]
LOOSE = 1e-3
"""A chain may cancel almost to zero, and then rounding is large beside what is left. A wrong unit
shows at 1e-2 and more."""

chains = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@chains
@given(st.data(), st.sampled_from(GENERATORS))
def test_random_chains_obey_the_law(data: st.DataObject, make: Generator) -> None:
    def draw(count: int) -> int:
        return data.draw(st.integers(0, count - 1))

    build, output = make(draw, data.draw(st.integers(1, 9)))
    study(build, output).law(data.draw(st.integers(0, 9)), rounding=LOOSE)


@pytest.mark.heavy
@pytest.mark.parametrize("make", GENERATORS)
@pytest.mark.parametrize("block", range(8))
def test_many_random_chains(block: int, make: Generator) -> None:
    for seed in range(100 * block, 100 * block + 100):
        rng = np.random.default_rng(seed)
        build, output = make(lambda n: int(rng.integers(n)), 10)  # noqa: B023
        studied = study(build, output)
        for keep in (0, 1):
            try:
                studied.law(keep, rounding=LOOSE)
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
