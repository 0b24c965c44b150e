"""The printed and compiled kernels: vectors as wide as the machine's, exact arithmetic, spans, overlaps, types."""

from __future__ import annotations

import gc
import platform
import re
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from wengert.compile import scalar_namespace as xp
from wengert.compile.llvm.emit import BLOCK, emit_kernel
from wengert.compile.llvm.runtime import NativeKernel, assembly, compile_object
from wengert.compile.scalar_ir import Scalar, ScalarFunction, input_scalar

X, Y = input_scalar("x", "float32"), input_scalar("y", "float32")


def source_of(*outputs: Scalar, inputs: tuple[Scalar, ...] = (X, Y)) -> str:
    return emit_kernel(ScalarFunction("f", inputs, outputs), (False,) * len(inputs))


def native(*outputs: Scalar, inputs: tuple[Scalar, ...] = (X, Y)) -> NativeKernel:
    return NativeKernel(compile_object(source_of(*outputs, inputs=inputs)))


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
    code = assembly(source_of(getattr(xp, function)(*args)))
    assert len(re.findall(registers, code)) > 20
    assert not re.search(rf"\b(call|bl)\b.*{function}", code), "a scalar function is called from the loop"


def test_no_instruction_may_change_results() -> None:
    source = source_of(xp.tanh(X) * Y + xp.sin(X) / Y, xp.power(X, Y), xp.erfc(X))
    assert not re.search(r"\b(fast|reassoc|contract|afn|arcp|nnan|ninf|nsz)\b", source)


def test_products_and_sums_are_not_contracted() -> None:
    x = np.array([1 + 2**-12], np.float32)
    y = np.array([-(1 + 2**-11)], np.float32)
    out = np.empty(1, np.float32)
    native(X * X + Y)([x, y, out], 0, 1)
    assert out[0] == 0.0  # a fused multiply-add would keep 2^-24


def test_a_span_is_computed_and_nothing_else() -> None:
    kernel = native(xp.sin(X) + Y)
    n = 3 * BLOCK + 5
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, n)).astype(np.float32)
    want = np.empty(n, np.float32)
    kernel([x, y, want], 0, n)
    np.testing.assert_allclose(want, np.sin(x) + y, atol=1e-6)
    for begin, end in [(0, 0), (5, 5), (7, 3), (0, 1), (3, BLOCK + 4), (BLOCK, n), (n - 1, n)]:
        out = np.full(n, np.nan, np.float32)
        kernel([x, y, out], begin, end)
        computed = np.zeros(n, bool)
        computed[begin:end] = True
        np.testing.assert_array_equal(np.isfinite(out), computed)
        np.testing.assert_array_equal(out[computed], want[computed])


def test_results_do_not_depend_on_position() -> None:
    """Vector lanes and the remainder of the loop give the same bits: threads may divide the work anywhere."""
    kernel = native(xp.exp(X) * xp.erf(Y))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1003)).astype(np.float32)
    whole, parts = np.empty((2, 1003), np.float32)
    kernel([x, y, whole], 0, 1003)
    for begin in range(0, 1003, 7):
        kernel([x, y, parts], begin, min(begin + 7, 1003))
    np.testing.assert_array_equal(whole, parts)


def test_an_output_may_be_an_input() -> None:
    x = np.linspace(-2, 2, 1001, dtype=np.float32)
    y = x[::-1].copy()
    want = np.exp(x) * y
    native(xp.exp(X) * Y)([x, y, x], 0, 1001)
    np.testing.assert_allclose(x, want, rtol=1e-6)


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
    results = [np.empty(99, scalar.dtype) for scalar in outputs]
    native(*outputs, inputs=inputs)([*arrays, *results], 0, 99)
    for scalar, result, want in zip(outputs, results, outputs.values()):
        np.testing.assert_array_equal(result, want(*arrays), err_msg=repr(scalar))
        assert result.dtype == want(*arrays).dtype


def test_conversion_out_of_range_saturates() -> None:
    double = input_scalar("d", "float64")
    out = np.empty(4, np.int32)
    native(xp.astype(double, np.int32), inputs=(double,))([np.array([1e30, -1e30, np.nan, -2.9]), out], 0, 4)
    np.testing.assert_array_equal(out, [2**31 - 1, -(2**31), 0, -2])


def test_kernels_come_and_go() -> None:
    """Code is freed with its kernel, and kernels of one source do not disturb each other."""
    x = np.ones(3, np.float32)
    out = np.empty(3, np.float32)
    kept = native(X + Y)
    for step in range(20):
        native(X + float(step))([x, x, out], 0, 3)
        np.testing.assert_array_equal(out, x + step)
        gc.collect()
    kept([x, x, out], 0, 3)
    np.testing.assert_array_equal(out, 2 * x)


def test_threads_compile_and_run_at_the_same_time() -> None:
    results: dict[int, np.ndarray] = {}

    def work(step: int) -> None:
        x = np.full(1000, step, np.float32)
        out = np.empty_like(x)
        native(xp.exp(X) + float(step))([x, x, out], 0, 1000)
        results[step] = out

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
