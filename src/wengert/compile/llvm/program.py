"""Programs: sequences of jobs that one native call runs from beginning to end."""

from __future__ import annotations

import ctypes
import time
import warnings
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from itertools import accumulate, pairwise
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np

from ...errors import NativeCodeError
from ..kernels import Job, Kernel
from . import watch
from .arena import LINE, Arena, borrow
from .builtins import are_possible, builtin
from .chains import linked
from .compiling import (
    EXPLICIT,
    PLAIN,
    Code,
    begin_kernels,
    compile_kernels,
    compile_quickly,
    is_compiled_well,
    kernels_ready,
)
from .effort import work_of
from .target import MOST_THREADS, available_cores
from .threads import begin_loop, brief_loop, chain_kernel, native_loop, native_timed_loop, pool

CHUNKS = 4
"""Pieces that a thread's share of a job has at most, for others to take over when its thread is held up."""
WORTHWHILE = 8
"""Grains that a piece has at least, if a share has more than one: each costs a call. Kernels with scratch memory have
one piece for each thread, since they prepare there what all units of a call use: packed panels of matrices."""
BRIEF = 2**21
"""Operations and bytes up to which a program runs without giving the GIL up: some 10 us, while others wait 5 ms for it
as a rule. Its arena is its own."""
UNKNOWN, CHAINED = -1, -1
"""In place of a base's address, and of the job that a chunk belongs to."""


_is_loaded = Event()


def prepare() -> None:
    """Load LLVM, and begin to compile what all programs need, in the background: while a function is being captured.

    What goes wrong here will go wrong again for the program, where it can be dealt with.
    """
    if not _is_loaded.is_set():
        with suppress(RuntimeError):  # no more threads
            Thread(target=load, name="wengert-prepare").start()


def load() -> None:
    """Load LLVM now, and begin to compile what all programs need; where that fails, programs will tell of it."""
    with suppress(RuntimeError, NativeCodeError):
        begin_loop()
        watch.prepare()
        _is_loaded.set()


def begin(kernels: Iterable[Kernel], fast: Container[str] = ()) -> None:
    """Begin to compile kernels of a program-to-be, in the background, as it will; for each as soon as it is made.

    Args:
        kernels: some of the program's.
        fast: names of those that are compiled fast, be it for good or to begin with.
    """
    for kernel in kernels:
        begin_kernels([kernel], PLAIN if kernel.name in fast else EXPLICIT)


class Timing(NamedTuple):
    """What a job took: `busy` are seconds of all threads together; the rest is as in its Kernel."""

    name: str
    busy: float
    units: int
    flops: int
    moved: int


class _Tables(NamedTuple):
    """A program as the native loop reads it; all calls share it, and only addresses of functions ever change.

    Attributes:
        segments: rows of width (chunks per share; 0 for a sequence), first chunk, shares (or chunks in sequence), and
            how many chunks are finished when it is over, a sequence counting as one.
        chunks, alone: rows of function, offset of operands, begin, end: divided among threads, and undivided. For a
            thread's share of a chain: the kernel that runs chunks, 0, the address of the first one, and how many.
        links: rows of chunks in chains.
        owners, alone_owners, link_owners: which job each row of `chunks`, `alone` and `links` belongs to; or CHAINED.
    """

    segments: np.ndarray
    chunks: np.ndarray
    alone: np.ndarray
    links: np.ndarray
    owners: np.ndarray
    alone_owners: np.ndarray
    link_owners: np.ndarray


class _Patches(NamedTuple):
    """Where addresses go: rows of operand slot and offset, sorted by base, and where each base's rows begin."""

    rows: np.ndarray
    index: np.ndarray
    slots: int


def shares_of(units: int, grain: int, threads: int) -> int:
    """Return among how many threads a job is divided: 1 unless two grains of work are there."""
    return max(1, min(threads, units // max(1, grain)))


def _pieces(kernel: Kernel, shares: int) -> int:
    """Return in how many pieces each thread's share of a job is done."""
    if kernel.scratch:
        return 1
    return min(CHUNKS, max(1, kernel.units // (shares * max(1, kernel.grain) * WORTHWHILE)))


def _tabulate(jobs: Sequence[Job], addresses: dict[str, int], threads: int, chains: bool = True) -> _Tables:
    """Lay a program out for so many threads; without chains, every job that threads share is a segment."""
    shares = [shares_of(job.kernel.units, job.kernel.grain, threads) for job in jobs]
    pieces = [_pieces(job.kernel, count) for job, count in zip(jobs, shares)]
    slots = accumulate([len(job.operands) for job in jobs], initial=0)
    rows = [(addresses[job.kernel.name], slot * 8, 0, job.kernel.units) for job, slot in zip(jobs, slots)]
    working = [number for number, job in enumerate(jobs) if job.kernel.units > 0]
    segments: list[tuple[int, int, int, int]] = []
    chunks: list[tuple[int, int, int, int]] = []
    owners: list[int] = []
    links: list[tuple[int, int, int, int]] = []
    link_owners: list[int] = []
    finished = 0
    for group in linked(jobs, shares, pieces) if chains else [[number] for number in range(len(jobs))]:
        number, count = group[0], shares[group[0]]
        width = pieces[number] if count > 1 else 1
        if rows[number][-1] <= 0:
            continue
        if count > 1:
            finished += count * width
            segments.append((width, len(chunks), count, finished))
        elif segments and segments[-1][0] == 0:
            segments[-1] = (0, segments[-1][1], segments[-1][2] + 1, finished)
        else:
            finished += 1
            segments.append((0, len(chunks), 1, finished))
        if len(group) == 1:
            chunks += _divided(rows[number], count * width)
            owners += [number] * count * width
            continue
        for share in range(count):
            chunks.append((chain_kernel(), 0, len(links), len(group)))
            owners.append(CHAINED)
            links += [_divided(rows[link], count)[share] for link in group]
            link_owners += group
    kept = [segments, chunks, [rows[number] for number in working], links, owners, working, link_owners]
    tables = _Tables(*[_rows(each) for each in kept])
    if links:
        tables.chunks[tables.owners == CHAINED, 2] *= tables.links.strides[0]
        tables.chunks[tables.owners == CHAINED, 2] += tables.links.ctypes.data
    return tables


def _divided(row: tuple[int, int, int, int], count: int) -> list[tuple[int, int, int, int]]:
    """Return the rows of chunks into which a row for all units is divided."""
    function, operands, _, units = row
    edges = [units * piece // count for piece in range(count + 1)]
    return [(function, operands, begin, end) for begin, end in pairwise(edges)]


def _rows(rows: Sequence[Any]) -> np.ndarray:
    return np.array(rows, np.int64)


def _patches(jobs: Sequence[Job], bases: int) -> _Patches:
    by_base: list[list[tuple[int, int]]] = [[] for _ in range(bases)]
    slot = 0
    for job in jobs:
        for base, offset in job.operands:
            by_base[base].append((slot, offset))
            slot += 1
    index = np.zeros(bases + 1, np.int64)
    np.cumsum([len(rows) for rows in by_base], out=index[1:])
    return _Patches(_rows([row for rows in by_base for row in rows]), index, slot)


class _Frame:
    """What one call of a program writes to; calls at the same time have one each."""

    __slots__ = ("_words", "address", "alone_times", "arena", "known", "operands", "times")

    def __init__(self, tables: _Tables, patches: _Patches, stride: int) -> None:
        self.operands = np.zeros(patches.slots + 1, np.int64)
        self.known = np.full(len(patches.index), UNKNOWN, np.int64)
        self.times = np.zeros(len(tables.chunks) + 1, np.int64)
        self.alone_times = np.zeros(len(tables.alone) + 1, np.int64)
        self.arena: Arena | None = None
        words = [
            *(tables.segments.ctypes.data, len(tables.segments), tables.chunks.ctypes.data),
            *(self.operands.ctypes.data, 0, stride),
            *(patches.rows.ctypes.data, patches.index.ctypes.data, len(patches.index) - 1, self.known.ctypes.data),
            *(0, self.times.ctypes.data, tables.alone.ctypes.data, len(tables.alone), self.alone_times.ctypes.data),
        ]
        self._words = np.array(words, np.int64)
        self.address = self._words.ctypes.data

    def move(self, arena: Arena, scratch: int) -> None:
        """Use an arena, with scratch memory so many bytes into it."""
        self.arena = arena
        self._words[10] = arena.address
        self._words[4] = arena.address + scratch


class Addresses:
    """Base addresses of a program's external arrays, as native code reads them: set what changed, and run.

    Attributes:
        values: the addresses themselves.
        pointer: where they are.

    >>> import numpy as np
    >>> from wengert.compile.llvm.program import Addresses
    >>> array, addresses = np.zeros(3), Addresses(2)
    >>> addresses[0] = array.ctypes.data
    >>> addresses[0] == array.ctypes.data
    True
    """

    __slots__ = ("pointer", "values")

    def __init__(self, count: int) -> None:
        self.values = (ctypes.c_int64 * max(1, count))()
        self.pointer = ctypes.addressof(self.values)

    def __setitem__(self, position: Any, address: Any) -> None:
        self.values[position] = address

    def __getitem__(self, position: int) -> int:
        return self.values[position]


class NativeProgram:
    """Jobs in sequence, compiled and ready to run on any arrays of the right sizes.

    Programs hold no references to external arrays: the caller keeps them alive during a call. Several threads may call
    the same program at once.

    Args:
        jobs: what to do, in order.
        arena_bytes: memory that the jobs share; its contents are undefined when a call begins.
        externals: how many arrays are given by address.
        threads: the most that a job is divided among; by default as many as there are cores for this process.
        makeshift: names of kernels that begin with code that is compiled fast. It is replaced by what is compiled in
            the background from the second call on, which gives the same bits.
        plain: names of kernels whose code may remain what is compiled fast.

    Raises:
        NativeCodeError: no native code can be made here.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        arena_bytes: int,
        externals: int,
        threads: int | None = None,
        makeshift: Container[str] = (),
        plain: Container[str] = (),
    ) -> None:
        self.jobs = tuple(jobs)
        _demand_sound(self.jobs, arena_bytes, externals)
        self.externals = externals
        most = min(threads or available_cores(), MOST_THREADS)
        self.threads = max([1, *[shares_of(job.kernel.units, job.kernel.grain, most) for job in self.jobs]])
        codes = self._compiled(makeshift, plain)
        self._codes = list(codes.values())  # calls at this moment may run what has been replaced: all stay
        self._tables = _tabulate(self.jobs, {name: code.address for name, code in codes.items()}, self.threads)
        self._patches = _patches(self.jobs, externals + 1)
        self._stride = _aligned(max([0, *[job.kernel.scratch for job in self.jobs]]))
        self._scratch = _aligned(arena_bytes)
        self._size = self._scratch + self._stride * self.threads
        self._loop = native_loop()
        self._frames = [self._new_frame()]

    def _compiled(self, makeshift: Container[str], plain: Container[str]) -> dict[str, Code]:
        """Return the code of all kernels by name; note which are to be compiled again."""
        kernels = list({job.kernel.name: job.kernel for job in self.jobs}.values())
        negligible = [kernel for kernel in kernels if kernel.name in plain]
        others = [kernel for kernel in kernels if kernel.name not in plain]
        small = [kernel for kernel in others if kernel.name in makeshift]
        self._makeshift = [kernel for kernel in small if not is_compiled_well(kernel)]
        self._begun = False
        self._calls = 0
        codes = compile_quickly([*negligible, *small])
        names = {kernel.name for kernel in small}
        return codes | compile_kernels([kernel for kernel in others if kernel.name not in names])

    @property
    def is_makeshift(self) -> bool:
        """Whether some of its code is to be replaced."""
        return bool(self._makeshift)

    def _improve(self) -> None:
        """Have makeshift code replaced if this program is called more than once; asked before each run until then."""
        self._calls += 1
        if self._calls == 2 and not self._begun:
            self._begun = True
            begin_kernels(self._makeshift)
        elif self._begun and kernels_ready(self._makeshift):
            self.settle()

    def settle(self) -> None:
        """Return when this program runs the code that it will run from now on."""
        makeshift = self._makeshift
        if not makeshift:
            return
        self._begun = True
        try:
            codes = compile_kernels(makeshift)
        except RuntimeError as error:  # LLVM failed where it has not before: what there is goes on working
            warnings.warn(f"kernels stay as they were compiled at first: {error}", RuntimeWarning, stacklevel=2)
            codes = {}
        self._codes += codes.values()
        tables = self._tables
        owned = (tables.chunks, tables.owners), (tables.alone, tables.alone_owners), (tables.links, tables.link_owners)
        for rows, owners in owned:
            for row, owner in enumerate(owners.tolist()):
                code = codes.get(self.jobs[owner].kernel.name) if owner != CHAINED else None
                if code is not None:
                    rows[row, 0] = code.address  # one aligned word: who runs now finds the old one or the new
        self._makeshift = []

    def _new_frame(self) -> _Frame:
        return _Frame(self._tables, self._patches, self._stride)

    def run(self, addresses: Addresses) -> None:
        """Run all jobs on the arrays at these addresses. The GIL is released."""
        if self._makeshift:
            self._improve()
        self._run(addresses, self._loop)

    def brief(self, addresses: Addresses, status: np.ndarray | None = None) -> Callable[[], Any] | None:
        """Return a function that does what `run` does in less time; None if this is no program of a few microseconds.

        It takes no arguments, and returns something true or false: what the one byte of `status` then is, if it is
        given. It must not be called by two threads at once but with the GIL, as Python does.
        """
        if self.threads > 1 or self._makeshift or not are_possible():
            return None
        if sum([work_of(job.kernel) for job in self.jobs]) > BRIEF:
            return None
        byte = np.ones(1, np.bool_) if status is None else status
        frame = self._new_frame()
        frame.move(Arena(self._size), self._scratch)
        words = (frame.address, addresses.pointer, byte.ctypes.data)
        return builtin(brief_loop(), "program", words, (self, frame, addresses, byte))

    def _run(self, addresses: Addresses, loop: Any, given: _Frame | None = None) -> None:
        try:
            frame = given or self._frames.pop()
        except IndexError:  # all are in use by other threads
            frame = self._new_frame()
        arena = frame.arena
        if arena is None or not arena.lock.acquire(False):
            arena = borrow(self._size)
            frame.move(arena, self._scratch)
        try:
            workers = pool()
            if self.threads > 1 and workers.lock.acquire(False):
                try:
                    if workers.ready(self.threads):
                        loop.run(workers.address, frame.address, addresses.pointer, self.threads)
                        return
                finally:
                    workers.lock.release()
            loop.run_alone(frame.address, addresses.pointer)
        finally:
            arena.lock.release()
            if given is None:
                self._frames.append(frame)

    def profile(self, addresses: Addresses) -> list[Timing]:
        """Run all jobs, taking the time of each: seconds that threads spent in it, all threads together."""
        self.settle()
        loop, clock = native_timed_loop()
        addresses_of = dict.fromkeys([job.kernel.name for job in self.jobs], 0)
        for owner, row in zip(self._tables.alone_owners.tolist(), self._tables.alone.tolist()):
            addresses_of[self.jobs[owner].kernel.name] = row[0]
        tables = _tabulate(self.jobs, addresses_of, self.threads, chains=False)
        frame = _Frame(tables, self._patches, self._stride)
        start, ticks = time.perf_counter(), clock()
        self._run(addresses, loop, frame)
        while (elapsed := time.perf_counter() - start) < 0.005:  # long enough to learn how fast the clock ticks
            pass
        rate = (clock() - ticks) / elapsed
        busy = np.zeros(len(self.jobs))
        np.add.at(busy, tables.owners, frame.times[:-1])
        np.add.at(busy, tables.alone_owners, frame.alone_times[:-1])
        return [
            Timing(job.kernel.name, float(spent / rate), job.kernel.units, job.kernel.flops, job.kernel.moved)
            for job, spent in zip(self.jobs, busy)
        ]


def _aligned(size: int) -> int:
    return -(-size // LINE) * LINE


def _demand_sound(jobs: Sequence[Job], arena_bytes: int, externals: int) -> None:
    """Raise a ValueError for a job whose operands can't be where it says."""
    for number, job in enumerate(jobs):
        for base, offset in job.operands:
            if not 0 <= base <= externals or offset < 0 or (base == 0 and offset > arena_bytes):
                raise ValueError(
                    f"job {number}, {job.kernel.name}: no place {offset} bytes into base {base}; the arena (base 0) "
                    f"has {arena_bytes} bytes, and there are {externals} external arrays"
                )
