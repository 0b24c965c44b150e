"""Kernels of loop nests: against an interpreter, between poisoned margins, for every division of the work."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import pytest

from tests.compile.nest_interpreter import run_nest, spread
from tests.compile.nest_samples import MARGIN, Maker, Sample
from wengert.compile.kernels import Kernel
from wengert.compile.llvm.compiling import EXPLICIT, compile_object, link, module_of
from wengert.compile.llvm.machine import AVX2, AVX512, NEON, SSE2, Machine
from wengert.compile.llvm.nests import nest_kernel

MACHINES = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}


class Native:
    """Compiled kernels, without a disk cache."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        module = module_of(list({kernel.name: kernel for kernel in kernels}.values()))
        self._library, addresses = link(compile_object(module.source, EXPLICIT), module.exports)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        self._functions = {name: kind(address) for name, address in addresses.items()}

    def run(self, kernel: Kernel, arrays: Sequence[np.ndarray], begin: int = 0, end: int | None = None) -> None:
        """Run a kernel on units; scratch is poisoned before."""
        pointers = (ctypes.c_void_p * max(len(arrays), 1))(*[array.ctypes.data for array in arrays])
        memory = np.full(kernel.scratch + 64, 0x7F, np.uint8)
        aligned = memory.ctypes.data + (-memory.ctypes.data) % 64
        self._functions[kernel.name](pointers, begin, kernel.units if end is None else end, aligned)


def between_margins(wide: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [array[MARGIN:] for array in wide]


def check(native: Native, kernel: Kernel, sample: Sample, rng: np.random.Generator) -> None:
    want = [array.copy() for array in sample.arrays]
    run_nest(sample.nest, want)
    tolerances = spread(sample.nest, sample.arrays)
    wide = sample.guarded()
    native.run(kernel, between_margins(wide))
    for before, after, exact, tolerance in zip(sample.guarded(), wide, want, tolerances):
        inside = after[MARGIN : MARGIN + len(exact)]
        for edge in (slice(0, MARGIN), slice(MARGIN + len(exact), None)):
            np.testing.assert_array_equal(after[edge], before[edge], err_msg="a margin was written to")
        agree = (inside == exact) | (np.abs(inside.astype(float) - exact) <= tolerance) | ((inside != inside) & (exact != exact))
        assert agree.all(), (sample.nest, np.flatnonzero(~agree)[:5], inside[~agree][:5], exact[~agree][:5])
    again = sample.guarded()
    edges = sorted({0, kernel.units, *rng.integers(0, kernel.units + 1, 3).tolist()})
    spans = list(zip(edges, edges[1:]))
    for position in rng.permutation(len(spans)):
        native.run(kernel, between_margins(again), *spans[position])
    for one, other in zip(again, wide):
        np.testing.assert_array_equal(one, other, err_msg="the division of the work changes results")


@pytest.mark.parametrize("group", range(8))
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_random_nests_are_what_an_interpreter_says(machine: Machine, group: int) -> None:
    maker = Maker(group)
    samples = [maker.sample() for _ in range(10)]
    kernels = [nest_kernel(sample.nest, machine) for sample in samples]
    native = Native(kernels)
    rng = np.random.default_rng(group)
    for sample, kernel in zip(samples, kernels):
        check(native, kernel, sample, rng)
