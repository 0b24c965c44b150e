"""Who may run when there are several threads: programs any number at a time, a capture alone.

A capture makes tracers of the Tensors that it meets, for all who hold them, until it ends. The function that it runs
may wait for a thread that wants to pass. Nobody can see that for certain; but who is alone and has done next to nothing
for a while, while a function of the user's runs, is taken to wait, and the others are told to go another way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..core import capturing

_LOOK = 0.05
"""Seconds from one look at who is alone to the next."""
_NEXT_TO_NOTHING = 0.02
"""Seconds of computing that a thread that waits may come to while the others are patient: it may look now and then."""
_clock_of: Callable[[int], int] | None = getattr(time, "pthread_getcpuclockid", None)
"""Where the system has them, gives the clock of a thread, which goes while it computes."""
_PATIENCE = 1.0 if _clock_of is not None else 10.0
"""Seconds after which somebody who does next to nothing (or nobody knows what) is taken to wait."""


class _Watch:
    """A look from time to time at a thread that is alone."""

    def __init__(self) -> None:
        self._thread = 0
        self._since = self._spent = 0.0

    def is_idle(self, thread: int) -> bool:
        """Whether the thread has done next to nothing for a while, in a function that is being captured."""
        now = time.monotonic()
        spent = time.clock_gettime(_clock_of(thread)) if _clock_of is not None else 0.0
        if thread != self._thread or not capturing.engaged or spent - self._spent > _NEXT_TO_NOTHING:
            self._thread, self._since, self._spent = thread, now, spent
        return now - self._since > _PATIENCE


class Gate:
    """Lets many pass at a time, or one alone. A thread that is alone may pass again, and so may one that passes."""

    def __init__(self) -> None:
        self._free = threading.Condition(threading.Lock())
        self._passing: dict[int, int] = {}
        self._alone = 0
        self._depth = 0

    def enter(self) -> bool:
        """Pass with others; wait while somebody else is alone; return False if that seems to take forever."""
        me = threading.get_ident()
        with self._free:
            if self._depth and self._alone != me and not self._wait(me, False):
                return False
            self._passing[me] = self._passing.get(me, 0) + 1
        return True

    def leave(self) -> None:
        """End what `enter` began."""
        me = threading.get_ident()
        with self._free:
            count = self._passing[me] - 1
            if count:
                self._passing[me] = count
            else:
                del self._passing[me]
                if not self._depth:
                    self._free.notify_all()

    def close(self) -> bool:
        """Be alone; wait until all others have passed; return False if that seems to take forever."""
        me = threading.get_ident()
        with self._free:
            if not self._wait(me, True):
                return False
            self._alone = me
            self._depth += 1
        return True

    def open(self) -> None:
        """End what `close` began."""
        with self._free:
            self._depth -= 1
            if not self._depth:
                self._free.notify_all()

    def _wait(self, me: int, for_all: bool) -> bool:
        """Wait while somebody else is alone, or, for all, while anybody passes; return whether that has come."""
        watch = _Watch()
        while True:
            is_closed = self._depth > 0 and self._alone != me
            if not is_closed and not (for_all and any([other != me for other in self._passing])):
                return True
            if is_closed and watch.is_idle(self._alone):
                return False
            self._free.wait(_LOOK)


gate = Gate()
"""The one of this process: functions share Tensors."""

__all__ = ["Gate", "gate"]
