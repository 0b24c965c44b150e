"""The functions of mathematics: measured errors stay within the stated bounds, over all exponents and at the edges."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.compile.accuracy import SPECIAL_POINTS, bit_patterns, exact, near_multiples, ulp_errors
from wengert.compile.fuse_elementwise import FusedKernel
from wengert.compile.scalar_ir import FLOAT64, ScalarFunction, apply, input_scalar
from wengert.compile.scalar_math import ULP_BOUNDS, trigonometric

DTYPES = ["float32", "float64"]
BINARY = ["power", "arctan2", "hypot"]
LIKE_NUMPY = ["maximum", "minimum", "remainder", "floor_divide"]
UNARY = sorted(set(ULP_BOUNDS) - {*BINARY, *LIKE_NUMPY})
ONLY_MPMATH = {"erf", "erfc", "ndtr"}


@cache
def kernel(name: str, dtype: str, arity: int = 1) -> FusedKernel:
    inputs = tuple([input_scalar("xy"[i], dtype) for i in range(arity)])
    return FusedKernel(ScalarFunction(name, inputs, (apply(name, *inputs),)))


def unary_points(name: str, dtype: str) -> np.ndarray:
    """Points of every exponent, dense where functions bend, and next to the multiples of pi/2."""
    count = 800 if dtype == "float64" and name in ONLY_MPMATH else 20_000
    rng = np.random.default_rng(0)
    parts = [
        bit_patterns(dtype, count),
        rng.uniform(-2, 2, count),
        rng.uniform(-30, 30, count),
        np.exp(rng.uniform(-9, 8, count)) * rng.choice([-1, 1], count),
        1 + rng.standard_normal(count) * 1e-3,
    ]
    if name in ("sin", "cos", "tan"):
        parts += [near_multiples(np.pi / 2, count, limit, dtype) for limit in (100, 1e5, 1e13)]
    return np.concatenate([part.astype(dtype) for part in parts])


def demand_within(bound: float, errors: np.ndarray, *args: np.ndarray) -> None:
    worst = errors.argmax()
    assert errors[worst] <= bound, f"{errors[worst]:.3f} ulp at {[a[worst] for a in args]}; {bound} are stated"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_unary_error_is_within_the_stated_bound(name: str, dtype: str) -> None:
    x = unary_points(name, dtype)
    errors = ulp_errors(kernel(name, dtype)(x)[0], exact(name, x))
    demand_within(ULP_BOUNDS[name][DTYPES.index(dtype)], errors, x)


def binary_points(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    count = 20_000
    rng = np.random.default_rng(0)
    edges = np.array([*SPECIAL_POINTS, 3.0, -3.0, 2.5, -2.5, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype)
    left, right = [grid.ravel() for grid in np.meshgrid(edges, edges)]
    patterns = bit_patterns(dtype, count)
    x = [left, patterns, rng.uniform(0, 3, count), np.exp(rng.uniform(-9, 9, count)), rng.uniform(-9, 9, count)]
    whole = rng.integers(-9, 9, count)
    y = [right, rng.permutation(patterns), rng.uniform(-300, 300, count), rng.uniform(-70, 70, count), whole]
    return np.concatenate(x).astype(dtype), np.concatenate(y).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_binary_error_is_within_the_stated_bound(name: str, dtype: str) -> None:
    x, y = binary_points(dtype)
    errors = ulp_errors(kernel(name, dtype, 2)(x, y)[0], exact(name, x, y))
    demand_within(ULP_BOUNDS[name][DTYPES.index(dtype)], errors, x, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LIKE_NUMPY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_result_is_numpys(name: str, dtype: str) -> None:
    x, y = binary_points(dtype)
    np.testing.assert_array_equal(kernel(name, dtype, 2)(x, y)[0], getattr(np, name)(x, y))


def test_the_hardest_float64_argument_is_reduced_right() -> None:
    """6381956970095103 * 2^797 is the double closest to a multiple of pi/2 (W. Kahan): the cosine is 4.7e-19."""
    x = np.full(1, 6381956970095103.0 * 2.0**797)
    np.testing.assert_allclose(kernel("cos", "float64")(x)[0], -4.687165924254627611e-19, rtol=3e-16)
    np.testing.assert_array_equal(kernel("sin", "float64")(x)[0], [1.0])


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_argument_out_of_range_spoils_no_other(name: str) -> None:
    """Its block is computed again by the slower function; the others keep their results, or get as good ones."""
    x = np.linspace(-3, 3, 10_000)
    usual = kernel(name, "float64")(x)[0]
    x[[17, 5000, 9999]] = [1e300, -np.inf, 2.0 * trigonometric.FAST_RANGE[FLOAT64]]
    got = kernel(name, "float64")(x)[0]
    np.testing.assert_array_max_ulp(np.delete(got, [17, 5000, 9999]), np.delete(usual, [17, 5000, 9999]), 1)
    assert np.isnan(got[5000])
    assert ulp_errors(got[[17, 9999]], exact(name, x[[17, 9999]])).max() <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp2", "log2", "cbrt", "power"])
def test_exact_results_are_exact(name: str, dtype: str) -> None:
    whole = np.arange(-60, 61).astype(dtype)
    got: Any
    if name == "power":
        got, want = kernel(name, dtype, 2)(np.full_like(whole, 2), whole)[0], 2.0**whole
    elif name == "cbrt":
        got, want = kernel(name, dtype)(whole**3)[0], whole
    else:
        got, want = (kernel(name, dtype)(whole)[0], 2.0**whole) if name == "exp2" else (
            kernel(name, dtype)(2.0**whole)[0], whole)  # fmt: skip
    np.testing.assert_array_equal(got, want)
