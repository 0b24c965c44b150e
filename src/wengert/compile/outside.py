"""What a function asks of the world outside while it is captured: clocks, files, random numbers that are not ours.

None of it would be asked again by a compiled program, so that what it answered would be good for the first run only.
"""

from __future__ import annotations

import datetime
import io
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Set
from types import FrameType
from typing import Any

import numpy as np

from ..core.tape import PACKAGE

_CLOCKS = (
    *("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time"),
    *("process_time_ns", "thread_time", "thread_time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime"),
)
_DATES = ("now", "utcnow", "today")
_FILES = ("open", "input", "read", "readline", "readlines", "read_text", "read_bytes", "load", "loadtxt", "genfromtxt")
_NOISE = ("urandom", "getrandom", "uuid1", "uuid4", "token_bytes", "token_hex", "randbits", "SystemRandom")
_TELLTALE = frozenset((*_CLOCKS, *_DATES, *_FILES, *_NOISE))
"""Names without one of which code asks for nothing of the kind."""
_PASSED_OVER = ("importlib", "linecache", "tokenize", "traceback", "warnings", "logging")
"""Parts of the standard library that look at clocks and files for their own purposes."""

_BUILTINS: dict[Any, str] = {
    **{getattr(time, name): f"a clock (time.{name})" for name in _CLOCKS if hasattr(time, name)},
    **{io.open: "a file", input: "what is typed", os.urandom: "the system's random numbers"},
}


def _asked(function: Any) -> str | None:
    """Return what a builtin function answers from outside; None if nothing."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, datetime.date) and function.__name__ in _DATES:
        return f"a clock ({owner.__name__}.{function.__name__})"
    if isinstance(owner, io.IOBase) and function.__name__.startswith("read"):
        return "a file"
    try:
        return _BUILTINS.get(function)
    except TypeError:  # bound to something that has no hash
        return None


class Outside:
    """Notes what is asked of the world outside while functions run, if their code names what it takes.

    The interpreter tells of calls of builtin functions only at a price, and not if a profiler listens already.

    Args:
        names: what the code names.
    """

    def __init__(self, names: Set[str]) -> None:
        self._listens = not _TELLTALE.isdisjoint(names)
        self._heard: str | None = None
        self._drawn = _numpy_draws()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function, listening."""
        if not self._listens or sys.getprofile() is not None:
            return function(*args)
        sys.setprofile(self._hear)
        try:
            return function(*args)
        finally:
            sys.setprofile(None)

    def reason(self) -> str | None:
        """Return why the function that was run cannot be compiled, if it asked for something."""
        if self._heard is not None:
            return (
                f"it reads {self._heard}, which a compiled function does only once, when its program is made. Read it "
                "outside, and pass what it says as an argument"
            )
        if _numpy_draws() == self._drawn:
            return None
        return (
            "it draws from NumPy's global generator, whose numbers would be the same in every run; draw from wg.random "
            "instead"
        )

    def _hear(self, frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call" or self._heard is not None:
            return
        what = _asked(function)
        if what is not None and (place := _place_of(frame)) is not None:
            self._heard = f"{what} at {place}"


def _numpy_draws() -> Any:
    """Return where NumPy's global generator stands."""
    state: Any = np.random.get_state()  # noqa: NPY002 - it is watched, not used
    return state[2], hash(state[1].tobytes())


_LIBRARY = tuple({sysconfig.get_path("stdlib") + os.sep, sysconfig.get_path("platstdlib") + os.sep})


def _place_of(frame: FrameType | None) -> str | None:
    """Return the line of the user's that led to a call; None if it was ours, or the interpreter's own business."""
    while frame is not None:
        file = frame.f_code.co_filename
        name = str(frame.f_globals.get("__name__", ""))
        if file.startswith(PACKAGE) or name.partition(".")[0] in _PASSED_OVER or name.startswith("_frozen_importlib"):
            return None
        if not (file.startswith(_LIBRARY) or file.startswith("<frozen") or "site-packages" in file):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return None


__all__ = ["Outside"]
