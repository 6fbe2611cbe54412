"""Recurrent layers: hidden units in every gate, both directions, stacked, with states."""

from __future__ import annotations

from typing import Any

import numpy as np
from lawkit import Build, Cases

recurrent = Cases()
SERIES: dict[str, Any] = {"x": ("S", "B", 5)}


def layer(b: Build, op: str, x: str, i: int, h: int, *, directions: int = 1, n: int = 1) -> Any:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    operands = [x, b.w(directions, gates * h, i), b.w(directions, gates * h, h)]
    operands.append(b.w(directions, 2 * gates * h))
    way = {1: "forward", 2: "bidirectional"}[directions]
    return getattr(b, op)(*operands, hidden_size=h, direction=way, n=n)


@recurrent(cut=[6], **SERIES)
def lstm(b: Build) -> str:
    y, _, _ = layer(b, "LSTM", "x", 5, 6, n=3)
    return b.lin(b.Squeeze(y, [1]), 6, 4)


@recurrent(cut=[6], **SERIES)
def gru_last_state(b: Build) -> str:
    _, last = layer(b, "GRU", "x", 5, 6, n=2)
    return b.lin(b.Squeeze(last, [0]), 6, 4)


@recurrent(cut=[6, 7], **SERIES)
def stacked(b: Build) -> str:
    first = b.Squeeze(layer(b, "RNN", "x", 5, 6), [1])
    return b.lin(b.Squeeze(layer(b, "LSTM", first, 6, 7), [1]), 7, 4)


@recurrent(cut=[6], **SERIES)
def both_directions(b: Build) -> str:
    y = b.Transpose(layer(b, "LSTM", "x", 5, 6, directions=2), perm=[0, 2, 1, 3])
    return b.lin(b.Reshape(y, [0, 0, 12]), 12, 4)


@recurrent(cut=[6], **SERIES)
def peepholes_and_states(b: Build) -> str:
    zero = b.Expand(
        np.zeros((1, 1, 6), np.float32), b.Concat([1], b.Slice(b.Shape("x"), [1], [2]), [6], axis=0)
    )
    operands = [b.w(1, 24, 5), b.w(1, 24, 6), b.w(1, 48), None, zero, zero, b.w(1, 18)]
    y = b.LSTM("x", *operands, hidden_size=6)
    return b.lin(b.Squeeze(y, [1]), 6, 4)


@recurrent(cut=[4, 6, 5], x=("S", 16))
def a_cut_batch_with_states_of_its_own(b: Build) -> str:
    """The batch is a group like any other; initial and last states have it too."""
    h = b.Sigmoid(b.Reshape(b.lin("x", 16, 20), [-1, 4, 5]))
    weights = b.w(2, 24, 5), b.w(2, 24, 6), b.w(2, 48), None
    states = b.w(2, 4, 6, scale=1.0), b.w(2, 4, 6, scale=1.0)
    y, last, cell = b.LSTM(
        h, *weights, *states, n=3, hidden_size=6, direction="bidirectional"
    )  # y [S, 2, 4, 6]
    last = b.Reshape(b.Add(last, cell), [1, 48])
    out = b.lin(b.Reshape(b.Transpose(y, perm=[0, 2, 1, 3]), [-1, 48]), 48, 5)
    return b.Add(out, b.lin(b.Sigmoid(last), 48, 5))


@recurrent(cut=[5, 6], stays={7: "steps"}, x=("B", 16))
def steps_made_by_a_dense_layer(b: Build) -> str:
    """A step that is left out is not a step of zeros: the state moves on."""
    h = b.Transpose(b.Reshape(b.lin("x", 16, 35), [-1, 7, 5]), perm=[1, 0, 2])
    y = layer(b, "GRU", h, 5, 6)  # [7, 1, B, 6]
    return b.lin(b.Reshape(b.Transpose(y, perm=[2, 0, 1, 3]), [-1, 42]), 42, 5)
