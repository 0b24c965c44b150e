"""exp, exp2, expm1, sinh, cosh, tanh: reduced by multiples of ln 2 to |r| <= ln(2)/2, then a polynomial in r.

Method: W. J. Cody and W. Waite, "Software Manual for the Elementary Functions" (1980), with fused multiply-adds for
the reduction, which make its first step exact. Coefficients: tests/compile/minimax.py, "exponential" and "hyperbolic
tangent".
Bounds in units in the last place, over all arguments, subnormal results included; see `ULP_BOUNDS`.
"""

from __future__ import annotations

from typing import NamedTuple

from ..scalar_ir import FLOAT32, FLOAT64, Scalar
from .machine import (
    absolute,
    copysign,
    fma,
    nearest_integer,
    polynomial,
    power_of_two,
    quick_two_sum,
    scale,
    where,
)

LOG2_E = 1.4426950408889634
LN2 = {FLOAT32: (0.6931471824645996, -1.9046542121259336e-09), FLOAT64: (0.6931471805599453, 2.3190468138462996e-17)}

# (e^r - 1 - r) / r^2 on |r| <= 0.347; relative error of e^r below 2^-28 (float32) and 2^-57 (float64).
EXPONENTIAL = {
    FLOAT32: (0.4999999403953552, 0.16666515171527863, 0.04166807979345322, 0.008369367569684982, 0.001384182134643197),
    FLOAT64: (
        *(0.5000000000000011, 0.16666666666666302, 0.041666666666524056, 0.008333333333570508, 0.0013888888945633735),
        *(0.00019841269332264699, 2.4801490697525875e-05, 2.7557749402701634e-06, 2.7631200459442266e-07),
        2.4946446621896825e-08,
    ),
}

# Beyond these the result is zero or infinite by itself; exponents stay small enough to be halved.
EXP_RANGE = {FLOAT32: (-104.0, 89.0), FLOAT64: (-746.0, 710.0)}
EXPM1_RANGE = {FLOAT32: (-18.0, 89.0), FLOAT64: (-38.0, 710.0)}
# (tanh(x) / x - 1) / x^2 in x^2 below TANGENT_NEAR; relative error of tanh 2^-27. It is 1 from TANGENT_LIMIT on.
TANGENT = (-0.3333328366279602, 0.1333148330450058, -0.053742773830890656, 0.020648062229156494, -0.005714063532650471)
TANGENT_NEAR, TANGENT_LIMIT = 0.625, 10.0
COSH_LIMIT = {FLOAT32: 89.5, FLOAT64: 710.6}


class Reduced(NamedTuple):
    """x = exponent * ln 2 + high + low, with an integer exponent and |high| <= ln(2)/2."""

    exponent: Scalar
    high: Scalar
    low: Scalar


def _clamp(x: Scalar, low: float, high: float) -> Scalar:
    x = where(x < low, low, x)  # NaN passes
    return where(x > high, high, x)


def _reduce(x: Scalar) -> Reduced:
    ln2_high, ln2_low = LN2[x.dtype]
    multiple, exponent = nearest_integer(x * LOG2_E)
    first = fma(multiple, -ln2_high, x)
    high = fma(multiple, -ln2_low, first)
    return Reduced(exponent, high, fma(multiple, -ln2_low, first - high))


def _quadratic(r: Scalar) -> Scalar:
    """Return e^r - 1 - r for |r| <= ln(2)/2."""
    return (r * r) * polynomial(r, EXPONENTIAL[r.dtype])


def exp(x: Scalar) -> Scalar:
    """e^x."""
    lower, upper = EXP_RANGE[x.dtype]
    # Results that underflow are slow to compute; those of masked scores, often half of all, are zero without it.
    vanishes = x < lower
    reduced = _reduce(where(x > upper, upper, where(vanishes, 0, x)))
    return where(vanishes, 0, _assemble(reduced.high, reduced.low, reduced.exponent))


def exp_moderate(x: Scalar) -> Scalar:
    """e^x where it is a normal number, to 2 units in the last place: for arguments known to be bounded."""
    ln2_high, ln2_low = LN2[x.dtype]
    multiple, exponent = nearest_integer(x * LOG2_E)
    rest = fma(multiple, -ln2_low, fma(multiple, -ln2_high, x))
    return (1 + (rest + _quadratic(rest))) * power_of_two(exponent)


def exp_of_word(high: Scalar, low: Scalar) -> Scalar:
    """e^(high + low) for a double word, whatever its low part where the high part alone overflows or vanishes."""
    lower, upper = EXP_RANGE[high.dtype]
    reduced = _reduce(_clamp(high, lower, upper))
    low = where((high > lower) & (high < upper), reduced.low + low, 0)
    return _assemble(*quick_two_sum(reduced.high, low), reduced.exponent)


def _assemble(high: Scalar, low: Scalar, exponent: Scalar) -> Scalar:
    return scale(1 + (high + (_quadratic(high) + low)), exponent)


def exp2(x: Scalar) -> Scalar:
    """2^x; exact where x is an integer."""
    lower, upper = EXP_RANGE[x.dtype]
    x = _clamp(x, lower * LOG2_E, upper * LOG2_E)
    ln2_high, ln2_low = LN2[x.dtype]
    multiple, exponent = nearest_integer(x)
    part = x - multiple
    high = part * ln2_high
    low = fma(part, ln2_low, fma(part, ln2_high, -high))
    return _assemble(high, low, exponent)


def expm1(x: Scalar) -> Scalar:
    """e^x - 1, without cancellation."""
    lower, upper = EXPM1_RANGE[x.dtype]
    reduced = _reduce(_clamp(x, lower, upper))
    part, part_low = quick_two_sum(reduced.high, _quadratic(reduced.high) + reduced.low)
    # 2^k (1 + part) - 1 = 2 (2^(k-1) - 1/2 + 2^(k-1) part), so that k = 1024 does not overflow too early.
    half_scale = power_of_two(reduced.exponent - 1)
    base = half_scale - 0.5
    total = fma(half_scale, part, base)
    lost = fma(half_scale, part, base - total)  # exact where |base| is the larger, and small otherwise
    result = 2 * (total + fma(half_scale, part_low, lost))
    return where(reduced.exponent == 0, where(x == 0, x, part), result)


def sinh(x: Scalar) -> Scalar:
    """Hyperbolic sine."""
    rising, falling, up, down = _both_exponentials(x)
    base = up - down
    total = fma(up, rising[0], base)
    lost = fma(up, rising[0], base - total) + fma(up, rising[1], -(down * falling[1]))
    result = 2 * (total + fma(-down, falling[0], lost))
    return where(absolute(x) < 2.0**-30, x, copysign(result, x))


def cosh(x: Scalar) -> Scalar:
    """Hyperbolic cosine."""
    rising, falling, up, down = _both_exponentials(x)
    base, base_low = quick_two_sum(up, down)
    total = fma(up, rising[0], base)
    lost = fma(up, rising[0], base - total) + fma(up, rising[1], base_low)
    return 2 * (total + fma(down, falling[0], lost))


def _both_exponentials(x: Scalar) -> tuple[tuple[Scalar, Scalar], tuple[Scalar, Scalar], Scalar, Scalar]:
    """Return p, q, u, v with e^|x| = 4 u (1 + p) and e^-|x| = 4 v (1 + q), so that u and v never overflow."""
    size = absolute(x)
    limit = COSH_LIMIT[x.dtype]
    reduced = _reduce(where(size > limit, limit, size))
    square = reduced.high * reduced.high
    negative = -reduced.high
    rising = quick_two_sum(reduced.high, square * polynomial(reduced.high, EXPONENTIAL[x.dtype]) + reduced.low)
    falling = quick_two_sum(negative, square * polynomial(negative, EXPONENTIAL[x.dtype]) - reduced.low)
    up = power_of_two(reduced.exponent - 2)
    down = power_of_two(where(reduced.exponent > 100, -102, -reduced.exponent - 2))
    return rising, falling, up, down


def tanh(x: Scalar) -> Scalar:
    """Hyperbolic tangent, as -m / (m + 2) with m = expm1(-2 |x|); in single precision without the care of expm1."""
    size = absolute(x)
    if x.dtype == FLOAT32:
        square = size * size
        near = fma(size * square, polynomial(square, TANGENT), size)
        vanishing = exp_moderate(-2 * where(size > TANGENT_LIMIT, TANGENT_LIMIT, size))
        return copysign(where(size < TANGENT_NEAR, near, 1 - 2 * vanishing / (1 + vanishing)), x)
    minus = expm1(-2 * size)
    return copysign(minus / (minus + 2), x)


__all__ = ["cosh", "exp", "exp2", "exp_moderate", "exp_of_word", "expm1", "sinh", "tanh"]
