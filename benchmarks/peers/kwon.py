"""Kwon et al. 2022 (arXiv 2204.09656): mask Fisher, mask search, rearrangement, mask tuning.

Written from the recipe (shared papers.md 4.1), on a module of our own. The cost is the share of the
encoder's weight MatMuls, as all methods of this benchmark have it; labels are used, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from bert import Batch, Bert, Masks
from job import Job, main, text_batches
from torch import Tensor
from torch.nn import functional as F

MAX_SCALE = 10.0
"""A solution beyond this ends the tuning of everything above."""


def gradients(model: Bert, batches: list[Batch]) -> Masks:
    """Gradients of each batch's mean loss by the masks: [batches, L, H] and [batches, L, N]."""
    found: list[list[Tensor]] = [[], []]
    for batch in batches:
        masks = tuple(
            torch.ones_like(m, requires_grad=True) for m in (model.head_mask, model.neuron_mask)
        )
        F.cross_entropy(model.logits(batch, masks), batch.labels).backward()
        for kind, mask in zip(found, masks, strict=True):
            kind.append(mask.grad)
    return torch.stack(found[0]).double(), torch.stack(found[1]).double()


def search(model: Bert, fisher: Masks, budget: float) -> Masks:
    """Masks of the largest Fisher sum within the budget: for each number of heads the best
    neurons that still fit."""
    heads, neurons = (f.flatten().sort(descending=True) for f in fisher)
    zero = torch.zeros(1, dtype=torch.float64)
    gain_h = torch.cat([zero, heads.values.cumsum(0)])
    gain_n = torch.cat([zero, neurons.values.cumsum(0)])
    best = (-1.0, 0, 0)
    for count in range(len(heads.values) + 1):
        rest = budget * model.total_cost - count * model.head_cost
        if rest < 0:
            break
        fit = min(int(rest // model.neuron_cost), len(neurons.values))
        best = max(best, (float(gain_h[count] + gain_n[fit]), count, fit))
    masks = torch.zeros_like(model.head_mask), torch.zeros_like(model.neuron_mask)
    masks[0].view(-1)[heads.indices[: best[1]]] = 1
    masks[1].view(-1)[neurons.indices[: best[2]]] = 1
    return masks


def rearrange(mask: Tensor, gradient: Tensor) -> Tensor:
    """One layer: exchange units so that the cut ones' joint Fisher energy is small.

    `mask` [u] of 0 and 1, `gradient` [batches, u]. The cut set starts with the units of lowest
    Fisher; every other unit, in rising order, joins it and the worst member is let go.
    """
    count = int((mask == 0).sum())
    if count in (0, len(mask)):
        return mask
    order = gradient.square().sum(0).argsort()
    cut = order[:count].clone()
    total = gradient[:, cut].sum(1)
    for unit in order[count:]:
        members = torch.cat([cut, unit[None]])
        total = total + gradient[:, unit]
        block = gradient[:, members]
        left = total.square().sum() - 2 * total @ block + block.square().sum(0)
        out = int(left.argmin())
        total = total - block[:, out]
        cut = torch.cat([members[:out], members[out + 1 :]])
    new = torch.ones_like(mask)
    new[cut] = 0
    return new


def normal_heads(model: Bert, sub: int, units: Tensor, target: Tensor) -> Masks:
    """A'A [k, k] and A'B [k]: columns of A are the kept heads' contributions and a constant."""
    kept = model.head_mask[sub // 2].nonzero()[:, 0]
    weight = model.weight[model.part(sub)].unflatten(1, (model.heads, model.size))[:, kept]
    parts = torch.einsum(
        "the,dhe->htd", units.unflatten(1, (model.heads, model.size))[:, kept], weight
    )
    parts = torch.cat([parts, torch.ones_like(parts[:1])]).flatten(1).double()
    return parts @ parts.T, parts @ target.flatten().double()


def normal_neurons(model: Bert, sub: int, units: Tensor, target: Tensor) -> Masks:
    """A'A and A'B for the kept neurons, without forming A: (W W') o (H H')."""
    kept = model.neuron_mask[sub // 2].nonzero()[:, 0]
    weight, hidden = model.weight[model.part(sub)][:, kept].double(), units[:, kept].double()
    right = (hidden * (target.double() @ weight)).sum(0)
    return (weight.T @ weight) * (hidden.T @ hidden), right


def damped(square: Tensor, right: Tensor) -> Tensor:
    """v = 1 + delta, delta the least squares solution of the normal equations with damping 1."""
    gap = right - square.sum(1)
    eye = torch.eye(len(square), dtype=square.dtype)
    return 1 + torch.linalg.solve(square @ square + eye, square @ gap)


def rows(sub: int, last: int, value: Tensor, batch: Batch) -> Tensor:
    """The rows that count: [CLS] where only that is read on, else all tokens."""
    return value[:, 0] if sub // 2 == last else value[batch.mask]


def tune(model: Bert, teacher: Masks, batches: list[Batch]) -> int:
    """One factor for each kept unit, layers bottom up; how many sub-layers were tuned."""
    student = [model.embed(batch) for batch in batches]
    guide = list(student)
    done = 0
    for sub in range(2 * model.layers):
        want = [model.step(sub, x, b, teacher) for x, b in zip(guide, batches, strict=True)]
        layer, is_ffn = divmod(sub, 2)
        masks = model.neuron_mask if is_ffn else model.head_mask
        if sub and bool(masks[layer].any()):
            factors = solve(model, sub, student, want, batches)
            if not bool(torch.isfinite(factors).all()) or float(factors.abs().max()) > MAX_SCALE:
                return done
            masks[layer, masks[layer].nonzero()[:, 0]] = factors.float()
            done += 1
        student = [
            model.close(sub, model.step(sub, x, b)) for x, b in zip(student, batches, strict=True)
        ]
        guide = [model.close(sub, y) for y in want]
    return done


def solve(
    model: Bert, sub: int, student: list[Tensor], want: list[Tensor], batches: list[Batch]
) -> Tensor:
    """The factors of one sub-layer's kept units."""
    normal: Callable[..., Masks] = normal_neurons if sub % 2 else normal_heads
    last, bias = model.layers - 1, model.bias[model.part(sub)]
    sums: list[Tensor] = []
    for x, y, batch in zip(student, want, batches, strict=True):
        units = rows(sub, last, model.units(sub, x, batch), batch)
        found = normal(model, sub, units, rows(sub, last, y - bias - x, batch))
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else list(found)
    factors = damped(*sums)
    return factors if sub % 2 else factors[:-1]


def prune(job: Job) -> Mapping[str, Any]:
    """The whole recipe."""
    torch.manual_seed(job.seed)
    model = Bert(job.model, heads=12)
    batches = [Batch.of(*batch) for batch in text_batches(job, by_length=False)]
    grads = gradients(model, batches)
    fisher = tuple(g.square().sum(0) for g in grads)
    teacher = search(model, fisher, job.budget**0.5)
    masks = search(model, fisher, job.budget)
    for target, mask, grad in zip((model.head_mask, model.neuron_mask), masks, grads, strict=True):
        for layer in range(model.layers):
            target[layer] = rearrange(mask[layer], grad[:, layer])
    with torch.no_grad():
        tuned = tune(model, teacher, batches)
    model.write(job.out, batches[0])
    return {"tuned": tuned, "kept": list(model.shares())}


if __name__ == "__main__":
    main(prune)
