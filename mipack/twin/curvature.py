"""Square roots of an output's curvature: H = L L', as gradients with respect to the output.

Softmax with probabilities p over its scores: H = diag(p) - p p' = L L' with
L = diag(r) - p r', r = sqrt(p); L r = 0, so C - 1 columns do: L Q = diag(r) Q where Q is an
orthonormal basis of what is orthogonal to r (a Householder reflection of the axes gives one).
An output of probabilities is the softmax of its own logarithm: its gradient is the score's over p.
Values of variance v: H = diag(1 / v).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]
Tensor = torch.Tensor
SMALLEST = 1e-12


def columns(kind: str, count: int) -> int:
    """Columns of L that an output of so many columns needs."""
    return count if kind == "values" else count - 1


def directions(
    kind: str, output: Tensor, variance: Array, mixture: Tensor | None
) -> Iterator[Tensor]:
    """The columns of L at an output, each of its shape; or their sum times a mixture.

    `mixture` is drawn per position and column, of the shape of the output.
    """
    output = output.detach()
    if kind == "values":
        root = torch.from_numpy(1 / np.sqrt(variance)).to(output)
        mixtures = torch.eye(len(root)).to(output) if mixture is None else [mixture]
        yield from ((root * each).expand(output.shape) for each in mixtures)
        return
    p = _probabilities(kind, output)
    root = p.sqrt()
    scale = 1 / p.clamp(min=SMALLEST) if kind == "probabilities" else torch.ones_like(p)
    if mixture is not None:
        yield scale * (root * mixture - p * (root * mixture).sum(-1, keepdim=True))
        return
    pivot = root.clone()  # reflects the first axis onto -r
    pivot[..., 0] += 1
    norm = pivot.square().sum(-1) / 2
    for k in range(1, p.shape[-1]):
        q = -pivot * (pivot[..., k] / norm).unsqueeze(-1)
        q[..., k] += 1
        yield scale * root * q


def _probabilities(kind: str, output: Tensor) -> Tensor:
    if kind == "probabilities":
        p = output.clamp(min=0)
        return p / p.sum(-1, keepdim=True).clamp(min=SMALLEST)
    return output.softmax(-1)


def score_gradient(kind: str, output: Tensor, labels: Array) -> Tensor:
    """d (- log p(label)) / d output, per row: [rows, classes]; rows beyond the labels get none."""
    output = output.detach()
    p = _probabilities(kind, output)
    chosen = torch.from_numpy(np.asarray(labels, np.int64)).to(output.device)
    gradient = p.clone()
    gradient[torch.arange(len(chosen), device=output.device), chosen] -= 1
    gradient[len(chosen) :] = 0
    return gradient / p.clamp(min=SMALLEST) if kind == "probabilities" else gradient
