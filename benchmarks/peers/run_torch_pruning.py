"""Torch-Pruning, as it is, on the Hugging Face checkpoint (text) or our torch ResNet (image).

Settings: `importance` (`l2`, or `taylor`, which reads labels), `heads` (share of heads cut; FFN
follows from the budget); for images the share of inner channels follows from the budget, and
`global` ranks over all layers. The residual width stays. The pruned weights go back into the graph
that the model came from, which must compute what the pruned module does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch_pruning as tp
from bert import PARTS, Batch, same, write_parts
from job import Job, image_batches, main, neurons_cut, text_batches
from resnet import ResNet
from torch import Tensor, nn
from torch.nn import functional as F

IMPORTANCE = {
    "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "taylor": lambda: tp.importance.GroupTaylorImportance(),
}


def text(job: Job) -> Mapping[str, Any]:
    """BERT by the package's own example: heads of q, k and v together, FFN neurons."""
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(
        job.checkpoint, attn_implementation="eager"
    )
    model.eval()
    batches = [Batch.of(*batch) for batch in text_batches(job, by_length=False)]
    if job.settings["importance"] == "taylor":
        for batch in batches:
            out = model(batch.ids, attention_mask=batch.mask.long()).logits
            (F.cross_entropy(out, batch.labels) * len(batch.ids) / 512).backward()
    layers = model.bert.encoder.layer
    attentions = [layer.attention.self for layer in layers]
    keep = [m for layer in layers for m in (layer.attention.output.dense, layer.output.dense)]
    keep += [m for m in model.modules() if isinstance(m, (nn.LayerNorm, nn.Embedding))]
    keep += [model.bert.pooler.dense, model.classifier]
    heads = {m: a.num_attention_heads for a in attentions for m in (a.query, a.key, a.value)}
    cut = neurons_cut(job.budget, job.settings["heads"])
    tp.pruner.BasePruner(
        model,
        {"input_ids": batches[0].ids, "attention_mask": batches[0].mask.long()},
        importance=IMPORTANCE[job.settings["importance"]](),
        pruning_ratio=cut,
        head_pruning_ratio=job.settings["heads"],
        num_heads=heads,
        prune_num_heads=True,
        prune_head_dims=False,
        ignored_layers=keep,
        output_transform=lambda out: out.logits.sum(),
    ).step()
    for attention in attentions:
        attention.num_attention_heads = (
            attention.query.out_features // attention.attention_head_size
        )
        attention.all_head_size = attention.query.out_features
    parts: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
    for index, layer in enumerate(layers):
        for part in PARTS:
            dense = layer.get_submodule(part)
            parts[index, part] = dense.weight, dense.bias
    write_parts(job.model, job.out, parts)
    with torch.no_grad():
        want = model(batches[0].ids, attention_mask=batches[0].mask.long()).logits
    same(job.out, batches[0], want)
    return {"neurons_cut": cut, "heads": [a.num_attention_heads for a in attentions]}


def image(job: Job) -> Mapping[str, Any]:
    """Inner channels of every block; the share cut is bisected until the MACs fit."""
    batches = [(torch.from_numpy(f["input"]), torch.from_numpy(y)) for f, y in image_batches(job)]
    low, high = 0.0, 1.0
    model = ResNet(job.model)
    for _ in range(8):
        cut = (low + high) / 2
        model = shrunk(job, batches, cut)
        low, high = (cut, high) if model.share() > job.budget else (low, cut)
    model.write(job.out, batches[0][0])
    return {"channels_cut": cut, "kept": [block[0].out_channels for block in model.blocks]}


def shrunk(job: Job, batches: list[tuple[Tensor, Tensor]], cut: float) -> ResNet:
    """The model with this share of inner channels cut."""
    model = ResNet(job.model)
    if job.settings["importance"] == "taylor":
        for pixels, labels in batches:
            F.cross_entropy(model(pixels), labels, reduction="sum").backward()
    keep = [model.stem, model.head, *(block[1] for block in model.blocks)]
    tp.pruner.BasePruner(
        model,
        batches[0][0][:1],
        importance=IMPORTANCE[job.settings["importance"]](),
        pruning_ratio=cut,
        max_pruning_ratio=0.95,
        global_pruning=job.settings.get("global", False),
        ignored_layers=keep,
    ).step()
    return model


if __name__ == "__main__":
    main(lambda job: text(job) if job.kind == "text" else image(job))
