"""The small frozen records that more than one stage reads."""

from __future__ import annotations

from dataclasses import dataclass

Dim = int | str | None
"""A declared size: a number, a symbol, or nothing (dynamic and unnamed)."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model declares of one input or output: numpy dtype name ("float32", "int64",
    "bfloat16", "str", ...) and one `Dim` per axis; `shape` is None where no rank is declared."""

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's inputs (initializers excluded) and outputs, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec | None:
        """The input of that name, if there is one."""
        return next((spec for spec in self.inputs if spec.name == name), None)
