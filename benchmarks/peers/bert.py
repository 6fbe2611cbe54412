"""The classifier of ../shared/models/minilm-sst2 as a torch module of our own, and back.

Masks stand on every head and every FFN neuron; `write` slices by them and puts the weights back
into the graph they came from, so that every peer is judged on the graph that the original has.
The names of the parts follow to_hf.py: the graph's order of weight MatMuls is the module order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from job import Feeds
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F

PARTS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
QUERY, KEY, VALUE, PROJECT, WIDEN, NARROW = PARTS
CLOSE = 1e-4
"""Largest difference of logits between two runtimes in float32."""


def operands(graph: onnx.GraphProto) -> dict[tuple[int, str], str]:
    """The initializer that holds each weight [in, out], by (layer, part)."""
    stored = {tensor.name for tensor in graph.initializer}
    found = [n.input[1] for n in graph.node if n.op_type == "MatMul" and n.input[1] in stored]
    layers, rest = divmod(len(found), len(PARTS))
    if rest:
        raise ValueError(f"{len(found)} weight MatMuls are not a whole number of layers")
    places = [(layer, part) for layer in range(layers) for part in PARTS]
    return dict(zip(places, found, strict=True))


Masks = tuple[Tensor, Tensor]
"""Of heads [L, H] and of neurons [L, N]."""


@dataclass
class Batch:
    """Token ids and mask [B, S], what is added to attention scores [B, 1, 1, S], labels [B]."""

    ids: Tensor
    mask: Tensor
    shut: Tensor
    labels: Tensor

    @classmethod
    def of(cls, feeds: Feeds, labels: object) -> Batch:
        """From a model's feeds."""
        mask = torch.from_numpy(feeds["attention_mask"])
        shut = (1.0 - mask.float()) * torch.finfo(torch.float32).min
        ids = torch.from_numpy(feeds["input_ids"])
        return cls(ids, mask.bool(), shut[:, None, None, :], torch.as_tensor(labels))


class Bert:
    """Weights [out, in] and biases by (layer, part); masks of heads [L, H] and neurons [L, N]."""

    def __init__(self, path: Path, heads: int) -> None:
        self.path = path
        graph = onnx.load(path).graph
        stored = {
            t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer
        }
        self.plain = {n.removeprefix("m."): t for n, t in stored.items() if n.startswith("m.")}
        self.places = operands(graph)
        self.weight = {place: stored[name].T.contiguous() for place, name in self.places.items()}
        self.bias = {
            (layer, part): self.plain[f"bert.encoder.layer.{layer}.{part}.bias"]
            for layer, part in self.places
        }
        self.layers = 1 + max(layer for layer, _ in self.places)
        self.heads, self.width = heads, self.weight[0, QUERY].shape[1]
        self.size = self.weight[0, QUERY].shape[0] // heads
        self.neurons = self.weight[0, WIDEN].shape[0]
        self.head_mask = torch.ones(self.layers, heads)
        self.neuron_mask = torch.ones(self.layers, self.neurons)

    # ------------------------------------------------------------ the parts of a forward pass

    def norm(self, name: str, x: Tensor) -> Tensor:
        """A LayerNorm by the name of its place."""
        weight, bias = self.plain[f"{name}.LayerNorm.weight"], self.plain[f"{name}.LayerNorm.bias"]
        return F.layer_norm(x, (self.width,), weight, bias, 1e-12)

    def dense(self, layer: int, part: str, x: Tensor) -> Tensor:
        """A linear map."""
        return F.linear(x, self.weight[layer, part], self.bias[layer, part])

    def embed(self, batch: Batch) -> Tensor:
        """[B, S, D]: what the first layer reads."""
        table = {
            n: self.plain[f"bert.embeddings.{n}_embeddings.weight"]
            for n in ("word", "position", "token_type")
        }
        length = batch.ids.shape[1]
        x = table["word"][batch.ids] + table["token_type"][0] + table["position"][:length]
        return self.norm("bert.embeddings", x)

    def head_units(self, layer: int, x: Tensor, batch: Batch) -> Tensor:
        """[B, S, H, E]: what each head hands to the projection."""
        q, k, v = (
            self.dense(layer, part, x).unflatten(-1, (self.heads, self.size)).transpose(1, 2)
            for part in (QUERY, KEY, VALUE)
        )
        scores = q @ k.transpose(-1, -2) / self.size**0.5 + batch.shut
        return (scores.softmax(-1) @ v).transpose(1, 2)

    def neuron_units(self, layer: int, x: Tensor) -> Tensor:
        """[B, S, N]: what each neuron hands to the second matrix."""
        return F.gelu(self.dense(layer, WIDEN, x))

    def units(self, sub: int, x: Tensor, batch: Batch) -> Tensor:
        """[B, S, W]: what sub-layer `sub` (attention 0, FFN 0, attention 1, ...) hands to its last
        matrix; a head is `size` columns."""
        layer, is_ffn = divmod(sub, 2)
        if is_ffn:
            return self.neuron_units(layer, x)
        return self.head_units(layer, x, batch).flatten(2)

    def part(self, sub: int) -> tuple[int, str]:
        """The place of a sub-layer's last matrix."""
        layer, is_ffn = divmod(sub, 2)
        return layer, NARROW if is_ffn else PROJECT

    def columns(self, sub: int, masks: Masks | None = None) -> Tensor:
        """The mask [W] of what the last matrix of a sub-layer reads."""
        layer, is_ffn = divmod(sub, 2)
        heads, neurons = masks or (self.head_mask, self.neuron_mask)
        return neurons[layer] if is_ffn else heads[layer].repeat_interleave(self.size)

    def join(self, sub: int, units: Tensor, x: Tensor, masks: Masks | None = None) -> Tensor:
        """The last matrix of the masked units plus residual, before the norm."""
        return self.dense(*self.part(sub), units * self.columns(sub, masks)) + x

    def step(self, sub: int, x: Tensor, batch: Batch, masks: Masks | None = None) -> Tensor:
        """Sub-layer `sub` before its norm."""
        return self.join(sub, self.units(sub, x, batch), x, masks)

    def close(self, sub: int, y: Tensor) -> Tensor:
        """The norm behind sub-layer `sub`."""
        layer, is_ffn = divmod(sub, 2)
        place = "output" if is_ffn else "attention.output"
        return self.norm(f"bert.encoder.layer.{layer}.{place}", y)

    def logits(self, batch: Batch, masks: Masks | None = None) -> Tensor:
        """[B, C]."""
        return self.finish(0, self.embed(batch), batch, masks)

    def finish(self, start: int, x: Tensor, batch: Batch, masks: Masks | None = None) -> Tensor:
        """[B, C] from what sub-layer `start` reads."""
        for sub in range(start, 2 * self.layers):
            x = self.close(sub, self.step(sub, x, batch, masks))
        pooled = torch.tanh(
            F.linear(
                x[:, 0],
                self.plain["bert.pooler.dense.weight"],
                self.plain["bert.pooler.dense.bias"],
            )
        )
        return F.linear(pooled, self.plain["classifier.weight"], self.plain["classifier.bias"])

    # ------------------------------------------------------------ cost

    @property
    def head_cost(self) -> int:
        """Multiply-adds of a head's weights per token."""
        return 4 * self.width * self.size

    @property
    def neuron_cost(self) -> int:
        """Multiply-adds of a neuron's weights per token."""
        return 2 * self.width

    @property
    def total_cost(self) -> int:
        """Of all weight MatMuls of the encoder."""
        return self.layers * (self.heads * self.head_cost + self.neurons * self.neuron_cost)

    def shares(self) -> Iterator[tuple[int, int]]:
        """Kept heads and neurons per layer."""
        for layer in range(self.layers):
            yield (
                int(self.head_mask[layer].count_nonzero()),
                int(self.neuron_mask[layer].count_nonzero()),
            )

    # ------------------------------------------------------------ back to ONNX

    def kept(self, layer: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Weight [out, in] and bias of every part of a layer: masks folded in, cut units gone."""
        rows = self.head_mask[layer].bool().repeat_interleave(self.size)
        units = self.neuron_mask[layer].bool()
        scale = self.head_mask[layer].repeat_interleave(self.size)[rows]
        weight = {part: self.weight[layer, part] for part in PARTS}
        bias = {part: self.bias[layer, part] for part in PARTS}
        found = {part: (weight[part][rows], bias[part][rows]) for part in (QUERY, KEY, VALUE)}
        found[PROJECT] = weight[PROJECT][:, rows] * scale, bias[PROJECT]
        found[WIDEN] = weight[WIDEN][units], bias[WIDEN][units]
        found[NARROW] = weight[NARROW][:, units] * self.neuron_mask[layer][units], bias[NARROW]
        return found

    def write(self, out: Path, check: Batch) -> None:
        """The pruned graph; ValueError unless it computes what the masked module does."""
        parts = {
            (layer, part): pair
            for layer in range(self.layers)
            for part, pair in self.kept(layer).items()
        }
        write_parts(self.path, out, parts)
        with torch.no_grad():
            same(out, check, self.logits(check))


def same(path: Path, batch: Batch, want: Tensor) -> None:
    """ValueError unless the file computes these logits [B, C]."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids = batch.ids.numpy()
    feeds = {
        "input_ids": ids,
        "attention_mask": batch.mask.numpy().astype(np.int64),
        "token_type_ids": 0 * ids,
    }
    got = session.run(None, feeds)[0]
    gap = float(np.abs(got - want.detach().numpy()).max())
    if not gap < CLOSE * max(1.0, float(want.abs().max())):
        raise ValueError(f"{path} differs from the module by {gap}")


def write_parts(
    source: Path, out: Path, parts: dict[tuple[int, str], tuple[Tensor, Tensor]]
) -> None:
    """The graph of `source` with other weights [out, in] and biases; empty sub-layers go."""
    model = onnx.load(source)
    graph, places = model.graph, operands(model.graph)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for (layer, part), (weight, bias) in parts.items():
        if weight.numel():
            _store(stored[places[layer, part]], weight.T)
            _store(stored[f"m.bert.encoder.layer.{layer}.{part}.bias"], bias)
        elif part in (PROJECT, NARROW):
            _silence(graph, places[layer, part])
            _store(stored[f"m.bert.encoder.layer.{layer}.{part}.bias"], bias)
    _sweep(graph)
    onnx.save(model, out)


def _store(tensor: onnx.TensorProto, value: Tensor) -> None:
    array = np.ascontiguousarray(value.detach().numpy())
    tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))


def _silence(graph: onnx.GraphProto, operand: str) -> None:
    """Where nothing is left to multiply, the product is a constant 0."""
    node = next(n for n in graph.node if n.op_type == "MatMul" and n.input[1] == operand)
    zero = numpy_helper.from_array(np.zeros(1, np.float32), f"{operand}.nothing")
    graph.initializer.append(zero)
    for reader in graph.node:
        for place, name in enumerate(reader.input):
            if name == node.output[0]:
                reader.input[place] = zero.name


def _sweep(graph: onnx.GraphProto) -> None:
    """Drop nodes and initializers that nobody reads."""
    needed = {value.name for value in graph.output}
    live = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            live.append(node)
            needed.update(node.input)
    kept = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(live))
    graph.initializer.extend(kept)
