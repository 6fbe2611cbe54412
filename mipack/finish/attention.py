"""Attention in a graph that spells it: softmax(scale Q K' + mask) V, and its scale.

A fused attention op divides by the root of its own head size. After pruning that is not the root
that the scores are divided by, which is still the original's, and the optimiser does not look at
the number: it is read here before fusion and given to the fused op after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isclose, sqrt
from typing import Any

import numpy as np
import onnx_ir as ir

from mipack.runtime.fusion import ATTENTION

Array = np.ndarray[Any, Any]
PLAIN = ("", "ai.onnx")
ON_SCORES = ("Add", "Sub", "Where", "Cast", "Mul", "Div", "Clip", "Max", "Reshape", "Dropout")
"""What may stand between the scores and their softmax."""
ON_WEIGHTS = ("Where", "IsNaN", "Cast", "Mul", "Dropout")
"""What may stand between the softmax and its product with v."""
MOVES = ("Transpose", "Reshape", "Cast", "Unsqueeze", "Squeeze")
DEPTH = 6


def attentions(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """Softmax node -> the values that its attention ends in, nearest first."""
    found = {}
    for node in model.graph:
        if node.op_type == "Softmax" and node.domain in PLAIN and _scores(node) is not None:
            ends = tuple(_ends(node.outputs[0]))
            if ends:
                found[node.name or ""] = ends
    return found


def scales(model: ir.Model, known: Mapping[str, Array]) -> dict[str, float]:
    """Value that an attention ends in -> what its products of q and k are multiplied by."""
    found: dict[str, float] = {}
    named = {node.name: node for node in model.graph}
    for softmax, ends in attentions(model).items():
        scale = _scale(named[softmax], known)
        if scale is not None:
            found.update(dict.fromkeys(ends, scale))
    return found


def unlike(model: ir.Model, made: ir.Model) -> int:
    """Attentions that `made` does not have as one op and that a single op could not be: what q is
    made from is not what k is made from, as in cross attention, or where positions of q that nobody
    reads were left out."""
    fused = {v.name for node in made.graph if node.op_type in ATTENTION for v in node.outputs}
    named = {node.name: node for node in model.graph}
    left = (s for s, ends in attentions(model).items() if fused.isdisjoint(ends))
    products = filter(None, (_scores(named[softmax]) for softmax in left))
    return sum(len({_source(operand) for operand in node.inputs}) > 1 for node in products)


def rescale(model: ir.Model, scale_of: Mapping[str, float]) -> int:
    """Tell fused attention ops their scale where it is not what they assume; how many were told."""
    told = 0
    for node in model.graph:
        if node.op_type not in ATTENTION or "scale" in node.attributes:
            continue
        scale, size = scale_of.get(node.outputs[0].name or ""), _head_size(node)
        if scale is None or size is None or isclose(scale * sqrt(size), 1.0, rel_tol=1e-6):
            continue
        node.attributes["scale"] = ir.AttrFloat32("scale", scale)
        told += 1
    return told


def _head_size(node: ir.Node) -> int | None:
    """Dims of a head of q and k; of an op that takes q itself, from the weight that makes it."""
    heads = node.attributes["num_heads"].as_int()
    if node.op_type == "Attention":
        sizes, weight = node.attributes.get("qkv_hidden_sizes"), _shape(node.inputs[1])
        width = sizes.as_ints()[0] if sizes else weight[-1] // 3 if weight else None
    else:
        query = node.inputs[0]
        producer = query.producer() if query is not None else None
        made = producer.inputs[1] if producer is not None and len(producer.inputs) > 1 else None
        weight = _shape(made)
        width = weight[-1] if weight else None
    return width // heads if width else None


def _shape(value: ir.Value | None) -> tuple[int, ...] | None:
    if value is None or value.const_value is None:
        return None
    return tuple(value.const_value.shape.numpy())


def _scores(softmax: ir.Node) -> ir.Node | None:
    """The product of two computed operands that this softmax reads, nearest first."""
    level = [softmax]
    for _ in range(DEPTH):
        level = [n for node in level for n in _above(node)]
        for node in level:
            if node.op_type == "MatMul" and all(_computed(v) for v in node.inputs):
                return node
        level = [node for node in level if node.op_type in ON_SCORES]
    return None


def _ends(value: ir.Value) -> Iterator[str]:
    """The product of the softmax with v, and what only moves its result."""
    found = _product(value)
    while found is not None:
        (value,) = found.outputs
        yield value.name or ""
        readers = [use[0] for use in value.uses()]
        found = readers[0] if len(readers) == 1 and readers[0].op_type in MOVES else None


def _product(value: ir.Value) -> ir.Node | None:
    """The first product of two computed operands that reads a softmax."""
    level = [value]
    for _ in range(DEPTH):
        readers = [use[0] for v in level for use in v.uses()]
        for node in readers:
            if node.op_type == "MatMul" and all(map(_computed, node.inputs)):
                return node
        level = [n.outputs[0] for n in readers if n.op_type in (*ON_WEIGHTS, *MOVES)]
    return None


def _scale(softmax: ir.Node, known: Mapping[str, Array]) -> float | None:
    """The product of all numbers on the way from q and k to the softmax."""
    scores = _scores(softmax)
    if scores is None:
        return None
    scale, node = 1.0, softmax
    for _ in range(DEPTH):
        if node is scores:
            break
        scale *= _factor(node, known)
        above = next((n for n in _above(node) if _reaches(n, scores)), None)
        if above is None:
            return None
        node = above
    for operand in scores.inputs:
        scale *= _along(operand, known)
    return scale


def _along(value: ir.Value | None, known: Mapping[str, Array]) -> float:
    """What q or k is multiplied by after its projection."""
    scale = 1.0
    for _ in range(DEPTH):
        node = value.producer() if value is not None else None
        if node is None or node.op_type not in (*MOVES, "Mul", "Div"):
            return scale
        factor = _factor(node, known)
        if node.op_type in ("Mul", "Div") and factor == 1.0:
            return scale
        scale *= factor
        value = next((v for v in node.inputs if _number(v, known) is None), None)
    return scale


def _source(operand: ir.Value | None) -> ir.Value | None:
    """What the projection reads that an operand of the scores comes from."""
    for _ in range(2 * DEPTH):
        node = operand.producer() if operand is not None else None
        if node is None or node.op_type not in (*MOVES, "Mul", "Div", "Add", "MatMul"):
            return operand
        operand = next((v for v in node.inputs if _computed(v)), None)
        if node.op_type == "MatMul":
            return operand
    return operand


def _reaches(node: ir.Node, scores: ir.Node, depth: int = DEPTH) -> bool:
    if node is scores:
        return True
    onward = depth > 0 and node.op_type in ON_SCORES
    return onward and any(_reaches(above, scores, depth - 1) for above in _above(node))


def _factor(node: ir.Node, known: Mapping[str, Array]) -> float:
    """The number by which a node multiplies; 1 where it does something else."""
    if node.op_type not in ("Mul", "Div"):
        return 1.0
    first, second = (_number(value, known) for value in node.inputs)
    if node.op_type == "Div":
        return 1.0 / second if second else 1.0
    number = second if second is not None else first
    return 1.0 if number is None else number


def _number(value: ir.Value | None, known: Mapping[str, Array]) -> float | None:
    """A scalar that is a constant, or the same in both runs."""
    if value is None:
        return None
    tensor = value.const_value
    array = tensor.numpy() if tensor is not None else known.get(value.name or "")
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _above(node: ir.Node) -> list[ir.Node]:
    producers = (value.producer() for value in node.inputs if value is not None)
    return [producer for producer in producers if producer is not None]


def _computed(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is None
