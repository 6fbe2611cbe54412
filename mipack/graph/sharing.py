"""Constants that mean one weight, and constants that only look like it.

To share a matrix is a meaning: its uses are cut together. To share a vector is thrift: one vector
of zeros may serve layers that have nothing to do with each other, so every use gets its own copy.
Exporters do both in disguise: they share [1, C, 1, 1] ones, and write a matrix down once per use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable

import numpy as np
import onnx_ir as ir

from mipack.graph.names import fresh_name
from mipack.graph.pointwise import broadcasts

START = 64
"""So many numbers are compared first: to read whole matrices takes time."""


def one_weight(graph: ir.Graph) -> None:
    """Equal matrices of floats become one.

    Not those of one value throughout, and not those that are merely spread over results: these are
    no weights.
    """
    matrices = (v for v in graph.initializers.values() if _is_weight(v))
    begun = (v for alike in _alike(matrices, _start) for v in alike)
    for first, *others in _alike(begun, _content):
        for other in others:
            other.replace_all_uses_with(first)
            del graph.initializers[other.name or ""]


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    matrix = tensor is not None and _long_axes(tensor) > 1 and tensor.dtype.is_floating_point()
    return (
        matrix
        and not value.is_graph_output()
        and not all(broadcasts(node) for node, _ in value.uses())
    )


def _alike(values: Iterable[ir.Value], key: Callable[[ir.Value], Hashable]) -> list[list[ir.Value]]:
    """Values of one key, where there are several; None is no key."""
    met: dict[Hashable, list[ir.Value]] = {}
    for value in values:
        met.setdefault(key(value), []).append(value)
    return [found for k, found in met.items() if k is not None and len(found) > 1]


def _start(value: ir.Value) -> Hashable:
    tensor = value.const_value
    assert tensor is not None
    return tensor.dtype, tuple(tensor.shape.numpy()), tensor.numpy().reshape(-1)[:START].tobytes()


def _content(value: ir.Value) -> Hashable:
    tensor = value.const_value
    assert tensor is not None
    array = tensor.numpy()
    if not np.any(array != array.flat[0]):
        return None
    return _start(value), hashlib.blake2b(np.ascontiguousarray(array).tobytes()).digest()


def private_vectors(graph: ir.Graph) -> None:
    """Every use of a vector, and of a matrix with one axis longer than 1 that an op spreads over
    its result, reads a constant of its own; as the weight of a contraction the latter stays."""
    names = {v.name for node in graph.all_nodes() for v in node.outputs} | set(graph.initializers)
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or _long_axes(tensor) > 1:
            continue
        uses = list(value.uses())
        private = [use for use in uses if len(tensor.shape) < 2 or broadcasts(use[0])]
        for node, index in private[1:] if len(private) == len(uses) else private:
            name = fresh_name(f"{value.name}.copy", names)
            copy = ir.Value(name=name, const_value=_own(tensor, name))
            copy.dtype, copy.shape = tensor.dtype, ir.Shape(tensor.shape.numpy())
            graph.register_initializer(copy)
            node.replace_input_with(index, copy)


def _long_axes(tensor: ir.TensorProtocol) -> int:
    return sum(size != 1 for size in tensor.shape.numpy())


def _own(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    """A tensor of its own: saving writes the value's name into the tensor that it holds."""
    if tensor.dtype == ir.DataType.STRING:
        strings = np.reshape(tensor.numpy(), -1).tolist()
        return ir.StringTensor(strings, shape=ir.Shape(tensor.shape.numpy()), name=name)
    return ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
