"""Prune ONNX models structurally, without retraining.

The public names are resolved on first use, so that `import mipack`, and with it the start of the
command line, loads nothing heavy.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mipack.data.dataset import ReadOptions
    from mipack.errors import InputError, MipackError, VerificationError
    from mipack.explore.points import Sweep
    from mipack.explore.sweep import sweep
    from mipack.front.reasons import why
    from mipack.front.survey import inspect
    from mipack.options import PruneOptions
    from mipack.result import PruneResult
    from mipack.rounds import prune
    from mipack.runtime.session import custom_ops

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "MipackError",
    "PruneOptions",
    "PruneResult",
    "ReadOptions",
    "Sweep",
    "VerificationError",
    "__version__",
    "custom_ops",
    "inspect",
    "prune",
    "sweep",
    "why",
]

_HOME = {  # public name -> its module; evaluate and bench, also packages here, are in mipack.front
    "InputError": "mipack.errors",
    "MipackError": "mipack.errors",
    "PruneOptions": "mipack.options",
    "PruneResult": "mipack.result",
    "ReadOptions": "mipack.data.dataset",
    "Sweep": "mipack.explore.points",
    "VerificationError": "mipack.errors",
    "custom_ops": "mipack.runtime.session",
    "inspect": "mipack.front",
    "prune": "mipack.rounds",
    "sweep": "mipack.explore.sweep",
    "why": "mipack.front",
}

# Whoever sets up logging hears it; nobody else is told to.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """The public name `name`, from the module that defines it; AttributeError for any other."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
