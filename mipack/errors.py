"""Every failure that mipack raises on purpose, and the exit code each one ends the command with.

MipackError
├── InputError          2   the user can fix it: a file, an option, a budget
│   ├── UnsupportedError    an op, opset or form that cannot be run or cut
│   └── PlanMismatch        a plan or moments file that belongs to another model
├── VerificationError   1   the answer is no: the result did not pass its proof
└── RuntimeFailure      3   our fault, or the runtime's
"""

from __future__ import annotations


class MipackError(Exception):
    """One clear line: what, where; `hint` says what to do, `node` and `op` name the place."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "", node: str = "", op: str = "") -> None:
        super().__init__(message)
        self.hint, self.node, self.op = hint, node, op

    def __str__(self) -> str:
        place = f" (node {self.node!r}, op {self.op})" if self.op and self.node else ""
        return f"{self.args[0]}{place}"


class InputError(MipackError):
    """The user can fix it."""

    exit_code = 2


class UnsupportedError(InputError):
    """The model uses something that cannot be run here."""


class PlanMismatch(InputError):
    """A plan or moments file does not belong to this model or data."""


class VerificationError(MipackError):
    """The pruned model did not pass its proof; nothing was written."""

    exit_code = 1


class RuntimeFailure(MipackError):
    """A defect of mipack or of the runtime."""

    exit_code = 3
