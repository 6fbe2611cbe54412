"""What steers a run is checked before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys import mlp

from mipack.errors import InputError
from mipack.options import PruneOptions, checked
from mipack.pipeline import prune

BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "at least one budget is needed, none given"),
    ({"keep": 0.5, "from_plan": Path("x.plan.json")}, "a plan has its widths"),
    ({"shape": {"batch": 8}, "macs": 0.5}, "--shape is where --latency is measured"),
    ({"size": 2.0}, "--size 2.0: not a share"),
    ({"latency": 0}, "--latency 0: not a share"),
    ({"macs": 0.5, "latency": 1.2}, "--latency 1.2: not a share"),
    ({"max_drop": -1}, "--max-drop -1: not points"),
    ({"max_drop": "1"}, "--max-drop 1: not points"),
    ({"keep": 0}, "--keep 0: not a share"),
    ({"keep": 1.5}, "--keep 1.5: not a share"),
    ({"macs": -0.5}, "--macs -0.5: not a share"),
    ({"params": float("nan")}, "--params nan: not a share"),
    ({"keep": "abc"}, "--keep abc: not a share"),
    ({"keep": "0.5"}, "--keep 0.5: not a share"),
    ({"keep": 0.5, "criterion": "best"}, "--criterion best: not known"),
    ({"keep": 0.5, "signal": "noise"}, "--signal noise: not known"),
    ({"keep": 0.5, "allocate": "fair"}, "--allocate fair: not known"),
    ({"keep": 0.5, "provider": "tpu"}, "--provider tpu: not known"),
    ({"keep": 0.5, "round_to": 0}, "--round 0: not a multiple"),
    ({"keep": 0.5, "round_to": 2.5}, "--round 2.5: not a multiple"),
    ({"keep": 0.5, "seed": -1}, "--seed -1"),
    ({"keep": 0.5, "batch_size": 0}, "--batch-size 0"),
    ({"keep": 0.5, "colour": "red"}, "unknown option.*colour"),
]


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checked(settings)
    assert caught.value.hint and "\n" not in str(caught.value)


def test_bad_settings_are_refused_before_the_model_is_read() -> None:
    with pytest.raises(InputError, match="--keep 3"):
        prune("missing.onnx", keep=3)


@pytest.mark.parametrize("share", [1, 1.0, 0.5, 1e-6])
def test_every_share_is_taken(share: float) -> None:
    assert checked({"keep": share}).request().share == share


def test_budgets_may_be_combined() -> None:
    options = checked({"params": 0.4, "macs": 0.5, "max_drop": 1})
    assert options.request().shares == {"macs": 0.5, "params": 0.4}


@pytest.mark.parametrize("settings", [{"max_drop": 0}, {"width": 0.5}])
def test_without_a_share_nothing_else_is_cut(settings: dict[str, Any]) -> None:
    assert checked(settings).request().shares == {"keep": 1.0}


def test_defaults() -> None:
    options = checked({"macs": 0.5})
    expected = ("mi", "auto", "information", True)
    assert (options.criterion, options.signal, options.allocate, options.refit) == expected
    assert options == PruneOptions(macs=0.5)


def test_single_patterns_and_plain_paths_are_understood() -> None:
    """`only="a*"` is one pattern, not two of one letter; paths may be strings."""
    options = checked({"keep": 0.5, "only": "fc*", "exclude": ["fc1:out"], "moments": "m.npz"})
    assert options.only == ("fc*",) and options.exclude == ("fc1:out",)
    assert options.moments == Path("m.npz")
    assert checked({"from_plan": "x.plan.json"}).from_plan == Path("x.plan.json")


def test_a_single_pattern_prunes_its_group() -> None:
    toy = mlp(6, 12, 10, 3)
    result = prune(toy.proto, toy.feeds, keep=0.5, only="fc0*", allocate="uniform")
    assert [group.name for group in result.plan.groups] == ["fc0:out"]
