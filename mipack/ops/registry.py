"""op -> rule: the one table that says what mipack understands.

A rule is a function of a `NodeView`. `@rule("Conv")` registers it for the standard domain,
`@rule("com.microsoft::FusedGemm")` for another. See README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx.defs
import onnx_ir as ir

from mipack.graph.view import NodeView

Rule = Callable[[NodeView], None]
_RULES: dict[str, Rule] = {}
STANDARD = ("", "ai.onnx")


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for ops."""

    def register(function: Rule) -> Rule:
        for op in ops:
            if op in _RULES:
                raise ValueError(f"two rules for {op}")
            _RULES[op] = function
        return function

    return register


def key(node: ir.Node) -> str:
    """The name under which a node's rule is registered."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"


def rule_for(node: ir.Node) -> Rule | None:
    """The rule of a node, if there is one."""
    return _RULES.get(key(node))


def registered() -> tuple[str, ...]:
    """Every op with a rule, sorted."""
    return tuple(sorted(_RULES))


def families() -> dict[str, tuple[str, ...]]:
    """The ops with a rule by the file that holds it, both sorted."""
    found: dict[str, list[str]] = {}
    for op in registered():
        found.setdefault(_RULES[op].__module__.rpartition(".")[2], []).append(op)
    return {file: tuple(found[file]) for file in sorted(found)}


@dataclass(frozen=True, slots=True)
class Standard:
    """What the standard says of an op: the versions of its definition that are in force, and
    whether the newest is also defined by other ops (its function body)."""

    versions: tuple[int, ...]
    body: bool


def standard_ops(oldest: int, newest: int) -> dict[str, Standard]:
    """The ops of the standard domain from one opset to another, sorted."""
    met: dict[str, dict[int, onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= newest:
            met.setdefault(schema.name, {})[schema.since_version] = schema
    found = {op: _in_force(met[op], oldest) for op in sorted(met)}
    return {op: entry for op, entry in found.items() if entry.versions}


def _in_force(schemas: dict[int, onnx.defs.OpSchema], oldest: int) -> Standard:
    first = max((version for version in schemas if version <= oldest), default=oldest)
    used = [v for v in sorted(schemas) if v >= first and not schemas[v].deprecated]
    newest = schemas[used[-1]] if used else None
    bodies = ("has_function", "has_context_dependent_function")  # which the stubs do not list
    return Standard(tuple(used), any(getattr(newest, name, False) for name in bodies))
