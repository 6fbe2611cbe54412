"""op -> rule: the one table that says what mipack understands.

A rule is a function of a `NodeView`. `@rule("Conv")` registers it for the standard domain,
`@rule("com.microsoft::FusedGemm")` for another. See README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Callable

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
