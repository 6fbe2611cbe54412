"""The transformer optimiser of ONNX Runtime: attention, normalisation and Gelu as fused ops.

Its matchers are written for the exports of some libraries; which of them fits a graph is found by
trying: the one that fuses most attention wins. Sizes are never told to it: with 0 it reads heads
and sizes of every attention from that attention's own reshape. It runs only in a child process
(`workshop`).
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from mipack.runtime.session import Feeds, registered

MATCHERS = ("bert", "bart", "clip")
"""Tables of patterns that find the sizes by themselves, the most general first."""
MULTI_HEAD = "MultiHeadAttention"
ATTENTION = ("Attention", MULTI_HEAD)
NORM = (
    "LayerNormalization",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "EmbedLayerNormalization",
    "GroupNorm",
    "SkipGroupNorm",
)
GELU = ("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "BiasSplitGelu")
LARGE = 1_900_000_000
"""Bytes above which weights go into a file beside the model."""
TYPES = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(float16)": onnx.TensorProto.FLOAT16,
    "tensor(int64)": onnx.TensorProto.INT64,
    "tensor(int32)": onnx.TensorProto.INT32,
    "tensor(bool)": onnx.TensorProto.BOOL,
}
MOST_REASONS = 3
SPEAKERS = ("fusion_attention", "fusion_bart_attention")


def fuse(
    source: Path,
    target: Path,
    batches: Iterable[Feeds],
    libraries: list[Path],
    *,
    attention: str,
    wanted: int,
) -> dict[str, Any]:
    """Fuse; `wanted` attentions are there, and become the op `attention` ("": stay as they are).

    Tells how many attention, normalisation and Gelu ops are new, and what was said of
    attention that did not match.
    """
    from onnxruntime.transformers.optimizer import optimize_by_fusion

    listener = _Listener()
    simple = basic(source, libraries)
    before = Counter(node.op_type for node in simple.graph.node)
    best: Any = None
    made: Counter[str] = Counter()
    reasons: list[str] = []
    for matcher in MATCHERS if attention and wanted else MATCHERS[:1]:
        listener.said.clear()
        try:
            options = _options(matcher, attention)
            tried = optimize_by_fusion(copy.deepcopy(simple), matcher, 0, 0, options)
        except Exception as error:  # a matcher that expects another graph may fail in any way
            reasons.append(f"{matcher}: {type(error).__name__} {error}"[:200])
            continue
        found = Counter(node.op_type for node in tried.model.graph.node) - before
        if best is None or _sum(found, ATTENTION) > _sum(made, ATTENTION):
            best, made = tried.model, found
            reasons = [text for text, _ in listener.said.most_common(MOST_REASONS)]
        if _sum(made, ATTENTION) >= wanted:
            break
    if best is None:
        raise ValueError("; ".join(reasons[:MOST_REASONS]))
    for node in best.graph.node:
        if node.op_type == MULTI_HEAD:  # the optimiser gives it an attribute that it does not have
            kept = [entry for entry in node.attribute if entry.name != "qkv_hidden_sizes"]
            del node.attribute[:]
            node.attribute.extend(kept)
    store(best, target)
    return {
        "attention": _sum(made, ATTENTION),
        "norm": _sum(made, NORM),
        "gelu": _sum(made, GELU),
        "reasons": reasons,
    }


def _options(matcher: str, attention: str) -> Any:
    from onnxruntime.transformers.fusion_options import AttentionMaskFormat, FusionOptions

    options = FusionOptions(matcher)
    options.enable_attention = bool(attention)
    # The usual format counts the ones of a mask: right only where padding stands at the end.
    options.attention_mask_format = AttentionMaskFormat.AttentionMask
    options.use_multi_head_attention = attention == MULTI_HEAD
    options.enable_embed_layer_norm = False  # changes the inputs' type to int32
    options.enable_shape_inference = True
    return options


class _Listener(logging.Handler):
    """Counts what the attention fusion says; it is the only one who knows why it did not match."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: Counter[str] = Counter()
        root = logging.getLogger()
        root.handlers[:] = [self]
        root.setLevel(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        """Note what is said of attention that was not fused."""
        text = record.getMessage()
        if record.name in SPEAKERS and "fail" in text.lower():
            self.said[text] += 1


def _sum(counts: Counter[str], names: Iterable[str]) -> int:
    return sum(counts[name] for name in names)


def basic(source: Path, libraries: list[Path]) -> onnx.ModelProto:
    """The model after the runtime's basic optimisations: constants folded, normalisation in the
    convolution before it. Of inner values only the types are declared, which tools cannot infer
    behind a fused op: shapes they trust, and a tool that turns a weight leaves its old one."""
    options = registered(ort.SessionOptions(), libraries)
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="mipack-") as folder:
        path = Path(folder) / "basic.onnx"
        options.optimized_model_filepath = str(path)
        beside = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(f"{beside}file_name", "basic.onnx.data")
        options.add_session_config_entry(f"{beside}min_size_in_bytes", "1024")
        # Constants that are shared between nodes hide from patterns that follow one path.
        ort.InferenceSession(
            str(source),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["ConstantSharing"],
        )
        types = _types(path, libraries)
        model = onnx.load(path)
    del model.graph.value_info[:]
    model.graph.value_info.extend(types)
    return model


def _types(path: Path, libraries: list[Path]) -> list[onnx.ValueInfoProto]:
    """What the runtime knows of the types of inner tensors."""
    model = onnx.load(path, load_external_data=False)
    have = {value.name for value in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name and name not in have]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    onnx.save(model, path.with_name("typed.onnx"))
    options = registered(ort.SessionOptions(), libraries)
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        str(path.with_name("typed.onnx")), options, providers=["CPUExecutionProvider"]
    )
    inner = set(made)
    return [
        onnx.helper.make_tensor_value_info(value.name, TYPES[value.type], None)
        for value in session.get_outputs()
        if value.name in inner and value.type in TYPES
    ]


def store(model: onnx.ModelProto, target: Path) -> None:
    """Write a model; a large one with its weights in a file beside it."""
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights < LARGE:
        onnx.save(model, target)
    else:
        onnx.save(model, target, save_as_external_data=True, location=f"{target.name}.data")
