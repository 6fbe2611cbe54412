"""Convolutions: the channel axes; spatial axes are frozen."""

from __future__ import annotations

from mipack.graph.view import NodeView, Window
from mipack.layout import size_of
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
    """None where padding is chosen at run time."""
    kernel = tuple(size_of(t)[0] for t in n.x(1)[2:])
    rank = len(kernel)
    auto = n.attr("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID", ""):
        return None
    return Window(
        kernel,
        tuple(n.attr("strides", [1] * rank)),
        tuple(n.attr("dilations", [1] * rank)),
        tuple(n.attr("pads", [0] * 2 * rank)) if auto != "VALID" else (0,) * 2 * rank,
    )
