"""Sites: a contraction as a matrix product of rows, whatever op it is and however it is spelled."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Net, Toy, cnn

from mipack.calibrate.sites import blocks_at, patches
from mipack.couple.positions import unit_positions
from mipack.graph.probe import session_with
from mipack.graph.view import Window
from mipack.layout import Kind, Layout, Term, find, size_of

CONV = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, tuple[int, ...]]:
    """A window and the spatial sizes of an input that it fits into."""
    rank = draw(st.integers(1, 3))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    kernel, strides, dilations = each(1, 3), each(1, 3), each(1, 2)
    begins, ends, extra = each(0, 2), each(0, 2), each(0, 4)
    sizes = zip(kernel, dilations, extra, strict=True)
    spatial = tuple((k - 1) * d + 1 + more for k, d, more in sizes)
    return Window(kernel, strides, dilations, begins + ends), spatial


@given(windows(), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_convolution_is_patches_times_a_matrix(
    case: tuple[Window, tuple[int, ...]], channels: int, seed: int
) -> None:
    window, spatial = case
    rank = len(window.kernel)
    torch.manual_seed(seed)
    x, weight = torch.randn(2, channels, *spatial), torch.randn(4, channels, *window.kernel)
    pads = [p for axis in reversed(range(rank)) for p in (window.pads[axis::rank])]
    padded = torch.nn.functional.pad(x, pads)
    want = CONV[rank](padded, weight, stride=window.strides, dilation=window.dilations)
    got = patches(x, window) @ weight.reshape(4, -1).T
    assert got.shape == (2, want[0, 0].numel(), 4)
    torch.testing.assert_close(got, want.flatten(2).movedim(1, 2), rtol=1e-4, atol=1e-5)


@given(windows().filter(lambda case: len(case[0].kernel) == 2), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_patches_are_those_of_unfold(case: tuple[Window, tuple[int, ...]], channels: int) -> None:
    window, spatial = case
    x = torch.randn(2, channels, *spatial)
    top, left, bottom, right = window.pads
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    want = torch.nn.functional.unfold(
        padded, window.kernel, dilation=window.dilations, stride=window.strides
    )
    assert torch.equal(patches(x, window), want.movedim(1, 2))


# ---------------------------------------------------------------- the ops that make sites


def linear_toy(kind: str) -> Toy:
    """x -> relu(first linear) -> a linear of this kind, named `site`, -> y."""
    net = Net(3)
    net.input("x", ("batch", 5, 6))
    if kind == "conv":
        x = net.relu(net.conv(net.node("Unsqueeze", "x", axes_of(net, 1)), 1, 4, name="first"))
        conv = {"strides": [2, 1], "dilations": [1, 2], "pads": [0, 1, 2, 1]}
        y = net.conv(x, 4, 3, name="site", **conv)
        return finished(net, y, rank=4)
    if kind.startswith("SAME"):
        x = net.node("Unsqueeze", "x", axes_of(net, 1))
        x = net.relu(net.node("Conv", x, net.weight("first.w", (4, 1, 1, 1)), name="first"))
        conv = {"strides": [2, 1], "auto_pad": kind}
        y = net.node("Conv", x, net.weight("site.w", (3, 4, 2, 4)), name="site", **conv)
        return finished(net, y, rank=4)
    if kind == "conv3d":
        x = net.node("Unsqueeze", "x", axes_of(net, 1, 2))
        x = net.relu(net.node("Conv", x, net.weight("first.w", (4, 1, 1, 1, 1)), name="first"))
        conv = {"pads": [1, 0, 1, 0, 1, 0], "strides": [1, 2, 1]}
        y = net.node("Conv", x, net.weight("site.w", (3, 4, 2, 2, 3)), name="site", **conv)
        return finished(net, y, rank=5)
    if kind == "conv1d":
        first, weight = net.weight("first.w", (7, 5, 1)), net.weight("site.w", (3, 7, 2))
        x = net.relu(net.node("Conv", "x", first, name="first"))
        return finished(net, net.node("Conv", x, weight, name="site", pads=[1, 0]), rank=3)
    if kind == "left":
        x = net.relu(net.node("MatMul", net.weight("first.w", (7, 5)), "x", name="first"))
        y = net.node("MatMul", net.weight("site.w", (4, 7)), x, name="site")
        return finished(net, y, rank=3)
    if kind == "matmul":
        x = net.relu(net.dense("x", 6, 7, name="first"))
        return finished(net, net.dense(x, 7, 4, name="site"), rank=3)
    x = net.relu(net.dense(net.node("Flatten", "x"), 30, 7, name="first"))
    return finished(net, gemm(net, x, kind.removeprefix("gemm-")), rank=2)


def gemm(net: Net, x: str, form: str) -> str:
    """[n, 7] -> [n, 4] with a (alpha), t (transposed weight), c (bias) as the letters say."""
    operands = [x, net.weight("site.w", (4, 7) if "t" in form else (7, 4))]
    if "c" in form:
        operands.append(net.weight("site.b", net.rng.normal(size=4)))
    alpha = 0.25 if "a" in form else 1.0
    return net.node("Gemm", *operands, name="site", transB=int("t" in form), alpha=alpha)


def axes_of(net: Net, *axes: int) -> str:
    return net.weight(f"axes{len(net.weights)}", np.array(axes, np.int64))


def finished(net: Net, y: str, rank: int) -> Toy:
    feeds = [{"x": net.rng.normal(size=(8, 5, 6)).astype(np.float32)}]
    return Toy(net.proto({y: ("batch", *[None] * (rank - 1))}), feeds)


KINDS = (
    "matmul",
    "left",
    "gemm-",
    "gemm-c",
    "gemm-t",
    "gemm-ac",
    "gemm-tac",
    "conv",
    "conv1d",
    "conv3d",
)
KINDS += ("SAME_UPPER", "SAME_LOWER")


@pytest.mark.parametrize("kind", KINDS)
def test_a_site_times_its_matrix_is_what_the_node_gives(kind: str) -> None:
    toy = linear_toy(kind)
    site, feeds = toy.site("site"), toy.feeds[0]
    session = session_with(toy.coupling.model, [site.linear.x, site.linear.y])
    found = session.run(feeds, [site.linear.x, site.linear.y])
    weight = toy.coupling.constants[site.linear.w]
    rows = site.rows(torch.from_numpy(found[site.linear.x])).double().flatten(0, -2).numpy()
    y = np.moveaxis(found[site.linear.y], site.linear.y_axis, -1).reshape(-1, site.outputs)
    bias = toy.coupling.constants[site.linear.bias] if site.linear.bias else 0.0
    assert rows.shape[1] == site.features
    np.testing.assert_allclose(rows @ site.matrix(weight) + bias, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_is_the_inverse_of_matrix(kind: str) -> None:
    toy = linear_toy(kind)
    site = toy.site("site")
    weight = toy.coupling.constants[site.linear.w]
    back = site.weight(site.matrix(weight), weight)
    assert back.dtype == weight.dtype and back.shape == weight.shape
    np.testing.assert_allclose(back, weight, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_takes_cut_features_and_outputs(kind: str) -> None:
    """The matrix of a cut weight is the cut matrix."""
    toy = linear_toy(kind)
    site = toy.site("site")
    weight = toy.coupling.constants[site.linear.w]
    smaller = np.take(weight, [0, 2], site.linear.w_out)
    smaller = np.take(smaller, [1, 2, 3], site.linear.w_in)
    features = (np.array([1, 2, 3])[:, None] * site.taps + np.arange(site.taps)).reshape(-1)
    matrix = site.matrix(weight)[np.ix_(features, [0, 2])]
    np.testing.assert_allclose(site.weight(matrix, weight), smaller, rtol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_of_a_run_time_size_is_known_for_stride_one(stride: int) -> None:
    net = Net(3)
    net.input("x", ("batch", 5, "length"))
    x = net.relu(net.node("Conv", "x", net.weight("first.w", (7, 5, 1)), name="first"))
    weight, conv = net.weight("site.w", (3, 7, 4)), {"auto_pad": "SAME_LOWER", "strides": [stride]}
    net.node("Conv", x, weight, name="site", **conv)
    feeds = [{"x": net.rng.normal(size=(2, 5, n)).astype(np.float32)} for n in (8, 11)]
    toy = Toy(net.proto({net.nodes[-1].output[0]: ("batch", 3, None)}), feeds)
    found = {linear.node.name: linear.window for linear in toy.coupling.said.linears}
    assert ("site" in found) == (stride == 1)
    assert stride != 1 or found["site"].pads == (2, 1)


def test_features_of_a_unit_are_the_channel_with_its_whole_kernel() -> None:
    toy = linear_toy("conv")
    site, group = toy.site("site"), toy.group("first")
    weight = toy.coupling.constants[site.linear.w]
    blocks = blocks_at(toy.coupling, site, group)
    assert blocks.shape == (4, site.taps)
    for unit in range(4):
        silenced = weight.copy()
        silenced[:, unit] = 0
        changed = np.flatnonzero((site.matrix(weight) != site.matrix(silenced)).any(1))
        assert changed.tolist() == blocks[unit].tolist()


def test_sites_read_free_groups_in_topological_order() -> None:
    toy = cnn()
    assert [site.name for site in toy.sites] == ["wide", "inner", "outer", "hidden", "head"]


# ---------------------------------------------------------------- unit positions


@st.composite
def axes(draw: st.DrawFn) -> tuple[Term, Term]:
    """An axis in which an atom occurs, at most once in a product."""
    layout = Layout()
    atom = layout.atom(draw(st.integers(1, 4)))
    size = st.integers(1, 3)

    def grow(term: Term) -> Term:
        others = [layout.atom(draw(size)) for _ in range(draw(st.integers(0, 2)))]
        parts = [*others, term]
        kind = draw(st.sampled_from(["sum", "twice", "prod"]))
        if kind == "prod":
            return layout.prod(draw(st.permutations(parts)))
        return layout.sum(draw(st.permutations([*parts, term] if kind == "twice" else parts)))

    term = atom
    for _ in range(draw(st.integers(0, 3))):
        term = grow(term)
    return term, atom


def units_at(term: Term, atom: Term) -> list[int | None]:
    """For every position of an axis the unit of the atom that it stands for, spelled out."""
    term = find(term)
    if term is find(atom):
        return list(range(size_of(term)[0]))
    if term.kind is Kind.ATOM:
        return [None] * size_of(term)[0]
    listed = [units_at(part, atom) for part in term.parts]
    if term.kind is Kind.SUM:
        return [unit for part in listed for unit in part]
    return [next((u for u in row if u is not None), None) for row in product(*listed)]


@given(axes())
@settings(deadline=None)
def test_unit_positions_against_spelling_out(case: tuple[Term, Term]) -> None:
    term, atom = case
    spelled = units_at(term, atom)
    found = unit_positions(term, atom)
    for unit, positions in enumerate(found):
        assert positions.tolist() == [k for k, u in enumerate(spelled) if u == unit]


def test_unit_positions_of_a_deep_sum() -> None:
    """Refinement nests sums as deep as an axis is long."""
    layout = Layout()
    axis = rest = layout.atom(1200)
    for left in range(1199, 1, -1):
        rest = layout.piece(rest, 1, left + 1)
    assert size_of(rest)[0] == 2
    assert unit_positions(axis, rest).tolist() == [[1198], [1199]]
