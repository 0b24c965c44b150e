"""What the machine can do: the most floating-point operations and bytes in a second, and what kernels reach of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import harness, machine
from benchmarks.report import DASH, format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

EXTENTS = (512, 1024, 2048)
# Three arrays of this many bytes each: far more than caches hold.
TRIAD_BYTES = 1 << 27
BLOCK = 1 << 13
REPETITIONS = 7


@dataclass(frozen=True)
class Peaks:
    """In float32: operations per second of the best product, and bytes per second of the triad."""

    operations: float
    bandwidth: float

    def bound(self, operations: float, moved: float) -> float:
        """Return the least seconds that a kernel of so many operations and bytes takes."""
        return max(operations / self.operations, moved / self.bandwidth)


@dataclass(frozen=True)
class Kernel:
    """What a kernel does, and how long it takes."""

    name: str
    operations: float
    moved: float
    seconds: float

    def cells(self, peaks: Peaks) -> list[str]:
        """Return the text of every column."""
        bound = peaks.bound(self.operations, self.moved)
        return [
            self.name,
            f"{self.operations / 1e6:.2f}",
            format_bytes(self.moved) if self.moved else DASH,
            format_seconds(self.seconds),
            f"{self.operations / self.seconds / 1e9:.1f}",
            f"{self.moved / self.seconds / 1e9:.1f}",
            f"{100 * bound / self.seconds:.0f} %",
        ]


HEADS = ("kernel", "Mflop", "bytes moved", "time", "GFLOP/s", "GB/s", "of its roof")


def least(run: Callable[[], object]) -> float:
    """Return the least seconds of a run: a peak is what nothing disturbed."""
    loop = harness.calibrated(run)
    return min(loop.sample() for _ in range(REPETITIONS))


def measure_peaks() -> Peaks:
    """Measure the best product of square matrices that any library here has, and the best triad."""
    return Peaks(max(map(_product_rate, EXTENTS)), 3 * TRIAD_BYTES / min(least(run) for run in _triads()))


def _product_rate(extent: int) -> float:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(extent, extent)).astype(np.float32) for _ in range(2))
    runs: list[Callable[[], object]] = [partial(np.matmul, a, b, out=np.empty_like(a))]
    if (torch := _torch()) is not None:
        runs.append(partial(torch.mm, torch.tensor(a), torch.tensor(b)))
    return 2.0 * extent**3 / min(map(least, runs))


def _triads() -> list[Callable[[], object]]:
    """Return ways to do a = b + 3 c on all cores, of which a library may have a better one."""
    count = TRIAD_BYTES // 4
    target, first, second = (np.ones(count, np.float32) for _ in range(3))
    workers = machine.cores()
    pool = ThreadPoolExecutor(workers)
    edges = [round(place * count / workers) for place in range(workers + 1)]

    def part(start: int, stop: int) -> None:
        # Block by block, so that the product is still in a cache near the core when it is added.
        product = np.empty(BLOCK, np.float32)
        for place in range(start, stop, BLOCK):
            block = slice(place, min(place + BLOCK, stop))
            scaled = np.multiply(second[block], 3.0, out=product[: block.stop - block.start])
            np.add(first[block], scaled, out=target[block])

    def threaded() -> None:
        list(pool.map(part, edges[:-1], edges[1:]))

    runs: list[Callable[[], object]] = [threaded]
    if (torch := _torch()) is not None:
        tensors = [torch.from_numpy(array) for array in (first, second, target)]
        runs.append(partial(torch.add, *tensors[:2], alpha=3.0, out=tensors[2]))
    return runs


def _torch() -> Any:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return None
    return torch


def kernels_of(run: Any) -> list[Kernel]:
    """Return the kernels of a compiled function, the longest first; none where it can't `explain` itself.

    What it tells is the time of all threads together; here it is shared out among the cores, as if all had been busy.

    Args:
        run: the compiled function, or a `partial` of it, with arguments that it takes.
    """
    explain = getattr(getattr(run, "func", run), "explain", None)
    if explain is None:
        return []
    explain()  # asks for the time of each kernel in the next run
    run()
    reports = [report for program in explain().programs[-1:] for report in program.kernels if report.seconds]
    kernels = [Kernel(r.name, r.flops, r.moved, r.seconds / machine.cores()) for r in reports]
    return sorted(kernels, key=attrgetter("seconds"), reverse=True)
