"""The oracle: what counts as equal, and that wrong cuts are noticed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from laws.lawkit import Build, Studied, study

from mipack.errors import VerificationError
from mipack.graph.adjust import set_weight
from mipack.graph.load import runnable
from mipack.runtime.session import Session
from mipack.surgery.cut import cut
from mipack.surgery.mask import masked
from mipack.verify.oracle import distance, prove

ONES = np.ones((2, 3), np.float32)


# ---------------------------------------------------------------- what counts as equal


def test_distance_is_relative_to_the_largest_entry() -> None:
    want = np.array([0.0, 200.0], np.float32)
    assert distance(want, want) == 0
    assert distance(want + np.float32(1), want) == pytest.approx(1 / 200)
    assert distance(ONES * 0, ONES * 0) == 0
    assert distance(ONES, ONES * 0) == np.inf


@pytest.mark.parametrize(
    "got",
    [
        ONES[:1],
        ONES.astype(np.float64),
        np.where(np.eye(2, 3) > 0, np.nan, ONES).astype(np.float32),
        np.where(np.eye(2, 3) > 0, np.inf, ONES).astype(np.float32),
        [ONES],
    ],
    ids=["shape", "type", "nan", "inf", "sequence"],
)
def test_distance_is_infinite_where_there_is_no_comparing(got: object) -> None:
    assert distance(got, ONES) == np.inf


def test_what_is_not_finite_in_both_agrees_where_it_is_the_same() -> None:
    want = np.array([1, np.nan, np.inf, -np.inf], np.float32)
    assert distance(want.copy(), want) == 0
    assert distance(want * np.float32(1.5), want) == pytest.approx(0.5)
    assert distance(np.array([1, np.nan, np.inf, np.inf], np.float32), want) == np.inf
    assert distance(np.array([1, 0, np.inf, -np.inf], np.float32), want) == np.inf
    assert distance(np.full(3, np.nan), np.full(3, np.nan)) == 0


def test_numbers_that_are_no_floats_agree_or_not() -> None:
    counts = np.array([1, 2, 3])
    assert distance(counts, counts.copy()) == 0
    assert distance(counts + 1, counts) == np.inf
    words = np.array(["a", "b"], object)
    assert distance(words, words.copy()) == 0
    assert distance(words[::-1], words) == np.inf
    assert distance(np.array([True]), np.array([False])) == np.inf
    assert distance([ONES, ONES], [ONES, ONES]) == 0


def test_halves_are_compared() -> None:
    half = ONES.astype(np.float16)
    assert distance(half, half) == 0
    assert distance(half * np.float16(1.5), half) == pytest.approx(0.5)


# ---------------------------------------------------------------- wrong cuts


def network() -> Studied:
    b = Build(x=("B", "S", 16))
    h = b.lin(b.Sigmoid(b.lin("x", 16, 24)), 24, 12)
    return study(b, [b.lin(b.Tanh(h), 12, 5), b.ReduceSum(b.lin(b.Relu(h), 12, 3))])


def test_a_right_cut_is_proven() -> None:
    studied = network()
    keep = studied.keep(0)
    proof = prove(studied.coupling, keep, cut(studied.coupling, keep), studied.feeds)
    assert proof.holds
    assert proof.batches == 3
    assert len(proof.errors) == 2
    assert proof.worst == max(proof.errors.values()) < 1e-5


def rolled(model: ir.Model, name: str, axis: int) -> None:
    array = model.graph.initializers[name].const_value.numpy()
    set_weight(model.graph, name, np.roll(array, 1, axis))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: rolled(m, "w1", 1),  # the same units in another order
        lambda m: rolled(m, "w6", 0),
        lambda m: rolled(m, "w3", 0),
        lambda m: set_weight(m.graph, "w8", m.graph.initializers["w8"].const_value.numpy() + 0.01),
    ],
    ids=["made", "read", "bias", "value"],
)
def test_a_wrong_weight_is_noticed(spoil: Callable[[ir.Model], None]) -> None:
    studied = network()
    keep = studied.keep(0)
    pruned = cut(studied.coupling, keep)
    spoil(pruned)
    with pytest.raises(VerificationError, match="relative error") as caught:
        prove(studied.coupling, keep, pruned, studied.feeds)
    assert caught.value.hint


def test_other_units_than_planned_are_noticed() -> None:
    studied = network()
    with pytest.raises(VerificationError):
        prove(
            studied.coupling,
            studied.keep(0),
            cut(studied.coupling, studied.keep(1)),
            studied.feeds,
        )


# ---------------------------------------------------------------- behind a choice


def choosing() -> tuple[Studied, ir.Model]:
    """The better of two classes whose weights are equal up to rounding, and what is made of it."""
    b = Build(x=("B", 16))
    h = b.Tanh(b.lin("x", 16, 32))
    column = b.rng.standard_normal((32, 1))
    best = b.ArgMax(b.MatMul(h, b.const(np.repeat(column, 2, axis=1))), axis=1)
    number = b.Add(b.Cast(best, to=1), np.float32(1))
    studied = study(b, [b.lin(number, 1, 5), b.lin(h, 32, 3)])
    return studied, cut(studied.coupling, studied.keep(0))


def scaled(model: ir.Model, width: int, by: float, *, last: bool = False) -> None:
    """Scale the weight of this width, or its last column."""
    (name,) = (n for n, v in model.graph.initializers.items() if tuple(v.shape)[1:] == (width,))
    array = model.graph.initializers[name].const_value.numpy().copy()
    array[:, width - 1 if last else 0 :] *= np.float32(by)
    set_weight(model.graph, name, array)


def batches(studied: Studied) -> list[dict[str, np.ndarray]]:
    """Samples one by one: on some of them the choice comes out alike."""
    rows = np.concatenate([feeds["x"] for feeds in studied.feeds])
    return [{"x": row[None]} for row in rows]


def test_what_is_behind_a_tipped_choice_is_held_to_what_was_chosen_from() -> None:
    studied, pruned = choosing()
    scaled(pruned, 2, 1 + 1e-6, last=True)  # as rounding would
    proof = prove(studied.coupling, studied.keep(0), pruned, batches(studied))
    assert proof.holds
    assert 0 < proof.worst < 1e-5


def test_a_choice_between_other_numbers_is_no_excuse() -> None:
    studied, pruned = choosing()
    scaled(pruned, 2, 1 + 1e-2, last=True)
    with pytest.raises(VerificationError):
        prove(studied.coupling, studied.keep(0), pruned, batches(studied))


@pytest.mark.parametrize("width", [5, 3], ids=["behind the choice", "beside it"])
def test_another_wrong_weight_is_no_choice(width: int) -> None:
    studied, pruned = choosing()
    scaled(pruned, 2, 1 + 1e-6, last=True)
    scaled(pruned, width, 1.1)
    with pytest.raises(VerificationError):
        prove(studied.coupling, studied.keep(0), pruned, batches(studied))


def test_a_choice_that_came_out_alike_is_no_excuse() -> None:
    studied, pruned = choosing()
    scaled(pruned, 5, 1.1)
    with pytest.raises(VerificationError):
        prove(studied.coupling, studied.keep(0), pruned, batches(studied))


def test_numbers_that_were_never_compared_are_not_proven() -> None:
    """Where the choice tips on every batch, all behind it would be excused."""
    studied, pruned = choosing()
    scaled(pruned, 2, 1 + 1e-6, last=True)
    tipped = [feeds for feeds in batches(studied) if not _proven(studied, pruned, feeds)]
    assert tipped
    with pytest.raises(VerificationError):
        prove(studied.coupling, studied.keep(0), pruned, tipped)


def _proven(studied: Studied, pruned: ir.Model, feeds: dict[str, np.ndarray]) -> bool:
    try:
        return prove(studied.coupling, studied.keep(0), pruned, [feeds]).holds
    except VerificationError:
        return False


# ---------------------------------------------------------------- the masked original


def test_the_masked_original_has_its_own_shapes_and_zeros_at_cut_units() -> None:
    studied = network()
    keep = studied.keep(0)
    model = masked(studied.coupling, keep)
    group = studied.cuttable[0]
    kept = keep.flat(group.atom)
    weight = model.graph.initializers["w1"].const_value.numpy()
    original = studied.coupling.constants["w1"]
    assert weight.shape == original.shape
    gone = np.setdiff1d(np.arange(group.size), kept)
    assert (weight[:, gone] == 0).all()
    np.testing.assert_array_equal(weight[:, kept], original[:, kept])


def test_nothing_cut_masks_nothing() -> None:
    studied = network()
    model = masked(studied.coupling, type(studied.keep(0))({}))
    assert [n.op_type for n in model.graph] == [n.op_type for n in studied.coupling.model.graph]


def test_minus_infinity_is_silenced_to_zero() -> None:
    """log(0) at a cut unit times 0 would be NaN."""
    b = Build(x=("B", 16))
    h = b.Log(b.Relu(b.lin("x", 16, 24)))
    studied = study(b, b.lin(b.Clip(h, np.float32(-5)), 24, 5))
    keep = studied.keep(0)
    with runnable(masked(studied.coupling, keep)) as source:
        values = Session(source, optimize=False).run(studied.feeds[0])
    assert all(np.isfinite(v).all() for v in values.values())
    assert prove(studied.coupling, keep, cut(studied.coupling, keep), studied.feeds).holds
