"""Kernels of elementwise functions: vectors as wide as the machine's, exact arithmetic, any extent, types, threads."""

from __future__ import annotations

import math
import platform
import re
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from wengert.compile import scalar_namespace as xp
from wengert.compile.fuse_elementwise import FusedKernel
from wengert.compile.kernels import Kernel
from wengert.compile.llvm.compiling import EXPLICIT, assembly, module_of
from wengert.compile.llvm.machine import host_machine
from wengert.compile.llvm.nests import nest_kernel
from wengert.compile.nests import Access, Counter, Nest, Operand, Phase, Store
from wengert.compile.scalar_ir import FLOAT32, Scalar, ScalarFunction, input_scalar

X, Y = input_scalar("x", "float32"), input_scalar("y", "float32")


def kernel_of(output: Scalar) -> Kernel:
    inputs: dict[str, Access | Counter] = {"x": Access(0, 0, (1,)), "y": Access(1, 0, (1,))}
    phase = Phase((), inputs, (Store(Access(2, 0, (1,)), output),))
    return nest_kernel(Nest("f", (1000,), (phase,), (Operand(FLOAT32),) * 3, "outer"), host_machine())


def native(*outputs: Scalar, inputs: tuple[Scalar, ...] = (X, Y)) -> FusedKernel:
    return FusedKernel(ScalarFunction("f", inputs, outputs))


def widest_registers() -> str | None:
    """Return what the names of the machine's widest vector registers match, if this test knows its architecture."""
    import llvmlite.binding as llvm

    if platform.machine() in ("aarch64", "arm64"):
        return r"\bv\d+\.4s|\bz\d+\.s"
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    features = llvm.get_host_cpu_features()
    return "zmm" if features.get("avx512f") else "ymm" if features.get("avx") else "xmm"


@pytest.mark.parametrize(
    "function", ["exp", "log", "sin", "tanh", "erf", "power", "arctan2", "cbrt", "expm1", "log1p", "arcsin", "ndtr"]
)
def test_loops_use_the_widest_registers(function: str) -> None:
    registers = widest_registers()
    if registers is None:
        pytest.skip("unknown architecture")
    args = (X, Y) if function in ("power", "arctan2") else (X,)
    code = assembly(module_of([kernel_of(getattr(xp, function)(*args))]).source, EXPLICIT)
    assert len(re.findall(registers, code)) > 20
    assert not re.search(rf"\b(call|bl)\b.*\b_?{function}f?\b", code), "a function of the C library is called"


def test_no_instruction_may_change_results() -> None:
    for output in (xp.tanh(X) * Y + xp.sin(X) / Y, xp.power(X, Y), xp.erfc(X)):
        assert not re.search(r"\b(fast|reassoc|contract|afn|arcp|nnan|ninf|nsz)\b", kernel_of(output).source)


def test_products_and_sums_are_not_contracted() -> None:
    x = np.array([1 + 2**-12], np.float32)
    y = np.array([-(1 + 2**-11)], np.float32)
    (out,) = native(X * X + Y)(x, y)
    assert out[0] == 0.0  # a fused multiply-add would keep 2^-24


def test_results_do_not_depend_on_extent_or_place() -> None:
    """Vector lanes and what is left at the end give the same bits."""
    kernel = native(xp.exp(X) * xp.erf(Y) + xp.sin(X))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1003)).astype(np.float32)
    (whole,) = kernel(x, y)
    np.testing.assert_allclose(whole[:3], np.exp(x[:3]) * [_erf(v) for v in y[:3]] + np.sin(x[:3]), rtol=1e-5)
    for begin, end in [(0, 0), (5, 5), (0, 1), (3, 72), (64, 1003), (1, 130), (1002, 1003)]:
        (part,) = kernel(x[begin:end], y[begin:end])
        np.testing.assert_array_equal(part, whole[begin:end])


def _erf(x: float) -> float:
    return math.erf(float(x))


def test_types_are_stored_as_numpy_stores_them() -> None:
    flag, whole, short = input_scalar("b", "bool"), input_scalar("n", "int64"), input_scalar("k", "int32")
    double = input_scalar("d", "float64")
    inputs = (flag, whole, short, double)
    outputs: dict[Any, Any] = {
        xp.logical_and(flag, whole > 0): lambda b, n, k, d: b & (n > 0),
        xp.where(flag, whole, short): lambda b, n, k, d: np.where(b, n, k),
        double * flag + short: lambda b, n, k, d: d * b + k,
        xp.astype(double, np.int32): lambda b, n, k, d: d.astype(np.int32),
        xp.astype(whole, np.float32): lambda b, n, k, d: n.astype(np.float32),
        xp.astype(double, bool): lambda b, n, k, d: d.astype(bool),
        -xp.absolute(whole) << 2: lambda b, n, k, d: -np.abs(n) << 2,
        xp.left_shift(whole, 64): lambda b, n, k, d: np.left_shift(n, 64),
        xp.right_shift(whole, short): lambda b, n, k, d: np.right_shift(n, k.astype(np.int64)),
        ~whole ^ short: lambda b, n, k, d: ~n ^ k,
        xp.maximum(whole, 3): lambda b, n, k, d: np.maximum(n, 3),
        xp.floor(double): lambda b, n, k, d: np.floor(d),
        flag < (whole > 3): lambda b, n, k, d: b < (n > 3),
    }
    rng = np.random.default_rng(0)
    arrays = [rng.random(99) < 0.5, rng.integers(-9, 9, 99), rng.integers(0, 70, 99, np.int32), rng.normal(0, 3, 99)]
    results = native(*outputs, inputs=inputs)(*arrays)
    for scalar, result, want in zip(outputs, results, outputs.values()):
        np.testing.assert_array_equal(result, want(*arrays), err_msg=repr(scalar))
        assert result.dtype == want(*arrays).dtype


def test_conversion_out_of_range_gives_what_numpy_gives_on_this_machine() -> None:
    double = input_scalar("d", "float64")
    numbers = np.array([1e30, -1e30, np.nan, -2.9])
    (out,) = native(xp.astype(double, np.int32), inputs=(double,))(numbers)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(out, numbers.astype(np.int32))


def test_threads_compile_and_run_at_the_same_time() -> None:
    results: dict[int, np.ndarray] = {}

    def work(step: int) -> None:
        x = np.full(1000, step, np.float32)
        (results[step],) = native(xp.exp(X) + float(step), inputs=(X,))(x)

    threads = [threading.Thread(target=work, args=(step,)) for step in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for step in range(6):
        np.testing.assert_allclose(results[step], np.exp(np.float32(step)) + step, rtol=1e-6)


def test_llvmlite_is_imported_by_the_first_kernel() -> None:
    program = (
        "import sys, numpy as np, wengert as wg\n"
        "from wengert.compile.fuse_elementwise import compile_elementwise\n"
        "forward, backward = compile_elementwise(wg.sin, 1, 'float32')\n"
        "assert 'llvmlite' not in sys.modules\n"
        "forward(np.ones(3, np.float32))\n"
        "assert 'llvmlite' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
