"""Memory for what programs compute on the way: shared by programs that don't run at the same time."""

from __future__ import annotations

import os
import weakref
from threading import Lock

import numpy as np

LINE = 64
PAGE = 4096
HUGE_PAGE = 2 * 1024 * 1024


class Arena:
    """A block of memory that one program at a time uses, and that lives as long as some program knows it.

    Attributes:
        size: how many bytes from `address` on are there.
        address: aligned to a huge page if there is room for some, else to a page.
        lock: held by the program that uses it.
    """

    __slots__ = ("__weakref__", "_memory", "address", "lock", "size")

    def __init__(self, size: int) -> None:
        alignment = HUGE_PAGE if size >= 2 * HUGE_PAGE else PAGE
        self._memory = np.empty(size + alignment, np.uint8)  # NumPy asks for huge pages where it is worth it
        begin = self._memory.ctypes.data
        self.address = begin + -begin % alignment
        self.size = size
        self.lock = Lock()


_arenas: weakref.WeakSet[Arena] = weakref.WeakSet()
_locks = [Lock()]


def _after_fork_in_child() -> None:
    _locks[0] = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def borrow(size: int) -> Arena:
    """Return an arena of at least some size, its lock held: the smallest that nobody uses now, or a new one."""
    with _locks[0]:
        for arena in sorted(_arenas, key=_size):
            if arena.size >= size and arena.lock.acquire(blocking=False):
                return arena
        arena = Arena(size)
        arena.lock.acquire()
        _arenas.add(arena)
        return arena


def _size(arena: Arena) -> int:
    return arena.size
