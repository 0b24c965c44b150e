"""Small kernels written by hand, and programs of them whose results NumPy foretells bit by bit."""

from __future__ import annotations

import hashlib

import numpy as np

from wengert.compile.kernels import Job, Kernel, Place
from wengert.compile.llvm.program import Addresses, NativeProgram

# Each element is a unit; it depends on a distant element of the input, so that a unit which runs before all units of
# the job before it are done goes wrong. The exact arithmetic of small dyadic numbers keeps NumPy's results equal.
GATHER = """
define void @NAME(ptr %operands, i64 %begin, i64 %end, ptr %scratch) {
entry:
  %x = load ptr, ptr %operands
  %y.place = getelementptr ptr, ptr %operands, i64 1
  %y = load ptr, ptr %y.place
  %none = icmp sge i64 %begin, %end
  br i1 %none, label %done, label %more
more:
  %i = phi i64 [ %begin, %entry ], [ %next, %more ]
  %far = sub i64 LAST, %i
  %p = getelementptr double, ptr %x, i64 %far
  %u = load double, ptr %p
  store volatile double %u, ptr %scratch
  %v = load volatile double, ptr %scratch
  %w = fmul double %v, FACTOR
  %q = getelementptr double, ptr %y, i64 %i
  %z = fadd double %w, 1.0
  store double %z, ptr %q
  %next = add i64 %i, 1
  %again = icmp slt i64 %next, %end
  br i1 %again, label %more, label %done
done:
  ret void
}
"""
NOTHING = """
define void @NAME(ptr %operands, i64 %begin, i64 %end, ptr %scratch) {
  ret void
}
"""


def kernel(source: str, units: int, grain: int, scratch: int = 0) -> Kernel:
    """Return a kernel of IR whose function is called NAME."""
    name = f"test_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    return Kernel(name, source.replace("@NAME", f"@{name}"), (), units, grain, scratch)


def gather(n: int, factor: float, grain: int) -> Kernel:
    """Return a kernel that computes y[i] = factor * x[n - 1 - i] + 1."""
    source = GATHER.replace("LAST", str(n - 1)).replace("FACTOR", f"{factor:e}")
    return kernel(source, n, grain, scratch=8)


class Chain:
    """A program that applies `gather` again and again, from an external array through the arena to another one.

    Args:
        n: length of the arrays.
        grains: one for each job; those of at most n / 2 are divided among threads.
        threads: as for a NativeProgram.
        quick: whether all kernels begin with code that is compiled fast.
    """

    def __init__(self, n: int, grains: list[int], threads: int | None, quick: bool = False) -> None:
        self.n = n
        self.factors = [(-1) ** number * 0.5 ** (number % 3) for number in range(len(grains))]
        places = [Place(1, 0), *[Place(0, 8 * n * (number % 2)) for number in range(len(grains) - 1)], Place(2, 0)]
        jobs = [
            Job(gather(n, factor, grain), (places[number], places[number + 1]))
            for number, (factor, grain) in enumerate(zip(self.factors, grains))
        ]
        self.program = NativeProgram(jobs, 16 * n, 2, threads, {job.kernel.name for job in jobs} if quick else ())

    def expected(self, x: np.ndarray) -> np.ndarray:
        """Return what the program computes."""
        for factor in self.factors:
            x = factor * x[::-1] + 1.0
        return x

    def run(self, x: np.ndarray) -> np.ndarray:
        """Run the program on new memory."""
        out = np.full(self.n, np.nan)
        addresses = Addresses(2)
        addresses[0], addresses[1] = x.ctypes.data, out.ctypes.data
        self.program.run(addresses)
        return out
