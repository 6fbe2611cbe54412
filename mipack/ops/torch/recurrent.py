"""LSTM, GRU and RNN, step by step; sequences may end early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mipack.ops.torch.call import Call, op

Activation = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def _activations(call: Call, direction: int) -> list[Activation]:
    """The functions of one direction; parameters are taken in the order of those that need any."""
    default = DEFAULTS[call.node.op_type]
    names = call.attr("activations") or default * 2
    alphas, betas = list(call.attr("activation_alpha", [])), list(call.attr("activation_beta", []))
    found = [_activation(call, name, alphas, betas) for name in names]
    return found[direction * len(default) :][: len(default)]


def _activation(call: Call, name: str, alphas: list[float], betas: list[float]) -> Activation:
    def take(listed: list[float], default: float) -> float:
        return listed.pop(0) if listed else default

    simple: dict[str, Activation] = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "softsign": F.softsign,
        "softplus": F.softplus,
    }
    lower = name.lower()
    if lower in simple:
        return simple[lower]
    if lower == "leakyrelu":
        slope = take(alphas, 0.01)
        return lambda x: F.leaky_relu(x, slope)
    if lower == "elu":
        scale = take(alphas, 1.0)
        return lambda x: F.elu(x, scale)
    if lower in ("affine", "scaledtanh", "hardsigmoid"):
        first = {"affine": 1.0, "scaledtanh": 1.0, "hardsigmoid": 0.2}[lower]
        second = {"affine": 0.0, "scaledtanh": 1.0, "hardsigmoid": 0.5}[lower]
        a, b = take(alphas, first), take(betas, second)
        return {
            "affine": lambda x: a * x + b,
            "scaledtanh": lambda x: a * torch.tanh(b * x),
            "hardsigmoid": lambda x: torch.clamp(a * x + b, 0, 1),
        }[lower]
    raise call.refuse(f"activation {name} has no torch function here")


def _lstm(call: Call, direction: int, r: Tensor, rb: Tensor, p: Tensor | None) -> Step:
    """Gates i o f c; peepholes i o f."""
    f, g, h = _activations(call, direction)
    bound = call.attr("clip")
    coupled = call.attr("input_forget", 0)
    peeps = torch.zeros(3, r.shape[-1], device=r.device) if p is None else p.reshape(3, -1)

    def step(xw: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, cell = state
        i, o, fo, c = _clipped(xw + hidden @ r.T + rb, bound).chunk(4, -1)
        i = f(i + peeps[0] * cell)
        fo = 1 - i if coupled else f(fo + peeps[2] * cell)
        cell = fo * cell + i * g(c)
        return f(o + peeps[1] * cell) * h(cell), cell

    return step


def _gru(call: Call, direction: int, r: Tensor, rb: Tensor, p: Tensor | None) -> Step:
    """Gates z r h."""
    f, g = _activations(call, direction)
    bound, late = call.attr("clip"), call.attr("linear_before_reset", 0)
    size = r.shape[-1]

    def step(xw: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (hidden,) = state
        both = xw[:, : 2 * size] + hidden @ r[: 2 * size].T + rb[: 2 * size]
        z, reset = f(_clipped(both, bound)).chunk(2, -1)
        if late:
            inner = reset * (hidden @ r[2 * size :].T + rb[2 * size :])
        else:
            inner = (reset * hidden) @ r[2 * size :].T + rb[2 * size :]
        new = g(_clipped(xw[:, 2 * size :] + inner, bound))
        return ((1 - z) * new + z * hidden,)

    return step


def _rnn(call: Call, direction: int, r: Tensor, rb: Tensor, p: Tensor | None) -> Step:
    """One gate."""
    (f,) = _activations(call, direction)
    bound = call.attr("clip")
    return lambda xw, state: (f(_clipped(xw + state[0] @ r.T + rb, bound)),)


STEPS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def _clipped(x: Tensor, bound: float | None) -> Tensor:
    return x if bound is None else x.clamp(-bound, bound)


def _walk(
    inputs: Tensor, step: Step, state: tuple[Tensor, ...], lengths: Tensor | None, back: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All steps of one direction: inputs [steps, batch, gates] -> hidden [steps, batch, size].

    A sequence that has ended keeps its state and gives zeros; backwards it starts at its end.
    """
    steps = len(inputs)
    results: list[Tensor] = [torch.empty(0)] * steps
    for t in reversed(range(steps)) if back else range(steps):
        new = step(inputs[t], state)
        if lengths is None:
            state, results[t] = new, new[0]
            continue
        alive = (t < lengths).reshape(-1, 1)
        results[t] = torch.where(alive, new[0], torch.zeros_like(new[0]))
        state = tuple(torch.where(alive, a, b) for a, b in zip(new, state, strict=True))
    return torch.stack(results), state


@op("LSTM", "GRU", "RNN")
def recurrent(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    p: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Y [steps, directions, batch, size] and the last states [directions, batch, size]."""
    kind, size = call.node.op_type, r.shape[-1]
    batch_first = call.attr("layout", 0)
    if batch_first:
        x = x.transpose(0, 1)
        h0, c0 = (s if s is None else s.transpose(0, 1) for s in (h0, c0))
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    walked: list[Tensor] = []
    ends: list[Sequence[Tensor]] = []
    for d, back in enumerate(ways[call.attr("direction", "forward")]):
        bias = torch.zeros(2 * w.shape[1], device=x.device) if b is None else b[d]
        wb, rb = bias.chunk(2)
        step = STEPS[kind](call, d, r[d], rb, None if p is None else p[d])
        starts = (h0, c0) if kind == "LSTM" else (h0,)
        zero = torch.zeros(x.shape[1], size, device=x.device)
        state = tuple(zero if s is None else s[d] for s in starts)
        hidden, state = _walk(x @ w[d].T + wb, step, state, lengths, back)
        walked.append(hidden)
        ends.append(state)
    y = torch.stack(walked, 1)
    last: list[Any] = [torch.stack(states) for states in zip(*ends, strict=True)]
    if batch_first:
        y, last = y.permute(2, 0, 1, 3), [s.transpose(0, 1) for s in last]
    return (y, *last)
