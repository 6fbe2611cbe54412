"""Ops whose result depends on the order or the number of what they read.

Beside some axes that they keep apart, nothing can be cut through them: all is said by a table of
leading axes that pass, and of the reason why the others stay.
"""

from __future__ import annotations

from mipack.graph.view import NodeView, without
from mipack.ops.registry import key, rule

FOUND = "positions become data"
"""Where the result says which positions were found, or how many there are."""
DRAWN = "numbers drawn at run time"
MADE = "numbers computed at run time"
WHOLE = {
    "BlackmanWindow": MADE,
    "Compress": "positions chosen at run time",
    "EyeLike": "triangle",
    "HammingWindow": MADE,
    "HannWindow": MADE,
    "MaxUnpool": "scattered",
    "MelWeightMatrix": MADE,
    "Multinomial": DRAWN,
    "NonMaxSuppression": FOUND,
    "NonZero": FOUND,
    "RandomNormal": DRAWN,
    "RandomNormalLike": DRAWN,
    "RandomUniform": DRAWN,
    "RandomUniformLike": DRAWN,
    "Bernoulli": DRAWN,
    "Range": MADE,
    "Size": FOUND,
    "Unique": FOUND,
    "com.microsoft::MaxpoolWithMask": "order matters",
    "com.microsoft::Range": MADE,
    "com.microsoft::Unique": FOUND,
}
"""Ops through which no axis passes."""


PACKED = (
    "AveragePool",
    "Conv",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MaxPool",
    "ReorderInput",
    "ReorderOutput",
    "Upsample",
)
"""What ONNX Runtime makes of convolutions in files that it saves optimised for one machine."""


@rule(*WHOLE)
def whole(n: NodeView) -> None:
    """Every axis of every operand stays."""
    n.freeze_all(WHOLE[key(n.node)])


@rule(*(f"com.microsoft.nchwc::{op}" for op in PACKED))
def packed(n: NodeView) -> None:
    """Channels and weights lie in blocks as wide as the machine's registers; the file as it was
    before it was optimised can be cut."""
    n.freeze_all("channels packed for one machine")


@rule("Det", "com.microsoft::Inverse")
def square(n: NodeView) -> None:
    """Square matrices, one by one: a missing row makes another matrix."""
    data, y = n.x(0), n.y()
    n.freeze([*data[-2:], *y[len(data) - 2 :]], "order matters")
    n.same(data[:-2], y)
    n.together(*data[:-2])


@rule("DFT")
def dft(n: NodeView) -> None:
    """A spectrum along one axis; the last one holds real and imaginary parts."""
    data, y = n.x(0), n.y()
    given = n.const(2) if n.has(2) else n.attr("axis", 1 if n.opset < 20 else -2)
    n.ignore(1, 2)
    if given is None:
        n.freeze_all("axes chosen at run time")
        return
    mixed = {int(given) % len(data), len(data) - 1}
    n.freeze([t for axes in (data, y) for k, t in enumerate(axes) if k in mixed], "order matters")
    n.same(without(data, mixed), without(y, mixed))
    n.mixed(data, mixed)


@rule("STFT")
def stft(n: NodeView) -> None:
    """Spectra of frames of a signal [B, length, 1 or 2]; signals do not mix."""
    data, y = n.x(0), n.y()
    n.freeze([*data[1:], *y[1:], *n.x(2)], "order matters")
    n.eq(data[0], y[0])
    n.ignore(1, 3)
    n.together(data[0])


@rule("OneHot")
def one_hot(n: NodeView) -> None:
    """The axes of the indices pass; the new one counts values of the data."""
    indices, y = n.x(0), n.y()
    axis = n.axis(len(y), default=-1)
    n.freeze([y[axis], *n.x(2)], FOUND)
    n.ignore(1)
    n.same(indices, without(y, {axis}))


@rule("AffineGrid")
def affine_grid(n: NodeView) -> None:
    """theta [N, 2, 3] (one map per image) -> [N, places.., coordinates]."""
    theta, y = n.x(0), n.y()
    n.freeze([*theta, *y], "spatial axis")
    n.ignore(1)


@rule("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
def loss(n: NodeView) -> None:
    """Labels are positions of the classes, and all else is averaged."""
    n.freeze_all("indexed by data")
