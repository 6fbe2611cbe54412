"""Convolutions: the channel axes; spatial axes are frozen."""

from __future__ import annotations

from collections.abc import Sequence

from mipack.graph.view import NodeView, Window
from mipack.layout import Term, is_static, size_of
from mipack.ops.registry import rule


@rule("Conv")
def conv(n: NodeView) -> None:
    """Weight [out, in/groups, kernel..]: out = G x q and in = G x in/groups where grouped."""
    channels(n, x=0, w=1, transposed=False)
    if n.has(2):
        n.eq(n.x(2)[0], n.y()[1])
    window = _window(n)
    if n.attr("group", 1) == 1 and window is not None:
        n.linear(0, 1, x_axis=1, y_axis=1, w_in=1, w_out=0, bias=2, window=window)


@rule("ConvTranspose")
def conv_transpose(n: NodeView) -> None:
    """Weight [in, out/groups, kernel..]."""
    channels(n, x=0, w=1, transposed=True)
    if n.has(2):
        n.eq(n.x(2)[0], n.y()[1])


@rule("com.microsoft::ConvTransposeWithDynamicPads")
def conv_transpose_padded(n: NodeView) -> None:
    """ConvTranspose whose pads are an operand."""
    channels(n, x=0, w=1, transposed=True)
    n.ignore(2)
    if n.has(3):
        n.eq(n.x(3)[0], n.y()[1])


@rule("DeformConv")
def deform_conv(n: NodeView) -> None:
    """Each block of in / offset_group channels is read at places of its own."""
    channels(n, x=0, w=1, transposed=False)
    data, blocks = n.x(0), n.atom(int(n.attr("offset_group", 1)))
    n.freeze(blocks, "block of a deformation")
    n.eq(data[1], n.prod(blocks, n.atom(size_of(data[1])[0] // size_of(blocks)[0])))
    for places in (n.x(2), n.x(4)):
        n.freeze(places[1:], "spatial axis")
        n.same(data[:1], places)
    if n.has(3):
        n.eq(n.x(3)[0], n.y()[1])


def channels(n: NodeView, *, x: int, w: int, transposed: bool = False, last: bool = False) -> None:
    """The equations of a convolution's channels, its `group` attribute and its cost; `last`: the
    channels are the last axis."""
    data, weight, y, groups = n.x(x), n.x(w), n.y(), int(n.attr("group", 1))
    if last:
        data, y = ([t[0], t[-1], *t[1:-1]] for t in (data, y))
    n.freeze(data[2:] + weight[2:] + y[2:], "spatial axis")
    n.eq(data[0], y[0])
    whole, per_group = (data[1], y[1]) if transposed else (y[1], data[1])
    if groups == 1:
        n.eq(weight[0], whole)
        n.eq(weight[1], per_group)
    else:
        group = n.atom(groups)
        n.eq(weight[0], n.prod(group, n.atom(size_of(weight[0])[0] // groups)))
        n.eq(weight[0], whole)
        n.eq(per_group, n.prod(group, weight[1]))
        n.encode("group", None, group)
        n.together(group)
    n.together(data[1])
    n.together(y[1])
    places = data[2:] if transposed else y[2:]
    n.macs(data[0], weight[0], *weight[1:], *places)


def _window(n: NodeView) -> Window | None:
    """None where padding follows a size that differs from run to run."""
    kernel = tuple(size_of(t)[0] for t in n.x(1)[2:])
    rank = len(kernel)
    strides = tuple(n.attr("strides", [1] * rank))
    dilations = tuple(n.attr("dilations", [1] * rank))
    auto = n.attr("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = _same_pads(n.x(0)[2:], spans, strides, upper=auto == "SAME_UPPER")
    else:
        pads = tuple(n.attr("pads", [0] * 2 * rank)) if auto != "VALID" else (0,) * 2 * rank
    return Window(kernel, strides, dilations, pads) if pads is not None else None


def _same_pads(
    places: Sequence[Term], spans: Sequence[int], strides: Sequence[int], *, upper: bool
) -> tuple[int, ...] | None:
    """Pads that give ceil(size / stride) places, begins, then ends; the odd one goes to the end
    in SAME_UPPER. With stride 1 every size needs the same."""
    begins, ends = [], []
    for term, span, stride in zip(places, spans, strides, strict=True):
        if stride != 1 and not is_static(term):
            return None
        size = size_of(term)[0]
        total = max(0, (-(-size // stride) - 1) * stride + span - size)
        begins.append(total // 2 if upper else total - total // 2)
        ends.append(total - begins[-1])
    return (*begins, *ends)
