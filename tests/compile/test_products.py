"""Kernels of matrix products: against NumPy in extended precision, between poisoned margins, for every division of work."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compile.product_samples import EPILOGUES, Epilogue, Native, Sample, check, sample
from wengert.compile.llvm.machine import AVX2, AVX512, NEON, SSE2, Machine
from wengert.compile.llvm.products import product_kernel

MACHINES = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}


def run(cases: list[Sample], machine: Machine, seed: int) -> None:
    kernels = [product_kernel(case.product, machine) for case in cases]
    native = Native(kernels)
    rng = np.random.default_rng(seed)
    for case, kernel in zip(cases, kernels):
        whole = case.run(native, kernel)
        check(case, whole)
        for one, other in zip(whole, case.run(native, kernel, rng)):
            np.testing.assert_array_equal(one.buffer, other.buffer, err_msg="the division of work changes results")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("epilogue", EPILOGUES.values(), ids=EPILOGUES)
def test_random_products_are_what_numpy_says(machine: Machine, epilogue: Epilogue, dtype: str) -> None:
    rng = np.random.default_rng(5)
    cases = []
    for _ in range(3):
        batch = tuple(rng.integers(1, 4, rng.integers(0, 3)).tolist())
        m, n, k = (int(rng.choice([1, 2, 5, 10, 16, 17, 32, 33, 40])) for _ in range(3))
        cases.append(sample(rng, batch, m, n, k, dtype, epilogue))
    run(cases, machine, 1)
