"""log, log2, log10, log1p, power, arcsinh, arccosh, arctanh.

Arguments are reduced to sqrt(1/2) <= m < sqrt(2), where a series in s = (m - 1) / (m + 1) serves.
Method: log(1 + f) = f - (f^2/2 - s (f^2/2 + R(s^2))) with s = f / (2 + f), as in FreeBSD's msun (e_log.c, s_log1p.c;
K. C. Ng, Sun Microsystems 1993); log2 and log10 carry the result as a double word until it meets the exponent.
power(x, y) is exp(y log |x|): in float64 with log|x| as a double word of 66 bits, in float32 through float64.
Coefficients: tests/compile/minimax.py, "logarithm" and "logarithm tail".
"""

from __future__ import annotations

from typing import NamedTuple

from ..scalar_ir import FLOAT32, FLOAT64, Scalar, constant, convert
from .exponential import exp, exp_of_word
from .machine import (
    INFINITY,
    NAN,
    DoubleWord,
    absolute,
    add_words,
    bits_of,
    copysign,
    float_of,
    fma,
    format_of,
    from_bits,
    is_nan,
    multiply_words,
    polynomial,
    power_of_two,
    quick_two_sum,
    rint,
    sqrt,
    two_product,
    two_sum,
    where,
    words,
)

# (log((1 + s) / (1 - s)) / s - 2) / s^2 in s^2; relative error of the logarithm below 2^-35 and 2^-59.
LOGARITHM = {
    FLOAT32: (0.6666666269302368, 0.40000972151756287, 0.2849879264831543, 0.24278812110424042),
    FLOAT64: (
        *(0.6666666666666735, 0.3999999999940934, 0.2857142874369024, 0.22222198428515946, 0.18183572381623836),
        *(0.1531383143004191, 0.1479826656546748),
    ),
}
# The same less its first term 2/3, which power() adds as a double word; relative error below 2^-77.
LOGARITHM_TAIL = (
    *(0.4, 0.2857142857142689, 0.22222222222716467, 0.18181818106029976, 0.15384622184647212, 0.13332959946469078),
    *(0.11777267022623782, 0.10278957897125467, 0.12029059380156894),
)
TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)

# The high part has so few digits that its product with any exponent is exact.
LN2 = {FLOAT32: (0.693145751953125, 1.4286068203094173e-06), FLOAT64: (0.6931471803691238, 1.9082149292705877e-10)}
LN2_WORD = (0.6931471805599453, 2.3190468138462996e-17)
LOG10_2 = {FLOAT32: (0.301025390625, 4.605038981195214e-06), FLOAT64: (0.3010299955494702, 1.1451100898021838e-10)}
LOG2_E = {FLOAT32: (1.4426950216293335, 1.925963033500011e-08), FLOAT64: (1.4426950408889634, 2.0355273740931033e-17)}
LOG10_E = {FLOAT32: (0.4342944920063019, -1.0103049952192578e-08), FLOAT64: (0.4342944819032518, 1.098319650216765e-17)}


def _split(x: Scalar) -> tuple[Scalar, Scalar]:
    """Return integer k (as an integer Scalar) and m with x = 2^k m and sqrt(1/2) <= m < sqrt(2), for positive x."""
    form = format_of(x)
    tiny = x < form.smallest_normal
    bits = bits_of(where(tiny, x * 2.0 ** (form.digits + 1), x))
    root_half = {FLOAT32: 0x3F3504F3, FLOAT64: 0x3FE6A09E667F3BCD}[x.dtype]
    offset = bits - root_half
    exponent = offset >> form.digits
    mantissa = from_bits((offset & (2**form.digits - 1)) + root_half)
    return where(tiny, exponent - (form.digits + 1), exponent), mantissa


class Logarithm(NamedTuple):
    """log(1 + f) in parts: f - (half_square - correction)."""

    f: Scalar
    half_square: Scalar
    correction: Scalar


def _log_of(f: Scalar) -> Logarithm:
    s = f / (2 + f)
    square = s * s
    half_square = 0.5 * f * f
    return Logarithm(f, half_square, s * (half_square + square * polynomial(square, LOGARITHM[f.dtype])))


def _with_exponent(log: Logarithm, exponent: Scalar) -> Scalar:
    multiple = float_of(exponent)
    ln2_high, ln2_low = LN2[multiple.dtype]
    low = fma(multiple, ln2_low, log.correction)
    return multiple * ln2_high - ((log.half_square - low) - log.f)


def _at_edges(x: Scalar, result: Scalar) -> Scalar:
    """Put in the values of a logarithm at zero, below it, at infinity and NaN."""
    edge = where(x == 0, -INFINITY, where(x < 0, NAN, x))
    return where((x > 0) & (x < INFINITY), result, edge)


def log(x: Scalar) -> Scalar:
    """Natural logarithm."""
    exponent, mantissa = _split(x)
    return _at_edges(x, _with_exponent(_log_of(mantissa - 1), exponent))


def log1p(x: Scalar) -> Scalar:
    """log(1 + x), without cancellation."""
    form = format_of(x)
    total, lost = two_sum(constant(1, x.dtype), x)
    exponent, mantissa = _split(total)
    # The rounding error of 1 + x, scaled as the mantissa is; beyond the digits of x it counts for nothing.
    negligible = exponent > form.digits + 8
    scaled = where(negligible, 0, lost * power_of_two(where(negligible, 0, -exponent)))
    result = _with_exponent(_log_of((mantissa - 1) + scaled), exponent)
    result = where(absolute(x) < 2.0 ** (-form.digits - 2), x, result)
    edge = where(x == -1, -INFINITY, where(x < -1, NAN, x))
    return where((x > -1) & (x < INFINITY), result, edge)


def _log_in_base(x: Scalar, per_e: tuple[float, float], per_exponent: tuple[float, float]) -> Scalar:
    exponent, mantissa = _split(x)
    log = _log_of(mantissa - 1)
    high, low = quick_two_sum(log.f, -log.half_square)
    low = low + log.correction
    product, lost = two_product(high, constant(per_e[0], x.dtype))
    lost = fma(low, per_e[0], fma(high, per_e[1], lost))
    multiple = float_of(exponent)
    total, rest = two_sum(multiple * per_exponent[0], product)
    return _at_edges(x, total + (rest + fma(multiple, per_exponent[1], lost)))


def log2(x: Scalar) -> Scalar:
    """Logarithm to base two; exact at powers of two."""
    return _log_in_base(x, LOG2_E[x.dtype], (1.0, 0.0))


def log10(x: Scalar) -> Scalar:
    """Logarithm to base ten."""
    return _log_in_base(x, LOG10_E[x.dtype], LOG10_2[x.dtype])


def _log_word(x: Scalar) -> DoubleWord:
    """Return log(x) for positive finite float64 x, to 66 bits."""
    exponent, mantissa = _split(x)
    f = mantissa - 1
    divisor, divisor_low = two_sum(constant(2, f.dtype), f)
    s_high = f / divisor
    s_low = fma(-s_high, divisor_low, fma(-s_high, divisor, f)) / divisor
    s = quick_two_sum(s_high, s_low)
    square = multiply_words(s, s)
    tail = square[0] * polynomial(square[0], LOGARITHM_TAIL)
    third = add_words(words(TWO_THIRDS, FLOAT64), (tail, constant(0, FLOAT64)))
    series = multiply_words(multiply_words(s, square), third)
    multiple = float_of(exponent)
    ln2_high, ln2_low = LN2_WORD
    base = two_product(multiple, constant(ln2_high, x.dtype))
    total = add_words((base[0], fma(multiple, ln2_low, base[1])), (2 * s[0], 2 * s[1]))
    return add_words(total, series)


def _magnitude_of_power(size: Scalar, y: Scalar) -> Scalar:
    """Return size^y for positive finite size and finite y."""
    if size.dtype == FLOAT32:
        wide = convert(y, FLOAT64) * log(convert(size, FLOAT64))
        return convert(exp(wide), FLOAT32)
    log_high, log_low = _log_word(size)
    high, lost = two_product(y, log_high)
    return exp_of_word(high, fma(y, log_low, lost))


def power(x: Scalar, y: Scalar) -> Scalar:
    """x to the power y, with the special cases of IEEE 754."""
    size = absolute(x)
    result = _magnitude_of_power(size, y)
    infinite_y = absolute(y) == INFINITY
    at_edge = (size == 0) | (size == INFINITY) | infinite_y
    result = where(at_edge, where((size > 1) == (y > 0), constant(INFINITY, x.dtype), 0), result)
    whole = rint(y) == y
    half = 0.5 * y
    odd = whole & (rint(half) != half)
    negative = bits_of(x) < 0
    result = where(negative & odd, -result, result)
    result = where((x < 0) & ~whole & (size != INFINITY), NAN, result)
    result = where(is_nan(x) | is_nan(y), NAN, result)
    return where((x == 1) | (y == 0) | ((x == -1) & infinite_y), 1, result)


def arcsinh(x: Scalar) -> Scalar:
    """Inverse hyperbolic sine: log1p(|x| + x^2 / (1 + sqrt(1 + x^2)))."""
    size = absolute(x)
    large = size > 2.0 ** (format_of(x).digits + 2)
    square = where(large, 0, size * size)
    result = _plus_ln2_where(large, log1p(size + square / (1 + sqrt(1 + square))))
    return copysign(result, x)


def _plus_ln2_where(condition: Scalar, x: Scalar) -> Scalar:
    return where(condition, x + LN2_WORD[0], x)


def arccosh(x: Scalar) -> Scalar:
    """Inverse hyperbolic cosine: log1p(t + sqrt(t (t + 2))) with t = x - 1."""
    large = x > 2.0 ** (format_of(x).digits + 2)
    t = x - 1
    argument = where(large, t, t + sqrt(t * (t + 2)))
    return where(x < 1, NAN, _plus_ln2_where(large, log1p(argument)))


def arctanh(x: Scalar) -> Scalar:
    """Inverse hyperbolic tangent: log1p(2 |x| / (1 - |x|)) / 2."""
    size = absolute(x)
    return copysign(0.5 * log1p(2 * size / (1 - size)), x)
