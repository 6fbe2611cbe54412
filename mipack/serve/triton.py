"""config.pbtxt of one model: Triton's own message, written by protobuf's text format.

Rules of Triton's onnxruntime backend (its README and source): batching needs a first axis of any
size on every input and output, and then the configuration leaves this axis out; any other model
has max_batch_size 0 and its full shapes. A sample that is a single number has `dims: 1` and is
reshaped; a single number for a whole run is refused. With a queue delay of 0 µs requests that wait
anyway are batched and none waits for company.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mipack.errors import InputError, UnsupportedError
from mipack.records import Signature, TensorSpec
from mipack.serve.client import tritonclient
from mipack.serve.warmup import Sample
from mipack.serve.wire import config_type, dims

BATCH = 32
"""Samples that a batch holds by default at most."""
LABELS = "labels.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server runs a model. `queue_delay`: microseconds that a request waits for company;
    `max_batch_size` None: 32 where the model can be batched. Threads are the runtime's, for each
    instance; 0 leaves them to it."""

    max_batch_size: int | None = None
    queue_delay: int = 0
    instances: int = 1
    device: Literal["cpu", "gpu"] = "cpu"
    intra_threads: int = 1
    inter_threads: int = 1


@dataclass(frozen=True, slots=True)
class Deployed:
    """One model of a repository: the file `source` (and `data`, its external files, by their
    place beside it) as version 1 of `name`. `reason` says why `max_batch_size` is 0."""

    name: str
    source: Path
    data: Mapping[str, Path]
    signature: Signature
    max_batch_size: int
    reason: str
    labelled: frozenset[str] = frozenset()
    samples: tuple[Sample, ...] = ()

    @property
    def batched(self) -> bool:
        """Whether the server batches."""
        return self.max_batch_size > 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "source": str(self.source),
            "max_batch_size": self.max_batch_size,
            "reason": self.reason,
            "inputs": [_plain(spec) for spec in self.signature.inputs],
            "outputs": [_plain(spec) for spec in self.signature.outputs],
            "labelled": sorted(self.labelled),
            "warmup": [sample.name for sample in self.samples],
        }


def _plain(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape or ())}


def batch_size(possible: bool, reason: str, wanted: int | None) -> int:
    """max_batch_size. InputError where batching is asked for and the model cannot."""
    if possible:
        return BATCH if wanted is None else wanted
    if wanted:
        raise InputError(
            f"--max-batch-size {wanted}: the model cannot be batched by a server, for {reason}",
            hint="leave the option out",
        )
    return 0


def config(model: Deployed, settings: Settings) -> str:
    """The text of config.pbtxt."""
    proto = tritonclient("grpc.model_config_pb2")
    from google.protobuf import text_format

    message = proto.ModelConfig(
        name=model.name,
        backend="onnxruntime",
        max_batch_size=model.max_batch_size,
        default_model_filename="model.onnx",
    )
    message.version_policy.latest.num_versions = 1
    _tensors(proto, message, model)
    group = message.instance_group.add(count=settings.instances)
    group.kind = proto.ModelInstanceGroup.Kind.Value(f"KIND_{settings.device.upper()}")
    threads = {
        "intra_op_thread_count": settings.intra_threads,
        "inter_op_thread_count": settings.inter_threads,
    }
    for key, count in threads.items():
        message.parameters[key].string_value = str(count)
    if model.batched:
        message.dynamic_batching.max_queue_delay_microseconds = settings.queue_delay
    _warm_up(proto, message, model)
    head = f"# max_batch_size is 0: {_comment(model.reason)}\n" if model.reason else ""
    return head + text_format.MessageToString(message)


def _tensors(proto: Any, message: Any, model: Deployed) -> None:
    """The exact signature."""
    listed: Sequence[tuple[Any, tuple[TensorSpec, ...]]] = (
        (message.input, model.signature.inputs),
        (message.output, model.signature.outputs),
    )
    for into, specs in listed:
        for spec in specs:
            one = into.add(name=spec.name, data_type=proto.DataType.Value(config_type(spec)))
            sizes = dims(spec.shape or (), batched=model.batched)
            if not sizes and not model.batched:
                raise UnsupportedError(
                    f"{spec.name} is a single number for a whole run, which Triton does not carry",
                    hint="give it an axis in the model (Unsqueeze), or leave it out",
                )
            one.dims.extend(sizes or (1,))
            if not sizes:
                one.reshape.SetInParent()  # to no axis at all
    for one in message.output:
        if one.name in model.labelled:
            one.label_filename = LABELS


def _warm_up(proto: Any, message: Any, model: Deployed) -> None:
    """Every sample alone and as a full batch."""
    sizes = sorted({1, model.max_batch_size or 1})
    for sample in model.samples:
        for size in sizes:
            entry = message.model_warmup.add(
                name=f"{sample.name}-batch{size}", batch_size=size, count=1
            )
            for tensor in sample.tensors:
                given = entry.inputs[tensor.spec.name]
                given.data_type = proto.DataType.Value(config_type(tensor.spec))
                given.dims.extend(tensor.shape or (1,))
                given.input_data_file = tensor.file


def _comment(text: str) -> str:
    return " ".join(text.split())
