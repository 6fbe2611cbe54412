"""The counter of the coverage benchmark against MACs counted by hand, and the class of a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from counter import count
from laws.lawkit import Build
from onnx import TensorProto, helper

from mipack.couple.causes import GEOMETRY, INTERFACE, MISSING, RUNTIME, cause_of

F32 = np.float32
Make = Callable[[Build], str]

CASES: dict[str, tuple[tuple[int, ...], Make, int]] = {
    "MatMul": ((5, 7, 8), lambda b: b.MatMul("x", b.w(8, 3)), 5 * 7 * 8 * 3),
    "MatMul of a vector": ((8,), lambda b: b.MatMul("x", b.w(8, 3)), 8 * 3),
    "Gemm, transposed": (
        (8, 5),
        lambda b: b.Gemm("x", b.w(3, 8), transA=1, transB=1),
        5 * 8 * 3,
    ),
    "Conv, grouped": (
        (2, 4, 6, 6),
        lambda b: b.Conv("x", b.w(8, 2, 3, 3), group=2, pads=[1] * 4),
        2 * 6 * 6 * 8 * 2 * 9,
    ),
    "ConvTranspose": (
        (2, 4, 6, 6),
        lambda b: b.ConvTranspose("x", b.w(4, 3, 2, 2), strides=[2, 2]),
        2 * 6 * 6 * 4 * 3 * 4,
    ),
    "LSTM": (
        (7, 2, 3),
        lambda b: b.LSTM("x", b.w(1, 16, 3), b.w(1, 16, 4), n=2, hidden_size=4)[0],
        7 * 2 * 16 * (3 + 4),
    ),
    "Einsum of three": (
        (5, 3),
        lambda b: b.Einsum("x", b.w(3, 4), b.w(5, 4), equation="bi,ij,bj->b"),
        2 * 5 * 3 * 4,
    ),
    "Einsum of one": ((5, 3), lambda b: b.Einsum("x", equation="ij->ji"), 0),
    "Einsum, ellipsis": (
        (2, 5, 3),
        lambda b: b.Einsum("x", b.w(3, 4), equation="...i,ij->...j"),
        2 * 5 * 3 * 4,
    ),
    "com.microsoft Attention": (
        (2, 5, 8),
        lambda b: b.Attention("x", b.w(8, 24), b.w(24), domain="com.microsoft", num_heads=2),
        2 * 5 * 8 * 24 + 2 * 5 * 5 * (8 + 8),
    ),
    "com.microsoft MultiHeadAttention": (
        (2, 5, 8),
        lambda b: b.MultiHeadAttention(
            "x", b.Slice("x", [1], [4], [1]), b.Slice("x", [1], [4], [1]),
            domain="com.microsoft", num_heads=2,
        ),
        2 * 5 * 3 * (8 + 8),
    ),
    "nothing contracted": ((2, 5), lambda b: b.Relu("x"), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_macs_by_hand(name: str, tmp_path: Path) -> None:
    shape, make, expected = CASES[name]
    build = Build(x=shape)
    onnx.save(build.proto([make(build)], 18), tmp_path / "m.onnx")
    assert count(tmp_path / "m.onnx", {"x": np.ones(shape, F32)}) == expected


def test_a_loop_counts_every_run_of_its_body(tmp_path: Path) -> None:
    """Four rounds of x = x . w."""
    build = Build(x=(2, 3))
    weight = build.w(3, 3)
    known = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in [
            ("i", TensorProto.INT64, []),
            ("go", TensorProto.BOOL, []),
            ("h", TensorProto.FLOAT, [2, 3]),
            ("go_on", TensorProto.BOOL, []),
            ("h_next", TensorProto.FLOAT, [2, 3]),
        ]
    ]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", weight], ["h_next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        known[:3],
        known[3:],
    )
    y = build.Loop(build.const(4, np.int64), None, "x", body=body)
    onnx.save(build.proto([y], 18), tmp_path / "m.onnx")
    assert count(tmp_path / "m.onnx", {"x": np.ones((2, 3), F32)}) == 4 * 2 * 3 * 3


@pytest.mark.parametrize(
    ("reasons", "cause"),
    [
        ((), ""),
        (("interface: y belongs to the signature",), INTERFACE),
        (("indexed by data [Gather embed]",), RUNTIME),
        (("indexed by a list [Gather shuffle]",), MISSING),
        (("axes chosen at run time [ReduceMean r]",), RUNTIME),
        (("spatial axis [Conv c]",), GEOMETRY),
        (("no rule for my.company::Frobnicate [Frobnicate f]",), MISSING),
        (("a cut at 3 inside a block of 8 [Concat c]",), MISSING),
        (("a reason that nobody has heard of",), MISSING),
        (("no rule for X [X a]", "interface: y belongs to the signature"), INTERFACE),
        (("no rule for X [X a]", "spatial axis [Conv c]"), GEOMETRY),
    ],
)
def test_the_class_of_what_freezes(reasons: tuple[str, ...], cause: str) -> None:
    assert cause_of(reasons) == cause
