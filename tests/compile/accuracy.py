"""Measures the error of kernels in units in the last place (ulp), against longer arithmetic.

float32 is measured against NumPy's and SciPy's float64; float64 against NumPy's long double where that is longer, and
against mpmath (50 digits) where NumPy has no such function, or long double is double.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import scipy.special

LONG_DOUBLE = np.finfo(np.longdouble).nmant > 60
SPECIAL_POINTS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, np.inf, -np.inf, np.nan]


def bit_patterns(dtype: Any, count: int, seed: int = 0) -> np.ndarray:
    """Return numbers of every exponent and either sign, evenly over the bit patterns, and the special points."""
    info, rng = np.finfo(dtype), np.random.default_rng(seed)
    integer = np.dtype(f"u{np.dtype(dtype).itemsize}")
    bits = rng.integers(0, 2 ** (8 * integer.itemsize) - 1, count, dtype=integer, endpoint=True)
    numbers = bits.view(dtype)
    edges = np.array([*SPECIAL_POINTS, info.max, info.min, info.tiny, -info.tiny, info.smallest_subnormal, info.eps])
    return np.concatenate([numbers[np.isfinite(numbers)], edges.astype(dtype)])


def near_multiples(step: float, count: int, limit: float, dtype: Any, seed: int = 0) -> np.ndarray:
    """Return the numbers next to multiples of `step`, where argument reduction is hardest."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(1, max(int(min(limit, 2.0**62) / step), 2), count)
    centre = (whole * np.longdouble(step)).astype(dtype)
    offsets = rng.integers(-3, 4, count) * np.spacing(np.abs(centre))
    return np.concatenate([centre + offsets, -(centre + offsets)]).astype(dtype)


def exact(name: str, *args: np.ndarray) -> np.ndarray:
    """Return a function's values in the arithmetic to measure against."""
    if args[0].dtype == np.float32:
        return in_float64(name)(*[a.astype(np.float64) for a in args])
    if LONG_DOUBLE and hasattr(np, name):
        return getattr(np, name)(*[a.astype(np.longdouble) for a in args])
    return _by_mpmath(name, *args)


def in_float64(name: str) -> Callable[..., Any]:
    """Return NumPy's or SciPy's function of that name."""
    return getattr(np, name, None) or getattr(scipy.special, name)


_MPMATH_NAMES = {
    **{"power": "power", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2"},
    **{"arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "ndtr": "ncdf"},
}


def _by_mpmath(name: str, *args: np.ndarray) -> np.ndarray:
    """Return values from mpmath; at the edges, where it has no signed zero and fails on large arguments, float64's."""
    function = getattr(mpmath.mp, _MPMATH_NAMES.get(name, name))
    values = in_float64(name)(*args).astype(np.longdouble)
    ordinary = np.all([(np.abs(a) > 1e-300) & (np.abs(a) < 1e3) for a in args], axis=0)
    with mpmath.mp.workdps(50):
        for place in np.flatnonzero(ordinary):
            value = function(*[mpmath.mpf(float(a[place])) for a in args])
            values[place] = _to_long_double(value)
    return values


def _to_long_double(value: Any) -> Any:
    if not isinstance(value, mpmath.mpf):
        return np.longdouble(np.nan)
    high = float(value)
    return np.longdouble(high) + np.longdouble(float(value - high)) if np.isfinite(high) else np.longdouble(high)


def ulp_errors(measured: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return errors in units in the last place of the correctly rounded result.

    NaN where NaN is due and the right infinity count as no error; anything else that is not finite, as infinite. An
    overflow that rounding alone would cause half a unit earlier counts as no error.
    """
    dtype = measured.dtype
    with np.errstate(all="ignore"):
        rounded = reference.astype(dtype)
        spacing = np.spacing(np.minimum(np.abs(rounded), np.finfo(dtype).max)).astype(reference.dtype)
        errors = np.abs(measured.astype(reference.dtype) - reference) / spacing
        same = (measured == rounded) | (np.isnan(measured) & np.isnan(reference))
        signs = (rounded == 0) & (np.signbit(measured) != np.signbit(rounded))
    errors = np.where(np.isnan(errors) | np.isinf(errors), np.inf, errors)
    errors = np.where(same & (~np.isfinite(rounded)), 0.0, errors)
    return np.where(signs & (measured == 0), np.inf, errors).astype(np.float64)
