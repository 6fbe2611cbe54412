"""Feeds without data: sizes per dimension, values, resizing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipack.data.dims import dynamic_axes
from mipack.data.synthetic import choose_sizes, dim_sizes, resize_feeds, synthetic_feeds
from mipack.errors import InputError
from mipack.records import Signature, TensorSpec

Make = Callable[..., Signature]


def test_dimensions_of_one_name_are_equal_and_others_differ(signature: Make) -> None:
    decoder = signature(
        ("input_ids", "int64", ("batch", "sequence")),
        ("attention_mask", "int64", ("batch", "past_length + sequence")),
        ("past.0", "float32", ("batch", 2, "past_length", 8)),
        ("image", "float32", (None, 3, None, None)),
    )
    feeds = synthetic_feeds(decoder)
    sizes = dim_sizes(decoder, feeds)
    assert sizes["past_length + sequence"] == sizes["past_length"] + sizes["sequence"]
    assert set(sizes) == {
        "batch", "sequence", "past_length", "past_length + sequence",
        "image:0", "image:2", "image:3",
    }  # fmt: skip
    assert len(set(sizes.values())) == len(sizes) and min(sizes.values()) > 1
    assert feeds["past.0"].shape == (sizes["batch"], 2, sizes["past_length"], 8)


@given(
    shapes=st.lists(
        st.lists(
            st.sampled_from([None, "a", "b", "c", "a + 1", "2*b", "a+b", "c_plus_b", 1, 4]),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_sizes_obey_their_names(shapes: list[list[Any]]) -> None:
    specs = [TensorSpec(f"x{at}", "float32", tuple(shape)) for at, shape in enumerate(shapes)]
    signature = Signature(tuple(specs), ())
    chosen = choose_sizes(signature, {}, tie_samples=False)
    sizes = {key: chosen[key] for _, _, key in dynamic_axes(signature)}
    basic = [size for key, size in sizes.items() if not any(sign in key for sign in "+*")]
    assert len(set(basic)) == len(basic) and min(sizes.values(), default=2) > 1
    if {"a", "a + 1"} <= sizes.keys():
        assert sizes["a + 1"] == sizes["a"] + 1
    if {"b", "2*b"} <= sizes.keys():
        assert sizes["2*b"] == 2 * sizes["b"]
    if {"a", "b", "a+b"} <= sizes.keys():
        assert sizes["a+b"] == sizes["a"] + sizes["b"]
    if {"c", "b", "c_plus_b"} <= sizes.keys():
        assert sizes["c_plus_b"] == sizes["c"] + sizes["b"]


def test_values_by_type(signature: Make) -> None:
    specs = signature(
        ("ids", "int64", ("n", 50)), ("my_mask", "int32", ("n", 50)), ("flag", "bool", ("n", 50)),
        ("x", "float16", ("n", 50)), ("b", "bfloat16", ("n", 50)), ("s", "str", ("n",)),
    )  # fmt: skip
    feeds = synthetic_feeds(specs)
    assert {array.dtype.name for name, array in feeds.items() if name != "s"} == {
        "int64", "int32", "bool", "float16", "bfloat16",
    }  # fmt: skip
    assert set(feeds["ids"].ravel().tolist()) == {0, 1}
    assert (feeds["my_mask"] == 1).all()
    assert 0.2 < feeds["x"].std() < 0.8
    assert feeds["s"].dtype.kind == "U"
    again = synthetic_feeds(specs)
    assert all((feeds[name] == again[name]).all() for name in feeds)
    assert (feeds["x"] != synthetic_feeds(specs, seed=1)["x"]).any()


def test_sizes_and_shapes_can_be_given(signature: Make) -> None:
    specs = signature(("x", "float32", ("n", "t")), ("y", "float32", ("n", "t + 1", None)))
    feeds = synthetic_feeds(specs, sizes={"n": 1, "y:2": 5}, shapes={"x": (1, 9)})
    assert feeds["x"].shape == (1, 9)
    assert feeds["y"].shape == (1, 10, 5)


def test_sample_axes_can_be_tied(signature: Make) -> None:
    specs = signature(("x", "float32", (None, 2)), ("y", "float32", ("rows", 3)))
    free, tied = synthetic_feeds(specs), synthetic_feeds(specs, tie_samples=True)
    assert len(free["x"]) != len(free["y"])
    assert len(tied["x"]) == len(tied["y"]) > 1
    given = synthetic_feeds(specs, sizes={"rows": 7}, tie_samples=True)
    assert len(given["x"]) == len(given["y"]) == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": {"m": 3}}, "no dynamic dimension 'm'"),
        ({"sizes": {"n": -1}}, "cannot have size -1"),
        ({"shapes": {"z": (1,)}}, "no input 'z'"),
        ({"shapes": {"x": (1,)}}, "contradicts"),
        ({"shapes": {"x": (2, 5)}}, "contradicts"),
        ({"shapes": {"x": (2, 4), "y": (3,)}}, "two sizes"),
    ],
)
def test_sizes_that_cannot_be_are_refused(signature: Make, options: Any, words: str) -> None:
    specs = signature(("x", "float32", ("n", 4)), ("y", "float32", ("n",)))
    with pytest.raises(InputError, match=words):
        synthetic_feeds(specs, **options)


def test_an_input_without_rank_needs_a_shape(signature: Make) -> None:
    specs = signature(("x", "float32", None))
    with pytest.raises(InputError, match="declares no rank"):
        synthetic_feeds(specs)
    assert synthetic_feeds(specs, shapes={"x": (2, 3)})["x"].shape == (2, 3)


def test_resizing_repeats_and_cuts(signature: Make) -> None:
    specs = signature(
        ("x", "int64", ("n", "t")),
        ("mask", "int64", ("n", "past + t")),
        ("past", "float32", ("n", "past", 2)),
    )
    feeds = synthetic_feeds(specs, sizes={"past": 0})
    resized = resize_feeds(specs, feeds, {"n": 5, "t": 3, "past": 4})
    assert {name: array.shape for name, array in resized.items()} == {
        "x": (5, 3),
        "mask": (5, 7),
        "past": (5, 4, 2),
    }
    had = len(feeds["x"])
    np.testing.assert_array_equal(resized["x"][4], feeds["x"][4 % had, :3])
    assert dim_sizes(specs, resized) == {"n": 5, "t": 3, "past + t": 7, "past": 4}
    same = resize_feeds(specs, feeds, dim_sizes(specs, feeds))
    assert all((same[name] == feeds[name]).all() for name in feeds)


def test_sizes_of_feeds_are_checked(signature: Make) -> None:
    specs = signature(("x", "float32", ("n", 2)), ("y", "float32", ("n",)))
    with pytest.raises(InputError, match="'n' has size 3 in input 'x', but 4 in 'y'"):
        dim_sizes(specs, {"x": np.zeros((3, 2)), "y": np.zeros(4)})
    with pytest.raises(InputError, match="no array of rank 1 for input 'y'"):
        dim_sizes(specs, {"x": np.zeros((3, 2))})
    with pytest.raises(InputError, match="no dynamic dimension 'q'"):
        resize_feeds(specs, {"x": np.zeros((3, 2)), "y": np.zeros(3)}, {"q": 2})
