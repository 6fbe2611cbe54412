"""Which steps go together, and in which order."""

from __future__ import annotations

import pytest

from mipack.errors import InputError
from mipack.finish.order import PRECISIONS, STEPS, checked_steps


@pytest.mark.parametrize("steps", [[s] for s in STEPS] + [["ort-fused", s] for s in PRECISIONS])
def test_one_precision_after_fusion_is_fine(steps: list[str]) -> None:
    assert checked_steps(steps, data=True) == tuple(steps)


@pytest.mark.parametrize(
    ("steps", "data", "words"),
    [
        ([], True, "no step"),
        (["int4"], True, "int4: not a step"),
        (["fp16", "fp16"], True, "twice"),
        (["int8-dynamic", "int8-dynamic"], True, "twice"),
        (["fp16", "int8-dynamic"], True, "exclude each other"),
        (["int8-static", "ort-fused"], True, "cannot come after"),
        (["int8-static"], False, "needs data"),
    ],
)
def test_what_cannot_be_is_said(steps: list[str], data: bool, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        checked_steps(steps, data=data)
    assert caught.value.hint
