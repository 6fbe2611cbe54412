"""Whether two graphs are one but for the values of some weights and the biases put in.

What refit may do to a proven cut: give reported initializers other values of the same type and
shape, and give a reader of such a weight a bias, as its own operand or as an Add behind it.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir


def difference(proven: ir.Graph, final: ir.Graph, changed: Collection[str]) -> str:
    """The first thing that `changed`, names of initializers, does not allow; "" if none."""
    problem = _odd_weight(proven, final, changed)
    if problem:
        return problem
    known = {node.name: node for node in proven}
    fresh = [node for node in final if node.name not in known]
    for node in fresh:
        if not _adds_bias(node, proven, changed):
            return f"node {node.name} is new"
    names = _original_names(proven, fresh)
    for node in final:
        twin = known.pop(node.name, None)
        if twin is not None and not _alike(node, twin, names, changed):
            return f"node {node.name} differs"
    return f"node {next(iter(known))} is missing" if known else ""


def additions(proven: ir.Graph, final: ir.Graph) -> int:
    """How many nodes were put in."""
    known = {node.name for node in proven}
    return sum(node.name not in known for node in final)


def _odd_weight(proven: ir.Graph, final: ir.Graph, changed: Collection[str]) -> str:
    for name, value in final.initializers.items():
        twin = proven.initializers.get(name)
        if twin is None:
            odd = name not in changed or len(value.uses()) != 1  # a bias serves one reader
        else:
            odd = not _same_form(value, twin) or (name not in changed and not _same(value, twin))
        if odd:
            return f"initializer {name} differs"
    return ""


def _same_form(a: ir.Value, b: ir.Value) -> bool:
    if a.const_value is None or b.const_value is None:
        return a.const_value is b.const_value
    x, y = a.const_value, b.const_value
    return x.dtype == y.dtype and tuple(x.shape) == tuple(y.shape)


def _same(a: ir.Value, b: ir.Value) -> bool:
    if a.const_value is None or b.const_value is None or a.const_value is b.const_value:
        return a.const_value is b.const_value
    return a.const_value.tobytes() == b.const_value.tobytes()


def _adds_bias(node: ir.Node, proven: ir.Graph, changed: Collection[str]) -> bool:
    """Whether a new node adds a new weight to what a reader of a reported weight gives."""
    if node.op_type != "Add" or node.domain or len(node.inputs) != 2 or node.attributes:
        return False
    source, bias = node.inputs
    reader = source.producer() if source is not None else None
    if reader is None or bias is None:
        return False
    refitted = any(v is not None and v.name in changed for v in reader.inputs)
    return refitted and bias.name in changed and bias.name not in proven.initializers


def _original_names(proven: ir.Graph, fresh: Collection[ir.Node]) -> dict[str, str]:
    """Names that additions gave to values -> the names of those values in the proven cut.

    Behind y the sum is read in y's place; where y is an output of the model, the sum has its name.
    """
    made = {value.name for node in proven for value in node.outputs}
    names = {}
    for node in fresh:
        source, result = _name(node.inputs[0]), _name(node.outputs[0])
        names.update({source: result} if result in made else {result: source})
    return names


def _alike(node: ir.Node, twin: ir.Node, names: dict[str, str], changed: Collection[str]) -> bool:
    """The same op on the same values, but for a bias where there was none."""
    if (node.domain, node.op_type) != (twin.domain, twin.op_type):
        return False
    if [names.get(_name(v), _name(v)) for v in node.outputs] != [_name(v) for v in twin.outputs]:
        return False
    ours = [names.get(_name(v), _name(v)) for v in node.inputs]
    theirs = [_name(v) for v in twin.inputs] + [""] * (len(ours) - len(twin.inputs))
    if len(ours) != len(theirs):
        return False
    for own, other in zip(ours, theirs, strict=True):
        if own != other and (other or own not in changed):
            return False
    return _attributes(node) == _attributes(twin)


def _name(value: ir.Value | None) -> str:
    return value.name or "" if value is not None else ""


def _attributes(node: ir.Node) -> dict[str, bytes]:
    """Every attribute to its last bit: printed forms leave out the middle of large tensors."""
    return {k: ir.to_proto(a).SerializeToString() for k, a in node.attributes.items()}
