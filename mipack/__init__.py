"""Prune ONNX models structurally, without retraining.

The public names are resolved on first use, so that `import mipack`, and with it the start of the
command line, loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "MipackError",
    "PruneOptions",
    "PruneResult",
    "ReadOptions",
    "VerificationError",
    "__version__",
    "custom_ops",
    "inspect",
    "prune",
    "why",
]

_HOME = {  # public name -> its module; evaluate and bench, also packages here, are in mipack.front
    "InputError": "mipack.errors",
    "MipackError": "mipack.errors",
    "PruneOptions": "mipack.options",
    "PruneResult": "mipack.result",
    "ReadOptions": "mipack.data.dataset",
    "VerificationError": "mipack.errors",
    "custom_ops": "mipack.runtime.session",
    "inspect": "mipack.front",
    "prune": "mipack.rounds",
    "why": "mipack.front",
}


def __getattr__(name: str) -> Any:
    """The public name `name`, from the module that defines it; AttributeError for any other."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
