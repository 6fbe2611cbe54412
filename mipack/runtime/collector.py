"""Python's cyclic garbage collector, out of the way while large graphs are built.

A graph is millions of small objects that all live: looking through them again and again made half
of the time of a model of 20,000 nodes (`benchmarks/scale.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """No collections inside; as before afterwards."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()
