"""The worker threads that programs share: Python threads that stay in native code, spinning or asleep.

A worker looks for a new program for a while after it has finished one (a training loop finds it awake), then sleeps in
the operating system until it is woken; the caller doesn't wait for it, but does its work until it comes. Workers are
started when first needed, stopped before a fork (which would copy their state but not them) and at exit.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from threading import Lock, Thread
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from .compiling import PLAIN, Module, begin_modules, compile_for_good
from .program_loop import BLOCK, EXPORTS, HEADER, IDLE, STOP, TIMED_EXPORTS, program_loop, timed_loop
from .target import MOST_THREADS, host_target

PATIENCE, ENDURANCE, EAGERNESS = 2.0, 100.0, 200.0
"""Microseconds until a waiting thread takes over others' work, until it naps, until idle workers sleep."""
SEMAPHORE = 384
"""Where in a thread's block its semaphore is, on systems where a semaphore is memory."""
GRACE = 1.0
"""Seconds that workers are given to stop."""

Function = Callable[..., Any]
_POINTER, _WORD = ctypes.c_void_p, ctypes.c_int64


class Loop(NamedTuple):
    """The native functions that run programs: on the pool's threads, and on the calling one alone."""

    run: Function
    run_alone: Function


class Parking(NamedTuple):
    """How the system puts threads to sleep.

    Attributes:
        wait, post: addresses of the functions that take from, and add to, a semaphore.
        nap, rest: address of a function that sleeps, and its argument for a few tens of microseconds.
        create: makes a semaphore, in the memory at an address if need be; returns its handle.
    """

    wait: int
    post: int
    nap: int
    rest: int
    create: Callable[[int], int]


def _function(address: int, result: Any, *arguments: Any) -> Function:
    return ctypes.CFUNCTYPE(result, *arguments)(address)


def _loop(addresses: dict[str, int], suffix: str) -> Loop:
    run, alone = addresses[f"wengert_run{suffix}"], addresses[f"wengert_run_alone{suffix}"]
    return Loop(
        _function(run, None, _POINTER, _POINTER, _POINTER, _WORD),
        _function(alone, None, _POINTER, _POINTER),
    )


@cache
def _loop_module() -> Module:
    return Module(program_loop(host_target()), EXPORTS)


def begin_loop() -> None:
    """Begin to compile what runs programs, in the background."""
    begin_modules([_loop_module()], PLAIN)


@cache
def native_loop() -> Loop:
    """Return the functions that run programs."""
    return _loop(compile_for_good(_loop_module(), PLAIN), "")


@cache
def brief_loop() -> int:
    """Return the address of what runs a program on the calling thread as one of Python's own functions would."""
    return compile_for_good(_loop_module(), PLAIN)["wengert_brief"]


@cache
def chain_kernel() -> int:
    """Return the address of the kernel that runs chunks: `begin` is the address of their rows, `end` their number."""
    return compile_for_good(_loop_module(), PLAIN)["wengert_chain"]


@cache
def native_timed_loop() -> tuple[Loop, Function]:
    """Return those that take the time of each chunk of work, and the clock that they read."""
    addresses = compile_for_good(Module(timed_loop(host_target()), TIMED_EXPORTS), PLAIN)
    return _loop(addresses, "_timed"), _function(addresses["wengert_clock"], _WORD)


def _parking(wait: Any, post: Any, nap: Any, rest: int, create: Callable[[int], int]) -> Parking:
    functions = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in (wait, post, nap)]
    return Parking(functions[0], functions[1], functions[2], rest, create)


def system_parking() -> Parking | None:
    """Return how this system puts threads to sleep; None where that isn't known."""
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32")
        kernel.CreateSemaphoreW.restype = ctypes.c_void_p
        kernel.CreateSemaphoreW.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_void_p]

        def create_semaphore(_: int) -> int:
            return kernel.CreateSemaphoreW(None, 0, 2**31 - 1, None) or 0

        return _parking(kernel.WaitForSingleObject, kernel.ReleaseSemaphore, kernel.Sleep, 1, create_semaphore)
    library = ctypes.CDLL(None)
    if sys.platform == "darwin":
        library.dispatch_semaphore_create.restype = ctypes.c_void_p
        library.dispatch_semaphore_create.argtypes = [ctypes.c_ssize_t]

        def create_dispatched(_: int) -> int:
            return library.dispatch_semaphore_create(0) or 0

        wait, post = library.dispatch_semaphore_wait, library.dispatch_semaphore_signal
        return _parking(wait, post, library.usleep, 20, create_dispatched)
    if not sys.platform.startswith("linux"):
        return None
    library.sem_init.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint]

    def create_in_place(memory: int) -> int:
        return memory if library.sem_init(memory, 0, 0) == 0 else 0

    return _parking(library.sem_wait, library.sem_post, library.usleep, 20, create_in_place)


class ThreadPool:
    """Workers, and the memory that they share with the callers of programs; whoever uses it holds its lock.

    Thread 0 of a program is the one that calls it; there is one pool in the process, so that a second caller at the
    same time runs its program alone instead of fighting over cores.
    """

    __slots__ = ("_memory", "_parking", "_threads", "_words", "address", "lock", "usable")

    def __init__(self) -> None:
        self.lock = Lock()
        self.usable = True
        self.address = 0
        self._threads: list[Thread] = []
        self._parking: Parking | None = None

    def ready(self, threads: int) -> bool:
        """Return whether a program can run on this many threads; start the workers that are missing."""
        if not self.usable or len(self._threads) + 1 >= threads:
            return self.usable
        try:
            self._prepare()
            while len(self._threads) + 1 < threads:
                self._start(len(self._threads) + 1)
        except (RuntimeError, OSError, AttributeError):  # the system grants no more threads, or lacks a function
            self.usable = False
        return self.usable

    def _prepare(self) -> None:
        """Lay out the memory, and take the measure of the processor's pause."""
        if self.address:
            return
        self._parking = parking = system_parking()
        if parking is None:
            raise OSError("no known way to sleep")
        self._memory = np.zeros(HEADER + BLOCK * (MOST_THREADS + 1), np.uint8)
        address = self._memory.ctypes.data + -self._memory.ctypes.data % BLOCK
        first = (address - self._memory.ctypes.data) // 8
        self._words = self._memory[first * 8 : first * 8 + HEADER + BLOCK * MOST_THREADS].view(np.int64)
        pauses = pauses_per_microsecond()
        self._words[1:4] = [max(1, round(pauses * span)) for span in (PATIENCE, ENDURANCE, EAGERNESS)]
        self._words[4:8] = [parking.nap, parking.wait, parking.post, parking.rest]
        self.address = address

    def _block(self, thread: int) -> int:
        return HEADER + BLOCK * thread

    def _start(self, thread: int) -> None:
        assert self._parking is not None
        place = self._block(thread) // 8
        if not self._words[place + 6]:
            handle = self._parking.create(self.address + self._block(thread) + SEMAPHORE)
            if not handle:
                raise OSError("no semaphore")
            self._words[place + 6] = handle
        self._words[place] = IDLE
        worker = _function(compile_for_good(_loop_module(), PLAIN)["wengert_worker"], None, _POINTER, _WORD)
        started = Thread(target=worker, args=(self.address, thread), name=f"wengert-{thread}", daemon=True)
        started.start()
        self._threads.append(started)

    def stop(self) -> None:
        """Stop all workers, unless a program is running; the next program starts new ones."""
        if not self._threads or not self.lock.acquire(timeout=GRACE):
            return
        try:
            self._stop()
        finally:
            self.lock.release()

    def _stop(self) -> None:
        assert self._parking is not None
        post = _function(self._parking.post, ctypes.c_int, _POINTER, _WORD, _POINTER)
        for thread in range(1, len(self._threads) + 1):
            place = self._block(thread) // 8
            self._words[place] = STOP
            post(int(self._words[place + 6]), 1, None)
        for worker in self._threads:
            worker.join(GRACE)
        if any([worker.is_alive() for worker in self._threads]):
            self.usable = False  # it may still look at its mailbox: never post to it again
            return
        self._threads.clear()


def pauses_per_microsecond() -> float:
    """Return how many of the processor's pauses go by in a microsecond."""
    spin = _function(compile_for_good(_loop_module(), PLAIN)["wengert_spin"], None, _WORD)
    rounds, best = 4000, float("inf")
    for _ in range(3):
        start = perf_counter()
        spin(rounds)
        best = min(best, perf_counter() - start)
    return rounds / (best * 1e6)


_pools = [ThreadPool()]


def pool() -> ThreadPool:
    """Return the process's pool."""
    return _pools[0]


def _before_fork() -> None:
    _pools[0].stop()


def _after_fork_in_child() -> None:
    _pools[0] = ThreadPool()


def _at_exit() -> None:
    _pools[0].stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
