"""OSSCAR (Meng et al., ICML 2024): layer-local OBS with swaps, exact least squares, uniform widths.

Written from the recipe (shared papers.md 4.3), on modules of our own. Each layer that reads what is
cut (FFN neurons, heads, the inner channels of a residual block) minimises |X W_dense - X W|^2 over
which groups of rows stay and over their weights, X from the layers already cut below. Setting
`heads`: share of heads cut (text; the FFN follows from the budget). No labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from bert import Batch, Bert
from job import Job, image_batches, main, neurons_cut, text_batches
from resnet import ResNet, shortcut
from torch import Tensor
from torch.nn import functional as F

RIDGE = 1e-4
"""Of the mean diagonal: dead units make X'X singular."""
STEPS = 16
"""Eliminations happen in this many rounds, several groups at once."""
SWAPS = 20
"""Rounds of the local search at most."""


class Layer:
    """|X (W - W_dense)|^2 as a quadratic; `square` X'X [n, n], `dense` [n, m], groups of `size`."""

    def __init__(self, square: Tensor, dense: Tensor, size: int) -> None:
        square = square.double()
        self.square = square + RIDGE * square.diagonal().mean() * torch.eye(len(square)).double()
        self.dense, self.size = dense.double(), size
        self.groups = len(square) // size
        self.target = self.square @ self.dense

    def rows(self, groups: Tensor) -> Tensor:
        """The rows of some groups."""
        return (groups[:, None] * self.size + torch.arange(self.size)).flatten()

    def fit(self, kept: Tensor) -> tuple[Tensor, Tensor, float]:
        """Weights [k, m] of the kept groups, the inverse of their X'X, and the objective."""
        rows = self.rows(kept)
        inverse = torch.linalg.inv(self.square[rows][:, rows])
        weights = inverse @ self.target[rows]
        loss = float((self.dense * self.target).sum() - (weights * self.target[rows]).sum())
        return weights, inverse, loss

    def losses(self, weights: Tensor, inverse: Tensor) -> Tensor:
        """What the objective rises by without each kept group: tr(W_B' [(X'X)^-1]_BB^-1 W_B)."""
        count = len(weights) // self.size
        view = inverse.view(count, self.size, count, self.size)
        blocks = view.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        units = weights.view(count, self.size, -1)
        return (units * torch.linalg.solve(blocks, units)).sum((1, 2))

    def gains(self, kept: Tensor, out: Tensor, weights: Tensor, inverse: Tensor) -> Tensor:
        """What the objective falls by with each group of `out` added."""
        rows, others = self.rows(kept), self.rows(out)
        cross = self.square[rows][:, others]
        residual = self.target[others] - cross.T @ weights
        reached = inverse @ cross
        count, size = len(out), self.size
        own = self.square[others][:, others].view(count, size, count, size)
        seen = cross.view(-1, count, size), reached.view(-1, count, size)
        blocks = own.diagonal(dim1=0, dim2=2).permute(2, 0, 1) - torch.einsum("kcs,kct->cst", *seen)
        parts = residual.view(count, size, -1)
        return (parts * torch.linalg.solve(blocks, parts)).sum((1, 2))

    def select(self, keep: int) -> tuple[Tensor, Tensor]:
        """Groups that stay (ascending) and their weights [k, m]: elimination, swaps, exact fit."""
        kept = torch.arange(self.groups)
        step = max(1, -(-(self.groups - keep) // STEPS))
        weights, inverse, loss = self.fit(kept)
        while len(kept) > keep:
            order = self.losses(weights, inverse).argsort()
            kept = kept[order[min(step, len(kept) - keep) :]].sort().values
            weights, inverse, loss = self.fit(kept)
        count = max(1, keep // 10)
        for _ in range(SWAPS):
            if keep in (0, self.groups) or not count:
                break
            count = min(count, keep, self.groups - keep)
            other = self.swapped(kept, count, weights, inverse)
            found = self.fit(other)
            if found[2] < loss:
                kept, (weights, inverse, loss) = other, found
            else:
                count //= 2
        return kept, weights

    def swapped(self, kept: Tensor, count: int, weights: Tensor, inverse: Tensor) -> Tensor:
        """The worst `count` groups out, the best of the others in."""
        order = self.losses(weights, inverse).argsort()
        left = kept[order[count:]].sort().values
        mask = torch.ones(self.groups, dtype=torch.bool)
        mask[left] = False
        others = mask.nonzero()[:, 0]
        weights, inverse, _ = self.fit(left)
        best = self.gains(left, others, weights, inverse).argsort(descending=True)[:count]
        return torch.cat([left, others[best]]).sort().values


# ---------------------------------------------------------------- text


def text(job: Job) -> Mapping[str, Any]:
    """Heads and FFN neurons, sub-layers bottom up."""
    model = Bert(job.model, heads=12)
    heads = job.settings["heads"]
    keep = round((1 - heads) * model.heads)
    neurons = round((1 - neurons_cut(job.budget, 1 - keep / model.heads)) * model.neurons)
    batches = [Batch.of(*batch) for batch in text_batches(job, by_length=False)]
    states = [model.embed(batch) for batch in batches]
    for sub in range(2 * model.layers):
        layer, is_ffn = divmod(sub, 2)
        weight = model.weight[model.part(sub)]
        square = torch.zeros(weight.shape[1], weight.shape[1])
        for x, batch in zip(states, batches, strict=True):
            rows = model.units(sub, x, batch)[batch.mask]
            square += rows.T @ rows
        problem = Layer(square, weight.T, 1 if is_ffn else model.size)
        kept, weights = problem.select(neurons if is_ffn else keep)
        mask = (model.neuron_mask if is_ffn else model.head_mask)[layer]
        mask.zero_()
        mask[kept] = 1
        weight[:, problem.rows(kept)] = weights.T.float()
        states = [
            model.close(sub, model.step(sub, x, b)) for x, b in zip(states, batches, strict=True)
        ]
    model.write(job.out, batches[0])
    return {"heads": keep, "neurons": neurons}


# ---------------------------------------------------------------- image


def image(job: Job) -> Mapping[str, Any]:
    """Inner channels of every block, bottom up; a group is 9 patch rows of the second conv."""
    model = ResNet(job.model)
    batches = [torch.from_numpy(feeds["input"]) for feeds, _ in image_batches(job)]
    widths = widths_for(model, job.budget)
    states = [F.relu(model.stem(x)) for x in batches]
    for (first, second), keep in zip(model.blocks, widths, strict=True):
        square = torch.zeros(second.in_channels * 9, second.in_channels * 9)
        for x in states:
            patches = F.unfold(F.relu(first(x)), 3, padding=1).transpose(1, 2).flatten(0, 1)
            square += patches.T @ patches
        problem = Layer(square, second.weight.flatten(1).T, 9)
        kept, weights = problem.select(keep)
        first.weight.data, first.bias.data = first.weight[kept], first.bias[kept]
        second.weight.data = weights.T.float().reshape(second.out_channels, keep, 3, 3)
        first.out_channels = second.in_channels = keep
        states = [F.relu(second(F.relu(first(x))) + shortcut(x, first, second)) for x in states]
    model.write(job.out, batches[0])
    return {"kept": widths, "share": model.share()}


def widths_for(model: ResNet, budget: float) -> list[int]:
    """The same share of channels everywhere, the largest whose MACs fit."""
    sizes = [block[0].out_channels for block in model.blocks]
    inner = sum(_macs(block) for block in model.blocks) / model.full
    share = 1 - (1 - budget) / inner
    widths = [max(1, round(share * size)) for size in sizes]
    order = sorted(range(len(sizes)), key=lambda i: widths[i] / sizes[i] - share, reverse=True)

    def left() -> float:
        kept = zip(model.blocks, widths, sizes, strict=True)
        return 1 - inner + sum(_macs(b) * w / s for b, w, s in kept) / model.full

    for block in order:  # rounding may go over: the most generous first
        if left() <= budget:
            break
        widths[block] -= 1
    return widths


def _macs(block: Any) -> int:
    side = {16: 32, 32: 16, 64: 8}[block[1].out_channels]
    return sum(conv.weight.numel() * side * side for conv in block)


if __name__ == "__main__":
    with torch.no_grad():
        main(lambda job: text(job) if job.kind == "text" else image(job))
