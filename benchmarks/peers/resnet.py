"""ResNet-56 for CIFAR-10 of ../shared/models/resnet56-cifar10 as a torch module, and back.

Only the channels inside a block are cut by peers: its first convolution's outputs, its second one's
inputs. The weights go back into the graph they came from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

CLOSE = 1e-4
"""Largest difference of logits between two runtimes in float32."""


class ResNet(nn.Module):
    """Stem, blocks of two convolutions with option-A shortcuts, average pool, linear head."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        graph = onnx.load(path).graph
        stored = {
            t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer
        }
        convs = [_conv(node, stored) for node in graph.node if node.op_type == "Conv"]
        self.stem, inner = convs[0], convs[1:]
        self.blocks = nn.ModuleList(
            nn.ModuleList(pair) for pair in zip(inner[::2], inner[1::2], strict=True)
        )
        self.head = nn.Linear(64, 10)
        self.head.weight.data = stored["linear.weight"]
        self.head.bias.data = stored["linear.bias"]
        self.full = self.macs()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, 32, 32] -> [B, 10]."""
        x = F.relu(self.stem(x))
        for first, second in self.blocks:
            x = F.relu(second(F.relu(first(x))) + shortcut(x, first, second))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def macs(self) -> int:
        """Multiply-adds of one picture."""
        side, total = 32, 0
        for conv in [self.stem, *(conv for block in self.blocks for conv in block)]:
            side //= conv.stride[0]
            total += conv.weight.numel() * side * side
        return total + self.head.weight.numel()

    def share(self) -> float:
        """Of the original's multiply-adds."""
        return self.macs() / self.full

    def write(self, out: Path, pixels: Tensor) -> None:
        """The graph with this module's weights; ValueError unless both compute the same."""
        model = onnx.load(self.path)
        stored = {tensor.name: tensor for tensor in model.graph.initializer}
        convs = [self.stem, *(conv for block in self.blocks for conv in block)]
        nodes = [node for node in model.graph.node if node.op_type == "Conv"]
        for node, conv in zip(nodes, convs, strict=True):
            for name, value in zip(node.input[1:], (conv.weight, conv.bias), strict=True):
                array = np.ascontiguousarray(value.detach().numpy().astype(np.float32))
                stored[name].CopyFrom(numpy_helper.from_array(array, name))
        del model.graph.value_info[:]
        onnx.save(model, out)
        with torch.no_grad():
            want = self(pixels).numpy()
        session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        gap = float(np.abs(session.run(None, {"input": pixels.numpy()})[0] - want).max())
        if not gap < CLOSE * max(1.0, float(np.abs(want).max())):
            raise ValueError(f"{out} differs from the module by {gap}")


def shortcut(x: Tensor, first: nn.Conv2d, second: nn.Conv2d) -> Tensor:
    """Option A: every other pixel, new channels of zeros on both sides."""
    stride, more = first.stride[0], second.out_channels - x.shape[1]
    if stride == 1 and not more:
        return x
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, more // 2, more // 2))


def _conv(node: onnx.NodeProto, stored: dict[str, Tensor]) -> nn.Conv2d:
    weight, bias = (stored[name] for name in node.input[1:])
    stride = next(a.ints[0] for a in node.attribute if a.name == "strides")
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, stride=int(stride), padding=1)
    conv.weight.data, conv.bias.data = weight, bias
    return conv
