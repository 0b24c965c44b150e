"""Measure what large kernels reach of what the machine can do: `python -m benchmarks.roofline`.

The roofline of Williams, Waterman and Patterson (2009): a kernel takes at least the time of its operations at the peak
rate, and that of its bytes at the peak bandwidth. A full run takes half a minute, and keeps its table in
`benchmarks/results/roofline.md` and its picture in `docs/pictures/roofline.png`.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

import wengert as wg
from benchmarks import harness, machine
from benchmarks.engines import WENGERT_COMPILE
from benchmarks.keeping import Keeper
from benchmarks.models import COMPILED_WORKS
from benchmarks.report import DASH, Section, format_bytes, format_seconds
from benchmarks.suite import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EXTENTS = (512, 1024, 2048)
# Three arrays of this many bytes each: far more than caches hold.
TRIAD_BYTES = 1 << 27
BLOCK = 1 << 13
# Three of these fit the second cache of any core.
CACHED_BYTES = 1 << 16
REPETITIONS = 7
LARGE = ("mlp-large", "cnn", "gpt", "lstm", "gmm", "heat")
# The longest kernels of each work that the table has, each of at least this share of the work's time.
KERNELS = 10
SHARE = 0.01
COMMAND = "python -m benchmarks.roofline"
PICTURE = RESULTS.parents[1] / "docs" / "pictures" / "roofline.png"
NOTE = """\
Peak operations: the best product of square float32 matrices of 512 to 2,048, of NumPy's, PyTorch's and ours. Peak
bandwidth of memory: the best triad a = b + 3 c on arrays of 128 MiB, three passes counted; of caches: c = a + b on
arrays of 64 KiB in each core. Roof: the larger of operations over peak operations and bytes over the bandwidth of
caches, since most of what these works move is in them. Time: that of all threads together over the number of cores, all
calls of a kernel in one run, the median of several runs; the longest first. Bytes are those that a kernel reads and
writes. Operations of exp, tanh and the like are those of their polynomials."""


@dataclass(frozen=True)
class Peaks:
    """In float32: operations per second of the best product, and bytes per second from memory and from caches."""

    operations: float
    bandwidth: float
    cached: float

    def bound(self, operations: float, moved: float) -> float:
        """Return the least seconds that a kernel of so many operations and bytes takes, with all of them in caches."""
        return max(operations / self.operations, moved / self.cached)


@dataclass(frozen=True)
class Kernel:
    """What a kernel does, and how long it takes."""

    name: str
    operations: float
    moved: float
    seconds: float

    @property
    def title(self) -> str:
        """The name, without the digits that tell kernels of one name apart."""
        return re.sub(r"_[0-9a-f]{8,}$", "", self.name)

    def cells(self, peaks: Peaks) -> list[str]:
        """Return the text of every column."""
        bound = peaks.bound(self.operations, self.moved)
        return [
            self.title,
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
    """Measure the best product of square matrices that any library here has, the best triad, and sums in caches."""
    return Peaks(max(map(_product_rate, EXTENTS)), 3 * TRIAD_BYTES / min(map(least, _triads())), _cached_rate())


def _cached_rate() -> float:
    """Return the bytes per second of c = a + b in the caches of one core, times the cores."""
    c, a, b = (np.ones(CACHED_BYTES // 4, np.float32) for _ in range(3))
    return machine.cores() * 3 * CACHED_BYTES / least(partial(np.add, a, b, c))


def _product_rate(extent: int) -> float:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(extent, extent)).astype(np.float32) for _ in range(2))
    runs: list[Callable[[], object]] = [partial(np.matmul, a, b, out=np.empty_like(a))]
    if (torch := _torch()) is not None:
        runs.append(partial(torch.mm, torch.tensor(a), torch.tensor(b)))
    ours = wg.compile(wg.matmul)
    runs.append(partial(ours, wg.tensor(a), wg.tensor(b)))
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


def kernels_of(run: Any, repetitions: int = 1) -> list[Kernel]:
    """Return the kernels of a compiled function, the longest first; none where it can't `explain` itself.

    What it tells is the time of all threads together; here it is shared out among the cores, as if all had been busy.

    Args:
        run: the compiled function, or a `partial` of it, with arguments that it takes.
        repetitions: runs, of which the medians are taken.
    """
    explain = getattr(getattr(run, "func", run), "explain", None)
    if explain is None:
        return []
    samples: dict[str, list[float]] = {}
    reports: dict[str, Any] = {}
    for _ in range(repetitions):
        explain()  # asks for the time of each kernel in the next run
        run()
        for report in [report for program in explain().programs[-1:] for report in program.kernels if report.seconds]:
            samples.setdefault(report.name, []).append(report.seconds / machine.cores())
            reports[report.name] = report
    kernels = [Kernel(name, r.flops, r.moved, statistics.median(samples[name])) for name, r in reports.items()]
    return sorted(kernels, key=attrgetter("seconds"), reverse=True)


def largest(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the kernels that take a share of the time worth speaking of."""
    total = sum(kernel.seconds for kernel in kernels)
    return [kernel for kernel in kernels[:KERNELS] if kernel.seconds >= SHARE * total]


def draw(works: Mapping[str, Sequence[Kernel]], peaks: Peaks, path: Path) -> bool:
    """Draw kernels below the roof, larger where they take longer; return False where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return False
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    shown = {name: [k for k in kernels if k.moved and k.operations] for name, kernels in works.items()}
    intensities = [kernel.operations / kernel.moved for kernels in shown.values() for kernel in kernels]
    reach = np.geomspace(min([0.05, *intensities]) / 2, max([200.0, *intensities]) * 2, 200)
    for rate, line, label in ((peaks.cached, "-", "roof, from caches"), (peaks.bandwidth, "--", "roof, from memory")):
        axes.plot(reach, np.minimum(peaks.operations, reach * rate) / 1e9, line, color="#404040", label=label)
    for name, kernels in shown.items():
        total = sum(kernel.seconds for kernel in works[name])
        axes.scatter(
            [kernel.operations / kernel.moved for kernel in kernels],
            [kernel.operations / kernel.seconds / 1e9 for kernel in kernels],
            [20 + 400 * kernel.seconds / total for kernel in kernels],
            alpha=0.7,
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="GFLOP/s")
    axes.set_title("Kernels of compiled works; area: share of the work's time")
    axes.grid(color="#e6e6e6", which="major")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, markerscale=0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return True


def main() -> int:
    """Measure, print, and keep the table and the picture."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split(":")[0])
    parser.add_argument("--only", action="append", choices=LARGE, metavar="NAME", help=", ".join(LARGE))
    parser.add_argument("--output", type=Path, help="where to keep the table")
    parser.add_argument("--picture", type=Path, help="where to keep the picture")
    options = parser.parse_args()
    output = options.output or (None if options.only else RESULTS / "roofline.md")
    picture = options.picture or (None if options.only else PICTURE)
    keeper = Keeper("Roofline", COMMAND, machine.describe(("wengert", "llvmlite", "torch")), output)
    works: dict[str, list[Kernel]] = {}
    with Console(stderr=True).status("peaks") as status:
        peaks = measure_peaks()
        told = (
            f"Peaks: {peaks.operations / 1e9:.0f} GFLOP/s, {peaks.bandwidth / 1e9:.1f} GB/s from memory, "
            f"{peaks.cached / 1e9:.0f} GB/s from caches."
        )
        section = Section("Kernels", ("work", *HEADS), [], NOTE, [told])
        for name in options.only or LARGE:
            status.update(name)
            job = WENGERT_COMPILE.build(COMPILED_WORKS[name])
            harness.calibrated(job.run)
            works[name] = largest(kernels_of(job.run, REPETITIONS))
            section.rows += [[name, *kernel.cells(peaks)] for kernel in works[name]]
            keeper.keep([section])
    keeper.finish([section])
    if picture is not None and not draw(works, peaks, picture):
        print("matplotlib is not installed: no picture was drawn", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
