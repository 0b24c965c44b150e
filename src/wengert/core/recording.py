"""Whether operations are recorded here: one context variable, which is per thread (and per task) by nature.

Reading a context variable costs about 15 ns, less than a thread-local attribute; the fast path reads it only after it
has seen a tracked input.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

_recording: ContextVar[Any] = ContextVar("wengert_recording", default=True)

is_recording: Callable[[], Any] = _recording.get


UNTAPED: Any = None
"""A state of recording: no tape is kept, but tangents pass. `False`, which is what users see of `no_grad()`, makes a
constant of everything that is computed, in every mode."""


def set_recording(mode: Any) -> Any:
    """Switch recording on (True), off (False), or off for tapes alone (UNTAPED) in this thread; return what it was."""
    before = _recording.get()
    _recording.set(mode)
    return before


_observers: ContextVar[tuple[object, ...]] = ContextVar("wengert_observers", default=())

observers: Callable[[], tuple[object, ...]] = _observers.get
"""Who would differentiate what is computed now, the outermost first: recording tapes, transforms at work. A gradient
taken meanwhile has to be recorded itself, whether or not it shows that anybody will ask."""


def is_observed() -> bool:
    """Return whether somebody would differentiate what is computed now, so that a gradient has to be recorded."""
    return bool(_recording.get()) and bool(_observers.get())


def set_observers(current: tuple[object, ...]) -> None:
    """Replace the observers of this thread (or task)."""
    _observers.set(current)
