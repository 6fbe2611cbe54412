"""What sinks, how far, and what must not: one small model for each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from lawkit import Build, Feeds
from onnx import TensorProto
from selecting import Tried, tried

from mipack.couple.solve import couple
from mipack.graph.load import digest
from mipack.graph.probe import probe

HEADS, DIM = 2, 4
WIDTH = HEADS * DIM
EXACT = 1e-5


def made(
    make: Callable[[Build], str | list[str]], opset: int = 18, **inputs: object
) -> tuple[Tried, tuple[Feeds, ...]]:
    build = Build(**(inputs or {"x": ("B", "S", WIDTH)}))  # type: ignore[arg-type]
    outputs = make(build)
    listed = [outputs] if isinstance(outputs, str) else outputs
    feeds = build.feeds()
    found = tried(build.proto(listed, opset), feeds)
    if found.found is not None:
        assert found.error(feeds) <= EXACT
    return found, feeds


def macs(model: object, feeds: tuple[Feeds, ...]) -> int:
    """Multiply-adds of the first probe."""
    return couple(model, probe(model, feeds[:2])).cost.macs({})  # type: ignore[arg-type]


def gone(found: Tried, feeds: tuple[Feeds, ...]) -> int:
    """Multiply-adds left out, counted on the graphs."""
    assert found.found is not None
    return macs(found.model, feeds) - macs(found.found.model, feeds)


def split_heads(b: Build, x: str) -> str:
    """[B, S, W] -> [B, H, S, D], with sizes read from the tensor itself."""
    sizes = [b.Unsqueeze(b.Gather(b.Shape(x), np.int64(k)), [0]) for k in (0, 1)]
    return str(
        b.Transpose(b.Reshape(x, b.Concat(*sizes, [HEADS], [DIM], axis=0)), perm=[0, 2, 1, 3])
    )


def layer(b: Build, x: str, mask: str | None = None) -> str:
    """Attention and a residual, in the way that exporters write it."""
    q, k, v = (split_heads(b, b.lin(x, WIDTH, WIDTH)) for _ in range(3))
    scores = b.Mul(b.MatMul(q, b.Transpose(k, perm=[0, 1, 3, 2])), np.float32(DIM**-0.5))
    if mask is not None:
        scores = b.Add(scores, mask)
    mixed = b.Transpose(b.MatMul(b.Softmax(scores, axis=-1), v), perm=[0, 2, 1, 3])
    sizes = [b.Unsqueeze(b.Gather(b.Shape(mixed), np.int64(k)), [0]) for k in (0, 1)]
    merged = b.Reshape(mixed, b.Concat(*sizes, [WIDTH], axis=0))
    norm = [b.positive(WIDTH), b.w(WIDTH)]
    y = b.LayerNormalization(b.Add(b.lin(merged, WIDTH, WIDTH), x), *norm, axis=-1)
    return str(b.Add(b.lin(b.Relu(b.lin(y, WIDTH, 24)), 24, WIDTH), y))


def queries_of(rows: int) -> int:
    """Multiply-adds of a layer for so many rows of queries, of B = 2 and S = 7."""
    return 2 * rows * (2 * WIDTH * WIDTH + 2 * 7 * WIDTH + 2 * 24 * WIDTH)


def test_the_last_layer_runs_on_the_one_position_that_is_read() -> None:
    found, feeds = made(
        lambda b: b.lin(b.Gather(layer(b, layer(b, "x")), np.int64(0), axis=1), 8, 5)
    )
    assert gone(found, feeds) == queries_of(7) - queries_of(1)


def test_the_given_model_stays_as_it_is() -> None:
    build = Build(x=("B", "S", WIDTH))
    proto = build.proto([build.Gather(layer(build, "x"), np.int64(0), axis=1)], 18)
    before, after = tried(proto, build.feeds()), tried(proto, build.feeds())
    assert digest(before.model) == digest(after.model) and before.found is not None


@pytest.mark.parametrize("index", [np.int64(-1), np.array([-1]), np.array([-1, -2])])
def test_last_positions_of_any_length(index: object) -> None:
    found, feeds = made(lambda b: b.Gather(layer(b, "x"), index, axis=1))
    assert gone(found, feeds) == queries_of(7) - queries_of(np.size(index))


def test_a_mask_of_every_query_is_selected_from() -> None:
    def make(b: Build) -> str:
        rows = b.Unsqueeze(
            b.Range(np.int64(0), b.Gather(b.Shape("x"), np.int64(1)), np.int64(1)), [1]
        )
        causal = b.Where(
            b.Less(rows, b.Transpose(rows, perm=[1, 0])), np.float32(-1e9), np.float32(0)
        )
        return str(b.Gather(layer(b, layer(b, "x", causal), causal), np.int64(-1), axis=1))

    found, feeds = made(make)
    assert gone(found, feeds) == queries_of(7) - queries_of(1)


def test_two_readers_of_different_positions_get_both() -> None:
    def make(b: Build) -> str:
        y = layer(b, "x")
        return str(b.Add(b.Gather(y, np.int64(0), axis=1), b.Gather(y, np.int64(2), axis=1)))

    found, feeds = made(make)
    assert gone(found, feeds) == queries_of(7) - queries_of(2)


@pytest.mark.parametrize("other", ["output", "sum", "body"])
def test_what_is_read_whole_elsewhere_stays_whole(other: str) -> None:
    def make(b: Build) -> list[str]:
        y = layer(b, "x")
        part = b.Gather(y, np.int64(0), axis=1)
        if other == "output":
            return [part, y]
        if other == "sum":
            return [part, b.ReduceSum(y, [1], keepdims=0)]
        body = b.body(lambda: b.Neg(y))
        positive = b.Greater(b.ReduceSum("x", keepdims=0), np.float32(0))
        return [part, b.If(positive, then_branch=body, else_branch=b.body(lambda: b.Abs(y)))]

    assert made(make)[0].found is None


def test_a_layer_on_merged_axes() -> None:
    """[B, S, W] -> [B S, W], a Gemm, and back."""

    def make(b: Build) -> str:
        flat = b.Gemm(b.Reshape("x", [-1, WIDTH]), b.w(WIDTH, 24), b.w(24))
        sizes = [b.Gather(b.Shape("x"), [k]) for k in (0, 1)]
        y = b.Reshape(flat, b.Concat(*sizes, [24], axis=0))
        return str(b.Gather(b.Relu(y), np.int64(0), axis=1))

    found, feeds = made(make)
    assert gone(found, feeds) == 2 * 6 * WIDTH * 24


def test_where_a_part_of_merged_axes_would_be_selected_nothing_sinks() -> None:
    def make(b: Build) -> list[str]:
        flat = b.Sigmoid(b.Reshape("x", [-1, WIDTH]))
        sizes = [b.Gather(b.Shape("x"), [k]) for k in (0, 1)]
        y = b.Reshape(b.lin(flat, WIDTH, 24), b.Concat(*sizes, [24], axis=0))
        return [b.Gather(y, np.int64(0), axis=1), b.ReduceSum(flat, keepdims=0)]

    assert made(make)[0].found is None


def test_columns_that_nobody_reads_leave_the_weight() -> None:
    found, feeds = made(lambda b: b.Slice(b.Relu(b.lin("x", WIDTH, 24)), [3], [9], [2]))
    assert gone(found, feeds) == 2 * 7 * WIDTH * 18
    assert found.found is not None
    shapes = [tuple(v.shape.numpy()) for v in found.found.model.graph.initializers.values()]
    assert (WIDTH, 6) in shapes and (WIDTH, 24) not in shapes


def test_slices_by_attributes() -> None:
    found, feeds = made(
        lambda b: b.Slice(b.MatMul("x", b.w(WIDTH, 24)), starts=[3], ends=[9], axes=[-1]), opset=9
    )
    assert gone(found, feeds) == 2 * 7 * WIDTH * 18


def test_an_index_that_data_tells() -> None:
    """The same position for all samples, where the input's sum is largest."""

    def make(b: Build) -> str:
        at = b.ArgMax(b.ReduceSum("x", [0, 2], keepdims=0), axis=0, keepdims=0)
        return str(b.Gather(b.lin("x", WIDTH, 24), at, axis=1))

    found, feeds = made(make)
    assert gone(found, feeds) == 2 * 6 * WIDTH * 24


def test_another_position_for_every_sample_is_left_alone() -> None:
    def make(b: Build) -> str:
        at = b.ArgMax(b.ReduceSum("x", [2], keepdims=0), axis=1, keepdims=1)
        return str(b.GatherND(b.lin("x", WIDTH, 24), at, batch_dims=1))

    assert made(make)[0].found is None


def test_a_scale_over_all_numbers_needs_all_of_them() -> None:
    """A dynamically quantised layer in front: the scale is that of the whole tensor."""

    def make(b: Build) -> str:
        h = b.lin("x", WIDTH, 24)
        q, scale, zero = b.DynamicQuantizeLinear(h, n=3)
        weight = b.const(b.rng.integers(-90, 90, (24, 6)), np.int8)
        y = b.Mul(b.Cast(b.MatMulInteger(q, weight, zero), to=TensorProto.FLOAT), scale)
        return str(b.Gather(y, np.int64(0), axis=1))

    found, _ = made(make)
    assert found.found is not None
    less = {n.op_type for n in found.model.graph if n.name in found.found.left}
    assert "MatMulInteger" in less and "MatMul" not in less


def test_nothing_changes_where_nothing_multiplies_less() -> None:
    assert made(lambda b: b.Gather(b.Sigmoid(b.Relu("x")), np.int64(0), axis=1))[0].found is None


def test_sizes_told_from_what_has_shrunk_are_those_of_the_original() -> None:
    def make(b: Build) -> str:
        h = b.Relu(b.lin("x", WIDTH, 24))
        whole = b.Cast(b.ReduceProd(b.Shape(h), keepdims=0), to=TensorProto.FLOAT)
        return str(b.Mul(b.Gather(h, np.int64(0), axis=1), whole))

    found, feeds = made(make)
    assert gone(found, feeds) == 2 * 6 * WIDTH * 24


# ---------------------------------------------------------------- duplicates


def test_a_branch_that_repeats_another_goes() -> None:
    def make(b: Build) -> str:
        w = b.w(WIDTH, 24)
        once, again = (b.Relu(b.Add(b.MatMul("x", w), np.float32(0.5))) for _ in range(2))
        return str(b.Add(once, b.Sigmoid(again)))

    found, feeds = made(make)
    assert gone(found, feeds) == 2 * 7 * WIDTH * 24
    assert found.found is not None and len(list(found.found.model.graph)) == 5


@pytest.mark.parametrize("what", ["output", "other weight", "random"])
def test_what_is_no_duplicate_stays(what: str) -> None:
    def make(b: Build) -> list[str]:
        w = b.w(WIDTH, 24)
        if what == "output":
            return [b.MatMul("x", w), b.MatMul("x", w)]
        if what == "other weight":
            return [b.Add(b.MatMul("x", w), b.MatMul("x", b.w(WIDTH, 24)))]
        drawn = [b.Bernoulli(b.Sigmoid("x"), seed=1.0) for _ in range(2)]
        return [b.Add(*(b.MatMul(d, w) for d in drawn))]

    assert made(make)[0].found is None


def test_positions_told_by_what_they_would_narrow() -> None:
    """The index hangs on another size of the tensor: other selections sink all the same."""

    def make(b: Build) -> list[str]:
        h = b.Relu(b.lin("x", WIDTH, 24))
        at = b.Sub(b.Gather(b.Shape(h), np.int64(0)), np.int64(1))
        return [b.Gather(h, at, axis=1), b.Gather(b.lin("x", WIDTH, 6), np.int64(0), axis=1)]

    found, feeds = made(make)
    assert gone(found, feeds) == 2 * 6 * WIDTH * 6
