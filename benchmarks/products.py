"""Generated kernels of matrix products against NumPy's BLAS, at the shapes of training steps: GFLOP/s.

    python -m benchmarks.products [part of a name]...

Kernels run on one thread, and on two that share their units; NumPy on one, and on as many as BLAS takes by itself.
Times are of the processor for one thread, of the clock for two; the best of several runs, in turn.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from wengert.compile.kernels import Kernel
from wengert.compile.llvm.compiling import compile_for_good, module_of
from wengert.compile.llvm.machine import host_machine
from wengert.compile.llvm.products import plain_product, product_kernel
from wengert.compile.nests import Access

Array = np.ndarray
ROUNDS = 12
LAYERS = {
    "MLP small, 64 to 32": (32, 64, 32),
    "MLP small, 32 to 10": (32, 32, 10),
    "MLP middle, 784 to 256": (64, 784, 256),
    "MLP middle, 256 to 10": (64, 256, 10),
    "MLP large, 784 to 1024": (128, 784, 1024),
    "MLP large, 1024 to 1024": (128, 1024, 1024),
    "MLP large, 1024 to 10": (128, 1024, 10),
    "GPT, 128 to 384": (1024, 128, 384),
    "GPT, 128 to 128": (1024, 128, 128),
    "GPT, 128 to 512": (1024, 128, 512),
    "GPT, 512 to 128": (1024, 512, 128),
    "GPT, 128 to 65": (1024, 128, 65),
}
PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def works() -> Iterator[tuple[str, Array, Array]]:
    """Yield names and factors: of each layer forwards, and of its gradients by its input and by its weights."""
    for name, (batch, inputs, outputs) in LAYERS.items():
        x, w, out_bar = numbers(batch, inputs), numbers(outputs, inputs), numbers(batch, outputs)
        yield f"{name}, forward", x, w.T
        yield f"{name}, input's gradient", out_bar, w
        yield f"{name}, weight's gradient", out_bar.T, x
    queries, keys = (numbers(16, 64, 4, 32).transpose(0, 2, 1, 3) for _ in range(2))
    weights = numbers(16, 4, 64, 64)
    yield "attention, scores", queries, keys.swapaxes(2, 3)
    yield "attention, values", weights, keys
    yield "attention, keys' gradient", weights.swapaxes(2, 3), queries
    yield "matrix and vector", numbers(1024, 1024), numbers(1024, 1)
    yield "square", numbers(1000, 1000), numbers(1000, 1000)


def empty(shape: tuple[int, ...]) -> Array:
    """Return memory that begins where a line of cache does, as the arrays of compiled programs do."""
    memory = np.zeros(int(np.prod(shape)) + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + int(np.prod(shape))].reshape(shape)


def numbers(*shape: int) -> Array:
    out = empty(shape)
    out[...] = np.random.default_rng(shape).standard_normal(shape)
    return out


class Native:
    """A product's kernel with its memory, for a number of threads."""

    def __init__(self, a: Array, b: Array, out: Array) -> None:
        accesses = [Access(place, 0, tuple([s // 4 for s in x.strides])) for place, x in enumerate((a, b, out))]
        extents = a.shape[-2], b.shape[-1], a.shape[-1]
        product = plain_product("product", a.shape[:-2], *extents, np.dtype(np.float32), *accesses)
        self.kernel: Kernel = product_kernel(product, host_machine())
        self.call = PROTOTYPE(compile_for_good(module_of([self.kernel]))[self.kernel.name])
        self.memory = [empty((self.kernel.scratch // 4 + 16,)) for _ in range(2)]
        self.pointers = (ctypes.c_void_p * 3)(a.ctypes.data, b.ctypes.data, out.ctypes.data)

    def share(self, thread: int, threads: int) -> Callable[[], object]:
        """Return the call that does a thread's share of the units."""
        units = self.kernel.units
        begin, end = units * thread // threads, units * (thread + 1) // threads
        return partial(self.call, self.pointers, begin, end, self.memory[thread].ctypes.data)


def seconds(run: Callable[[], object], repetitions: int, clock: Callable[[], float]) -> float:
    begin = clock()
    for _ in range(repetitions):
        run()
    return (clock() - begin) / repetitions


def together(native: Native, repetitions: int) -> float:
    """Return the time of a product that two threads share, meeting before the first and after the last of many."""
    barrier = threading.Barrier(2)

    def work(thread: int) -> None:
        share = native.share(thread, 2)
        barrier.wait()
        for _ in range(repetitions):
            share()
        barrier.wait()

    other = threading.Thread(target=work, args=(1,))
    other.start()
    elapsed = seconds(lambda: work(0), 1, time.perf_counter)
    other.join()
    return elapsed / repetitions


def main() -> int:
    wanted = sys.argv[1:] or [""]
    print(f"{'product':42} {'one thread':>10} {'two':>6} {'BLAS, one':>10} {'all':>6} {'ratio':>6}")
    for name, a, b in works():
        if not any([part in name for part in wanted]):
            continue
        out, other = empty((*a.shape[:-1], b.shape[-1])), empty((*a.shape[:-1], b.shape[-1]))
        native = Native(a, b, out)
        flops = native.kernel.flops
        repetitions = max(1, 20_000_000 // flops)
        blas = [np.inf, np.inf]
        own = [np.inf, np.inf]
        for _ in range(ROUNDS):
            own[0] = min(own[0], seconds(native.share(0, 1), repetitions, time.thread_time))
            own[1] = min(own[1], together(native, repetitions))
            with threadpool_limits(1):
                blas[0] = min(blas[0], seconds(lambda: np.matmul(a, b, out=other), repetitions, time.thread_time))  # noqa: B023
            blas[1] = min(blas[1], seconds(lambda: np.matmul(a, b, out=other), repetitions, time.perf_counter))  # noqa: B023
        bound = a.shape[-1] * np.finfo(np.float32).eps * (np.abs(a) @ np.abs(b))
        if not (np.abs(out - other) <= 2 * bound).all():
            raise ArithmeticError(f"{name}: the kernel and NumPy disagree")
        figures = [flops / elapsed / 1e9 for elapsed in (*own, *blas)]
        print(f"{name:42} {figures[0]:10.0f} {figures[1]:6.0f} {figures[2]:10.0f} {figures[3]:6.0f}", end="")
        print(f" {figures[0] / figures[2]:6.2f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
