"""K-prune (Park, Choi, Kang, ICLR 2024, arXiv 2308.03449): sub-layer by sub-layer, bottom up.

Written from the recipe (shared papers.md 4.2), on a module of our own. The cost is the share of the
encoder's weight MatMuls. No labels. Settings: `rep` (lambda of the representation), `mu` (weight of
heads); temperature 2 and lambda of the prediction 1 as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from bert import Batch, Bert, Masks
from job import Job, main, text_batches
from torch import Tensor
from torch.nn import functional as F

HEAT = 2.0


def predictive(
    model: Bert, dense: list[Tensor], states: list[Tensor], start: int, batches: list[Batch]
) -> Masks:
    """Half the squared gradients of the divergence from the dense model, by the masks of the
    sub-layers from `start` on (0 below), of which `states` are the inputs."""
    sums = torch.zeros_like(model.head_mask), torch.zeros_like(model.neuron_mask)
    for want, x, batch in zip(dense, states, batches, strict=True):
        masks = tuple(m.clone().requires_grad_() for m in (model.head_mask, model.neuron_mask))
        now = F.log_softmax(model.finish(start, x, batch, masks) / HEAT, -1)
        loss = HEAT**2 * F.kl_div(now, F.softmax(want / HEAT, -1), reduction="batchmean")
        for total, grad in zip(
            sums, torch.autograd.grad(loss, masks, materialize_grads=True), strict=True
        ):
            total += grad.square() / 2
    examples = sum(len(batch.ids) for batch in batches)
    return sums[0] / examples, sums[1] / examples


def representation(model: Bert, inputs: list[Tensor], start: int, batches: list[Batch]) -> Masks:
    """What each unit of the sub-layers from `start` on adds to its sub-layer's output."""
    heads = torch.zeros(model.layers, model.heads)
    neurons = torch.zeros(model.layers, model.neurons)
    count = sum(int(batch.mask.sum()) for batch in batches)
    states = list(inputs)
    for sub in range(start, 2 * model.layers):
        weight = model.weight[model.part(sub)]
        energy = torch.zeros(weight.shape[1])
        for place, batch in enumerate(batches):
            units = model.units(sub, states[place], batch)
            energy += units[batch.mask].square().sum(0)
            states[place] = model.close(sub, model.join(sub, units, states[place]))
        energy *= weight.square().mean(0) / count
        layer, is_ffn = divmod(sub, 2)
        if is_ffn:
            neurons[layer] = energy
        else:
            heads[layer] = energy.view(model.heads, model.size).mean(1)
    return heads, neurons


def survivors(model: Bert, scores: Masks, start: int, budget: float) -> Tensor:
    """The mask of sub-layer `start`: units above the smallest threshold whose survivors fit."""
    layer, is_ffn = divmod(start, 2)
    first = layer + is_ffn  # attention blocks below are decided
    heads, neurons = scores[0][first:].flatten(), scores[1][layer:].flatten()
    values = torch.cat([heads, neurons])
    costs = torch.cat(
        [torch.full_like(heads, model.head_cost), torch.full_like(neurons, model.neuron_cost)]
    ).double()
    order = values.argsort(descending=True)
    fit = int((costs[order].cumsum(0) <= budget).sum())
    kept = torch.zeros(len(values))
    kept[order[:fit]] = 1
    return kept[len(heads) :][: model.neurons] if is_ffn else kept[: model.heads]


def refit(
    model: Bert,
    sub: int,
    units: list[Tensor],
    targets: list[Tensor],
    batches: list[Batch],
) -> bool:
    """The last matrix of a sub-layer, by least squares on what is kept; False where it fails."""
    kept = model.columns(sub).nonzero()[:, 0]
    if not len(kept):
        return True
    square = torch.zeros(len(kept), len(kept), dtype=torch.float64)
    right = torch.zeros(len(kept), model.width, dtype=torch.float64)
    for found, target, batch in zip(units, targets, batches, strict=True):
        rows = found[batch.mask][:, kept].double()
        square += rows.T @ rows
        right += rows.T @ target[batch.mask].double()
    solved, failed = torch.linalg.solve_ex(square, right)  # without a cutoff lstsq is a solve
    if bool(failed) or not bool(torch.isfinite(solved).all()):
        return False
    model.weight[model.part(sub)][:, kept] = solved.T.float()
    return True


def prune(job: Job) -> Mapping[str, Any]:
    """The whole recipe."""
    model = Bert(job.model, heads=12)
    batches = [Batch.of(*batch) for batch in text_batches(job, by_length=False)]
    with torch.no_grad():
        dense = [model.logits(batch) for batch in batches]
        states = [model.embed(batch) for batch in batches]
    guide, budget, solved = list(states), job.budget * model.total_cost, 0
    for sub in range(2 * model.layers):
        layer, is_ffn = divmod(sub, 2)
        cost = model.neuron_cost if is_ffn else model.head_cost
        pred = predictive(model, dense, states, sub, batches)
        with torch.no_grad():
            wants = [full_step(model, sub, x, b) for x, b in zip(guide, batches, strict=True)]
            rep = representation(model, states, sub, batches)
            joint = [job.settings["rep"] * r + p for r, p in zip(rep, pred, strict=True)]
            scores = job.settings["mu"] * joint[0] / model.head_cost, joint[1] / model.neuron_cost
            mask = survivors(model, scores, sub, budget)
            (model.neuron_mask if is_ffn else model.head_mask)[layer] = mask
            budget -= float(mask.sum()) * cost
            units = [model.units(sub, x, b) for x, b in zip(states, batches, strict=True)]
            bias = model.bias[model.part(sub)]
            targets = [want - x - bias for want, x in zip(wants, states, strict=True)]
            solved += refit(model, sub, units, targets, batches)
            states = [
                model.close(sub, model.join(sub, u, x)) for u, x in zip(units, states, strict=True)
            ]
            guide = [model.close(sub, y) for y in wants]
    model.write(job.out, batches[0])
    return {"refitted": solved, "kept": list(model.shares())}


def full_step(model: Bert, sub: int, x: Tensor, batch: Batch) -> Tensor:
    """Sub-layer `sub` of the dense model: its weights are changed after this is asked for."""
    full = torch.ones_like(model.head_mask), torch.ones_like(model.neuron_mask)
    return model.step(sub, x, batch, full)


if __name__ == "__main__":
    main(prune)
