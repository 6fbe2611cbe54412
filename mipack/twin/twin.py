"""Twin: a model that torch runs node by node, so that gradients of anything can be taken.

It stands beside the runtime, not in its place: float32 only, one op at a time, every named value
within reach. Shapes are those of each run; sizes and positions stay on the host. Values go as soon
as nothing reads them any more (autograd keeps what it needs). Bodies of If, Loop and Scan run as
they are; an op that the table lacks runs through its function body, where the standard has one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from mipack.errors import MipackError, UnsupportedError
from mipack.graph.bodies import FLOW, bodies, captured, reads
from mipack.ops.registry import STANDARD, key
from mipack.ops.torch import Call, Entry, entry_for
from mipack.twin.standard import body_of, has_body

Array = np.ndarray[Any, Any]
Tensor = torch.Tensor
Edit = Callable[[Tensor], Tensor]
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edits:
    """What is put in the place of values while the model runs.

    `values[name]` for every reader of a value, `operands[node name, slot]` for one of them.
    """

    values: Mapping[str, Edit] = field(default_factory=dict)
    operands: Mapping[tuple[str, int], Edit] = field(default_factory=dict)


NOTHING = Edits()


@dataclass(frozen=True, slots=True)
class _Step:
    """A node, its names, and the values that nobody reads after it."""

    node: ir.Node
    call: Call
    entry: Entry | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...]


class Twin:
    """The model on one device; `weights` are named as the initializers.

    Weights share memory with the model where they can and must not be changed in place. Raises
    UnsupportedError while running, naming the node, where an op has no torch function.
    """

    def __init__(self, model: ir.Model, device: str = "cpu") -> None:
        self.model, self.device = model, torch.device(device)
        held = model.graph.initializers
        self.weights: dict[str, Tensor] = {
            name: self._weight(value.const_value.numpy())
            for name, value in held.items()
            if value.const_value is not None and value.const_value.dtype != ir.DataType.STRING
        }
        self._plans: dict[tuple[int, tuple[str, ...]], list[_Step]] = {}
        self._bodies: dict[ir.Node, Twin] = {}
        self._elsewhere: dict[str, Tensor] = {}

    @staticmethod
    def unsupported(model: ir.Model) -> list[str]:
        """The nodes that cannot run: "OpType (node name)", in the order of the graph."""
        return [
            f"{key(node)} ({node.name})"
            for node in model.graph.all_nodes()
            if not (_flow(node) or entry_for(node) or has_body(node, _opset(model, node)))
        ]

    def run(
        self, feeds: Mapping[str, Any], wanted: Sequence[str], edits: Edits = NOTHING
    ) -> dict[str, Tensor]:
        """The wanted values, as tensors on the device (or on the host, for sizes).

        `feeds` are arrays or tensors; those beyond the inputs are ignored.
        """
        inputs = {value.name or "" for value in self.model.graph.inputs}
        values: Values = dict(self.weights)
        for name in inputs.intersection(feeds):
            edit: Edit = edits.values.get(name, _same)
            values[name] = edit(self._tensor(feeds[name]))
        self._walk(self.model.graph, values, tuple(wanted), edits)
        return {name: values[name] for name in wanted}

    # -- values

    def _tensor(self, value: Any) -> Tensor:
        tensor = value if isinstance(value, Tensor) else _from_numpy(np.asarray(value))
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        return tensor.to(self.device)

    def _weight(self, array: Array) -> Tensor:
        """Integers stay on the host: most of them are sizes and positions."""
        tensor = _from_numpy(array)
        return tensor.float().to(self.device) if tensor.is_floating_point() else tensor

    # -- running

    def _walk(self, graph: ir.Graph, values: Values, wanted: tuple[str, ...], edits: Edits) -> None:
        for step in self._plan(graph, wanted):
            try:
                made = self._made(step, values, edits)
            except MipackError:
                raise
            except Exception as error:  # torch fails in many ways
                text = " ".join(str(error).split())[:200]
                raise UnsupportedError(
                    f"the op cannot be computed in torch: {text}",
                    hint="use a signal that needs no gradients",
                    node=step.node.name or "",
                    op=step.node.op_type,
                ) from error
            for name, value in zip(step.outputs, made, strict=False):
                if name:
                    edit: Edit = edits.values.get(name, _same)
                    values[name] = edit(value)
            for name in step.last:
                values.pop(name, None)

    def _made(self, step: _Step, values: Values, edits: Edits) -> Sequence[Any]:
        if _flow(step.node):
            return self._flow(step.node, values, edits)
        operands = [values[name] if name else None for name in step.inputs]
        if edits.operands:
            for slot, operand in enumerate(operands):
                edit = edits.operands.get((step.node.name or "", slot))
                if edit is not None and operand is not None:
                    operands[slot] = edit(operand)
        if step.entry is None:
            return self._through_body(step, operands)
        operands = self._together(step, operands)
        made = step.entry.function(step.call, *operands)
        return made if isinstance(made, tuple) else (made,)

    def _together(self, step: _Step, operands: list[Any]) -> list[Any]:
        """Operands that are computed with, on one device: the other one if any is there."""
        assert step.entry is not None
        if self.device.type == "cpu":
            return operands
        slots = [k for k in range(len(operands)) if k not in step.entry.host]
        there = any(_device(operands[k]) == self.device.type for k in slots)
        if there:
            for k in slots:
                if _device(operands[k]) == "cpu":
                    operands[k] = self._moved(step.inputs[k], operands[k])
        return operands

    def _moved(self, name: str, operand: Tensor) -> Tensor:
        """On the device; constants are copied there once."""
        if self.weights.get(name) is not operand:
            return operand.to(self.device)
        if name not in self._elsewhere:
            self._elsewhere[name] = operand.to(self.device)
        return self._elsewhere[name]

    def _through_body(self, step: _Step, operands: Sequence[Any]) -> Sequence[Any]:
        node = step.node
        names = [name for name in step.inputs if name]
        given = dict(zip(step.inputs, operands, strict=True))
        if node not in self._bodies:
            kinds = {name: _numpy(given[name]) for name in names}
            body = body_of(node, _opset(self.model, node), kinds)
            if body is None:
                raise step.call.refuse("the op has no torch function")
            self._bodies[node] = Twin(body, self.device.type)
        made = self._bodies[node].run(given, [name for name in step.outputs if name])
        return [made.get(name) for name in step.outputs]

    # -- the order of nodes

    def _plan(self, graph: ir.Graph, wanted: tuple[str, ...]) -> list[_Step]:
        """The nodes that the wanted values need; each says what nobody reads after it."""
        found = self._plans.get((id(graph), wanted))
        if found is None:
            found = self._plans[id(graph), wanted] = self._planned(graph, wanted)
        return found

    def _planned(self, graph: ir.Graph, wanted: tuple[str, ...]) -> list[_Step]:
        needed, kept = set(wanted), set(wanted)
        steps: list[_Step] = []
        own = {v.name or "" for node in graph for v in node.outputs}
        for node in reversed(list(graph)):
            outputs = tuple(v.name or "" for v in node.outputs)
            if needed.isdisjoint(outputs):
                continue
            read = dict.fromkeys(v.name or "" for v in reads(node))
            unread = [name for name in outputs if name not in needed]
            last = [name for name in read if name not in needed and name in own]
            last = [name for name in (*last, *unread) if name and name not in kept]
            needed.update(read)
            inputs = tuple(v.name or "" if v is not None else "" for v in node.inputs)
            call = Call(node, _opset(self.model, node))
            steps.append(_Step(node, call, entry_for(node), inputs, outputs, tuple(last)))
        return steps[::-1]

    # -- bodies

    def _flow(self, node: ir.Node, values: Values, edits: Edits) -> Sequence[Any]:
        operands = [values[v.name or ""] if v is not None else None for v in node.inputs]
        if node.op_type == "If":
            branch = "then_branch" if bool(operands[0]) else "else_branch"
            return self._body(node.attributes[branch].as_graph(), [], values, edits)
        body = node.attributes["body"].as_graph()
        if node.op_type == "Loop":
            return self._loop(node, body, operands, values, edits)
        return self._scan(node, body, operands, values, edits)

    def _body(
        self, body: ir.Graph, operands: Iterable[Any], values: Values, edits: Edits
    ) -> list[Any]:
        inside = {v.name or "": x for v, x in zip(body.inputs, operands, strict=True)}
        inside |= {v.name or "": values[v.name or ""] for v in captured(body)}
        wanted = tuple(v.name or "" for v in body.outputs)
        self._walk(body, inside, wanted, edits)
        return [inside[name] for name in wanted]

    def _loop(
        self, node: ir.Node, body: ir.Graph, operands: list[Any], values: Values, edits: Edits
    ) -> list[Any]:
        most, going, *states = operands
        rounds: list[list[Any]] = []
        turn = 0
        while (most is None or turn < int(most)) and (going is None or bool(going)):
            given = [torch.tensor(turn), torch.tensor(True) if going is None else going, *states]
            going, *made = self._body(body, given, values, edits)
            states, scanned = made[: len(states)], made[len(states) :]
            rounds.append(scanned)
            turn += 1
        if not rounds and len(node.outputs) > len(states):
            raise UnsupportedError("a loop without rounds", node=node.name or "", op="Loop")
        return [*states, *(torch.stack(parts) for parts in zip(*rounds, strict=True))]

    def _scan(
        self, node: ir.Node, body: ir.Graph, operands: list[Any], values: Values, edits: Edits
    ) -> list[Any]:
        call = Call(node, _opset(self.model, node))
        count = call.attr("num_scan_inputs")
        states, walked = operands[: len(operands) - count], operands[len(operands) - count :]
        results = len(node.outputs) - len(states)
        axes = call.attr("scan_input_axes", [0] * count)
        turned = call.attr("scan_input_directions", [0] * count)
        rows = [
            x.unbind(axis)[:: -1 if back else 1]
            for x, axis, back in zip(walked, axes, turned, strict=True)
        ]
        rounds: list[list[Any]] = []
        for parts in zip(*rows, strict=True):
            made = self._body(body, [*states, *parts], values, edits)
            states = made[: len(states)]
            rounds.append(made[len(states) :])
        axes = call.attr("scan_output_axes", [0] * results)
        turned = call.attr("scan_output_directions", [0] * results)
        stacked = [
            torch.stack(parts[:: -1 if back else 1], axis)
            for parts, axis, back in zip(zip(*rounds, strict=True), axes, turned, strict=True)
        ]
        return [*states, *stacked]


def _flow(node: ir.Node) -> bool:
    return node.op_type in FLOW and node.domain in STANDARD and bool(bodies(node))


def _opset(model: ir.Model, node: ir.Node) -> int:
    imports = model.graph.opset_imports
    return imports.get(node.domain, imports.get("", 1))


def _same(value: Any) -> Any:
    return value


def _device(operand: Any) -> str:
    if isinstance(operand, list):
        return _device(operand[0]) if operand else ""
    return operand.device.type if isinstance(operand, Tensor) else ""


def _from_numpy(array: Array) -> Tensor:
    """A tensor on the same memory, where torch knows the type."""
    if array.dtype.kind not in "fiub":  # bfloat16 and other types that numpy does not own
        array = array.astype(np.float32)
    if array.dtype in (np.uint16, np.uint32, np.uint64):
        array = array.astype(np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of memory that may only be read: nothing is written
        return torch.from_numpy(np.ascontiguousarray(array)).reshape(array.shape)


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy()
