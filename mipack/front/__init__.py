"""The public functions behind the commands other than prune; resolved on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mipack.front.lossless import slim
    from mipack.front.machine import env
    from mipack.front.race import bench
    from mipack.front.reasons import why
    from mipack.front.scores import evaluate
    from mipack.front.survey import inspect

_HOME = {
    "inspect": "mipack.front.survey",
    "why": "mipack.front.reasons",
    "slim": "mipack.front.lossless",
    "evaluate": "mipack.front.scores",
    "finish": "mipack.front.finishing",
    "bench": "mipack.front.race",
    "package": "mipack.front.deploy",
    "query": "mipack.front.ask",
    "env": "mipack.front.machine",
}

__all__ = ["bench", "env", "evaluate", "finish", "inspect", "package", "query", "slim", "why"]


def __getattr__(name: str) -> Any:
    """The public function `name`, from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
