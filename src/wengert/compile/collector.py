"""Python's cycle collector, kept waiting while a function is captured and compiled."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def waiting_collector() -> Iterator[None]:
    """Keep the cycle collector from starting by itself.

    A capture and a compiler make many objects and nearly no garbage: the collector would go through all that has been
    made, and all that the process has loaded, again and again, for a third of the time that a large program takes.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
