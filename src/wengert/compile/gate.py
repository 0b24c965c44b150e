"""Who may run when there are several threads: programs any number at a time, a capture alone.

A capture makes tracers of the Tensors that it meets, for all who hold them, until it ends.
"""

from __future__ import annotations

import threading
from types import TracebackType


class Gate:
    """Lets many pass at a time, or one alone. A thread that is alone may pass again, and so may one that passes."""

    def __init__(self) -> None:
        self._free = threading.Condition(threading.Lock())
        self._passing: dict[int, int] = {}
        self._alone = 0
        self._depth = 0

    def enter(self) -> None:
        """Pass with others; wait while somebody else is alone."""
        me = threading.get_ident()
        with self._free:
            while self._depth and self._alone != me:
                self._free.wait()
            self._passing[me] = self._passing.get(me, 0) + 1

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

    def __enter__(self) -> None:
        """Be alone; wait until all others have passed."""
        me = threading.get_ident()
        with self._free:
            while (self._depth and self._alone != me) or any([other != me for other in self._passing]):
                self._free.wait()
            self._alone = me
            self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._free:
            self._depth -= 1
            if not self._depth:
                self._free.notify_all()


gate = Gate()
"""The one of this process: functions share Tensors."""

__all__ = ["Gate", "gate"]
