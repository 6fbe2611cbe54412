"""Path -> model and back: external data, the opset gate, atomic saving.

A model is an `onnx_ir.Model`. Weights in external files stay memory-mapped until read. Saving
writes a temporary file in the target folder, syncs it and renames it over the target, so that a
killed run leaves either the old file or the new one.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from mipack.errors import InputError, UnsupportedError
from mipack.graph.wellformed import require_graph
from mipack.records import Dim, Signature, TensorSpec
from mipack.runtime.session import Parts, Weight

OLDEST_OPSET = 9
EXTERNAL_ABOVE = 2_000_000_000
"""Protobuf refuses messages of 2 GiB; above this many bytes of weights they go beside the file."""
HANDED = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
"""Weights of these types a session is handed where they lie, from `HANDED_ABOVE` bytes on."""
HANDED_TOO = (ir.DataType.BFLOAT16, ir.DataType.INT8, ir.DataType.UINT8)
"""These only where the message would be too large: some quantised kernels refuse it."""
HANDED_ABOVE = 4096
INPUTS_KEY = "mipack.initializer_inputs"
EXTERNAL_KEY = "mipack.external"


def load(path: Path) -> ir.Model:
    """Read an ONNX file; InputError for a damaged one, UnsupportedError for one we cannot hold."""
    proto = _parse(path)
    if not proto.HasField("graph") or not proto.opset_import:
        raise InputError(f"{path} is not an ONNX model", hint="export a model to .onnx first")
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    if opset is not None and opset < OLDEST_OPSET:
        raise UnsupportedError(
            f"{path} uses opset {opset}; mipack reads opset {OLDEST_OPSET} and later",
            hint="convert it with onnx.version_converter",
        )
    _check_external(proto, path)
    return from_proto(proto, base=path.parent)


def from_proto(proto: onnx.ModelProto, *, base: Path | None = None) -> ir.Model:
    """A model from its message; `base` is the folder of its external data.

    A message without one is a caller's own and is copied: names are written through to tensors.
    Raises InputError for a message that is no graph.
    """
    if base is None:
        caller, proto = proto, onnx.ModelProto()
        proto.CopyFrom(caller)
    require_graph(proto)
    try:
        model = ir.from_proto(proto)
    except Exception as error:
        raise InputError(
            f"the model's graph is not valid: {_line(error)}", hint="check it with onnx.checker"
        ) from error
    external = [v.const_value for v in model.graph.initializers.values()]
    external = [t for t in external if isinstance(t, ir.ExternalTensor)]
    if external and base is None:
        raise InputError(
            "the model in memory keeps weights in a file, and it is not known where",
            hint="give the model's path, or load it with its external data",
        )
    if external and base is not None:
        ir.external_data.set_base_dir(model.graph, base.resolve())
        model.meta[EXTERNAL_KEY] = True
        if weight_bytes(model) < EXTERNAL_ABOVE:
            ir.external_data.load_to_model(model)
    return model


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise InputError(f"{path} is not a file", hint="give the path of an .onnx file")
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:
        raise InputError(
            f"{path} is not an ONNX file, or is truncated", hint="export or download it again"
        ) from error


def _check_external(proto: onnx.ModelProto, path: Path) -> None:
    """External data must lie inside the model's folder, be plain files and be long enough."""
    folder = path.parent.resolve()
    for tensor in _tensors(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entry = {e.key: e.value for e in tensor.external_data}
        place = folder / entry.get("location", "")
        inside = place.resolve().is_relative_to(folder) and not place.is_symlink()
        if not inside:
            raise InputError(
                f"{path}: the external data of {tensor.name!r} lies outside the model's folder",
                hint="save the model with its data beside it",
            )
        if not place.is_file():
            raise InputError(
                f"{path}: external data file {place.name} of {tensor.name!r} is missing",
                hint=f"put it beside {path.name}",
            )
        end = _external_end(tensor, entry, path)
        if place.stat().st_size < end:
            raise InputError(
                f"{path}: external data file {place.name} is truncated "
                f"({place.stat().st_size} bytes, {tensor.name!r} ends at {end})",
                hint="copy it again",
            )


def _external_end(tensor: onnx.TensorProto, entry: Mapping[str, str], path: Path) -> int:
    """The byte after a tensor in its data file; InputError where the numbers cannot be."""
    try:
        needed = -(-ir.DataType(tensor.data_type).bitwidth * math.prod(tensor.dims) // 8)
        offset, length = int(entry.get("offset", 0)), int(entry.get("length", needed))
    except (TypeError, ValueError):
        offset, needed, length = -1, 0, 0
    if offset < 0 or length < needed:
        raise InputError(
            f"{path}: what it says of the external data of {tensor.name!r} cannot be "
            f"({', '.join(f'{key} {value}' for key, value in sorted(entry.items()))})",
            hint="export it again",
        )
    return offset + length


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for sub in [attribute.g, *attribute.graphs]:
                yield from _tensors(sub)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


# ---------------------------------------------------------------- facts of a model


def signature(model: ir.Model) -> Signature:
    """Inputs (initializers excluded) and outputs, as declared."""
    names = set(model.graph.initializers)
    inputs = [v for v in model.graph.inputs if v.name not in names]
    return Signature(tuple(map(_spec, inputs)), tuple(map(_spec, model.graph.outputs)))


def _spec(value: ir.Value) -> TensorSpec:
    shape: tuple[Dim, ...] | None = None
    if value.shape is not None:
        shape = tuple(d if isinstance(d, int) else d.value for d in value.shape)
    dtype = "float32"
    if value.dtype is not None:
        dtype = "str" if value.dtype == ir.DataType.STRING else value.dtype.numpy().name
    return TensorSpec(value.name or "", dtype, shape)


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers."""
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)


def weight_count(model: ir.Model) -> int:
    """Elements of the floating-point and quantised initializers of rank >= 1 (parameters)."""
    tensors = [v.const_value for v in model.graph.initializers.values() if v.const_value]
    return sum(int(t.size) for t in tensors if t.dtype not in (ir.DataType.INT64,) and t.shape)


def digest(model: ir.Model) -> str:
    """sha256 over the graph and every weight, wherever they are stored."""
    state = hashlib.sha256()
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            state.update(f"{name} {value.const_value.dtype} {value.const_value.shape}".encode())
            state.update(value.const_value.tobytes())
    for node in [*model.graph, *(n for f in model.functions.values() for n in f)]:
        state.update(ir.to_proto(node).SerializeToString(deterministic=True))
    return state.hexdigest()


def tolerates_nan(model: ir.Model) -> bool:
    """Whether the graph asks for NaN itself: missing values are a meaning there."""
    return any(node.op_type == "IsNaN" for node in model.graph.all_nodes())


# ---------------------------------------------------------------- writing


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The message of a model whose weights fit into one (see `runnable`)."""
    return ir.to_proto(model)


@contextmanager
def runnable(model: ir.Model) -> Iterator[bytes | Path]:
    """What ONNX Runtime can load: bytes, or a temporary file where the weights exceed 2 GB."""
    if weight_bytes(model) < EXTERNAL_ABOVE:
        yield to_proto(model).SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix="mipack-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model.clone(), path, external_data="model.data")
        yield path


def in_parts(model: ir.Model, taps: Sequence[str] = ()) -> Parts:
    """A model for a session of this process, with some inner values as further outputs: large
    weights stay where they are, which is faster than in a message and not bound to its 2 GB."""
    overridable = {value.name for value in model.graph.inputs}
    live = _live(model.graph, taps)
    kinds = HANDED if weight_bytes(model) < EXTERNAL_ABOVE else (*HANDED, *HANDED_TOO)
    large = {
        name: (value, value.const_value)
        for name, value in model.graph.initializers.items()
        if name not in overridable
        and value in live  # the runtime forgets the others before it is handed any
        and value.const_value is not None
        and value.const_value.dtype in kinds
        and value.const_value.nbytes >= HANDED_ABOVE
    }
    weights = {
        name: Weight(np.ascontiguousarray(tensor.numpy()), int(tensor.dtype))
        for name, (_, tensor) in large.items()
    }
    try:  # not on a clone: that takes sorted graphs only, which not every tool leaves
        for name, (value, tensor) in large.items():
            shape = ir.Shape(weights[name].array.shape)
            value.const_value = ir.ExternalTensor(
                "", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name
            )
        proto = to_proto(model)
    finally:
        for value, tensor in large.values():
            value.const_value = tensor
    have = {value.name for value in (*proto.graph.output, *proto.graph.input)}
    new = [name for name in dict.fromkeys(taps) if name not in have]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in new)
    return Parts(proto.SerializeToString(), weights)


def _live(graph: ir.Graph, taps: Sequence[str]) -> set[ir.Value]:
    """Every value that an output, or a value of these names, hangs on."""
    from mipack.graph.bodies import reads  # which itself writes models

    wanted = set(taps)
    live: set[ir.Value] = set()
    waiting = [*graph.outputs, *(v for node in graph for v in node.outputs if v.name in wanted)]
    while waiting:
        value = waiting.pop()
        if value not in live:
            live.add(value)
            node = value.producer()
            waiting += reads(node) if node is not None else []
    return live


def stored_bytes(model: ir.Model) -> int:
    """Bytes that a model takes on disk, weights beside it included."""
    with runnable(model) as source:
        if isinstance(source, bytes):
            return len(source)
        return sum(path.stat().st_size for path in source.parent.iterdir())


def file_bytes(path: Path) -> int:
    """Bytes of a model's file and of the files that hold its external data."""
    tensors = [value.const_value for value in ir.load(path).graph.initializers.values()]
    apart = {Path(t.path).resolve() for t in tensors if isinstance(t, ir.ExternalTensor)}
    return sum(file.stat().st_size for file in {path.resolve(), *apart})


def data_files(path: Path) -> dict[str, Path]:
    """The files that hold a model's external data, by their place in its folder."""
    proto = onnx.load(path, load_external_data=False)
    places = {
        entry.value
        for tensor in _tensors(proto.graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return {place: path.parent / place for place in sorted(places)}


def save(model: ir.Model, path: Path) -> tuple[Path, ...]:
    """Write `path` (and `path`.data where weights go beside it) atomically; the files written."""
    model = _with_initializer_inputs(model)
    external = bool(model.meta.get(EXTERNAL_KEY)) or weight_bytes(model) >= EXTERNAL_ABOVE
    data = path.with_name(path.name + ".data")
    files: tuple[Path, ...] = (data, path) if external else (path,)
    with staging(path) as folder:
        if external:
            ir.save(model, folder / path.name, external_data=data.name)
        else:
            (folder / path.name).write_bytes(to_proto(model).SerializeToString())
        for file in files:  # the data first: a model never points at data that is not there yet
            publish(folder / file.name, file)
    if not external:
        data.unlink(missing_ok=True)
    return files


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; InputError where nothing can be written there."""
    try:
        with tempfile.TemporaryDirectory(prefix=".mipack-", dir=path.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}",
            hint="free some space or choose another -o OUT",
        ) from error


def publish(temporary: Path, target: Path) -> None:
    """Sync a finished file and rename it over its target."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, target)
    with suppress(OSError):  # folders cannot be synced everywhere
        handle = os.open(target.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with staging(path) as folder:
        (folder / path.name).write_text(text, encoding="utf-8")
        publish(folder / path.name, path)


def _with_initializer_inputs(model: ir.Model) -> ir.Model:
    """Old files list initializers among the inputs; give back what canonical form took away."""
    names: Any = model.meta.get(INPUTS_KEY, ())
    listed = {value.name for value in model.graph.inputs}
    if not any(name in model.graph.initializers and name not in listed for name in names):
        return model
    external = model.meta.get(EXTERNAL_KEY)
    model = model.clone()
    model.meta[EXTERNAL_KEY] = external
    for name in names:
        if name in model.graph.initializers:
            model.graph.inputs.append(model.graph.initializers[name])
    return model
