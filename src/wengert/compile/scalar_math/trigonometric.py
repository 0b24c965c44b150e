"""sin, cos, tan: reduced by multiples of pi/2 to |r| <= pi/4, then polynomials in r.

Reduction of moderate arguments: Cody and Waite with fused multiply-adds, keeping r as a double word; it holds below
`FAST_RANGE`. Beyond that, `sin_anywhere` and its like multiply by the digits of 2/pi that matter, for any argument
(M. H. Payne and R. N. Hanek, "Radian reduction for trigonometric functions", 1983). Polynomials as in FreeBSD's msun
(k_sin.c, k_cos.c). Coefficients: tests/compile/minimax.py, "sine" and "cosine".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from ..scalar_ir import FLOAT32, FLOAT64, INT32, Scalar, constant, convert, lookup
from .machine import (
    FORMATS,
    INFINITY,
    DoubleWord,
    absolute,
    add_words,
    bits_of,
    flip_sign,
    fma,
    from_bits,
    multiply_words,
    nearest_integer,
    polynomial,
    quick_two_sum,
    rint,
    sign_bit,
    two_product,
    two_sum,
    where,
    words,
)

# (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2/2) / r^4 in r^2 <= 0.65; errors 2^-32, 2^-57 and 2^-32, 2^-63.
SINE = {
    FLOAT32: (-0.1666666716337204, 0.008333377540111542, -0.00019852003606501967, 2.8190472676214995e-06),
    FLOAT64: (
        *(-0.16666666666666619, 0.008333333333318977, -0.00019841269827003852, 2.7557312705738765e-06),
        *(-2.505060220722971e-08, 1.5887700065838414e-10),
    ),
}
COSINE = {
    FLOAT32: (0.04166664183139801, -0.0013887130189687014, 2.4412085622316226e-05),
    FLOAT64: (
        *(0.04166666666666657, -0.0013888888888868509, 2.4801587285976284e-05, -2.755731334275283e-07),
        *(2.0875586735977884e-09, -1.1352623229478682e-11),
    ),
}
TWO_OVER_PI = 0.6366197723675814
PI_HALVES = {
    FLOAT32: (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15, 1.056299898220315e-23),
    FLOAT64: (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33, 5.562271104316826e-50),
}
FAST_RANGE = {FLOAT32: 2.0**18, FLOAT64: 2.0**45}
# Exponents of the integer x / 2^e that the table of 2/pi serves: from the end of the fast range to the largest number.
TABLE_EXPONENTS = {FLOAT32: (18 - 52, 127 - 52), FLOAT64: (45 - 52, 1023 - 52)}


class Angle(NamedTuple):
    """|x| = quadrant * pi/2 + high + low; `quadrant` is right in its two lowest bits."""

    quadrant: Scalar
    high: Scalar
    low: Scalar


Reduction = Callable[[Scalar], Angle]


def in_fast_range(x: Scalar) -> Scalar:
    """Return whether the fast reduction is right for x (infinities and NaN included: their result is NaN)."""
    size = absolute(x)
    return ~(size > FAST_RANGE[x.dtype]) | (size == INFINITY)


def _reduce(size: Scalar) -> Angle:
    first, second, third, fourth = PI_HALVES[size.dtype]
    multiple, quadrant = nearest_integer(size * TWO_OVER_PI)
    rest = fma(multiple, -first, size)  # exact
    product, lost = two_product(multiple, constant(-second, size.dtype))
    high, low = quick_two_sum(rest, product)  # where the product is the larger, the two cancel or low counts little
    return Angle(quadrant, high, fma(multiple, -fourth, fma(multiple, -third, low + lost)))


def _reduce_anywhere(size: Scalar) -> Angle:
    """Reduce any argument; beyond the fast range, by those digits of 2/pi that its exponent leaves below 4."""
    fast, slow = _reduce(size), _reduce_large(size)
    near = in_fast_range(size)
    return Angle(*[where(near, x, y) for x, y in zip(fast, slow)])


def _reduce_large(size: Scalar) -> Angle:
    form = FORMATS[FLOAT64]
    wide = convert(size, FLOAT64)
    exponent = (bits_of(wide) >> form.digits) - (form.bias + form.digits)
    first, last = TABLE_EXPONENTS[size.dtype]
    index = where(exponent > last, last, where(exponent < first, first, exponent)) - first
    integer = from_bits((bits_of(wide) & (2**form.digits - 1)) | ((form.bias + form.digits) << form.digits))
    digits = [lookup(column, index, FLOAT64) for column in _two_over_pi_table(first, last)]
    products = [two_product(integer, column) for column in digits]
    leading = products[0][0] - 4 * rint(0.25 * products[0][0])
    total, first_rest = two_sum(leading, products[0][1])
    total, second_rest = two_sum(total, products[1][0])
    quarters = rint(total)
    rest = add_words(two_sum(first_rest, second_rest), two_sum(products[1][1], products[2][0]))
    rest = (rest[0], rest[1] + (products[2][1] + products[3][0]))
    fraction = add_words((total - quarters, constant(0, FLOAT64)), rest)
    high, low = multiply_words(fraction, words(PI_HALVES[FLOAT64][:2], FLOAT64))
    quadrant = nearest_integer(quarters)[1]
    if size.dtype == FLOAT64:
        return Angle(quadrant, high, low)
    narrow = convert(high, FLOAT32)
    return Angle(convert(quadrant, INT32), narrow, convert((high - convert(narrow, FLOAT64)) + low, FLOAT32))


@cache
def _two_over_pi_table(first: int, last: int) -> tuple[tuple[float, ...], ...]:
    """Return four columns whose sum, at row i, is (2^(first + i) * 2/pi) mod 4 to 212 bits."""
    digits = last + 300
    two_over_pi = (2 << (2 * digits)) // _pi_times_two_to(digits)
    rows = []
    for exponent in range(first, last + 1):
        rest = ((two_over_pi << exponent) if exponent > 0 else (two_over_pi >> -exponent)) % (4 << digits)
        row = []
        for _ in range(4):
            drop = max(rest.bit_length() - 53, 0)
            head = (rest >> drop) << drop
            row.append(head / (1 << digits))
            rest -= head
        rows.append(row)
    return tuple(zip(*rows))


def _pi_times_two_to(digits: int) -> int:
    """Return floor(pi * 2^digits), nearly: J. Machin's formula (1706)."""
    guarded = digits + 20
    return (16 * _arctangent_of_inverse(5, guarded) - 4 * _arctangent_of_inverse(239, guarded)) >> 20


def _arctangent_of_inverse(n: int, digits: int) -> int:
    term = (1 << digits) // n
    total, k = term, 1
    while term:
        term //= -n * n
        k += 2
        total += term // k
    return total


def _sine(angle: Angle) -> DoubleWord:
    r, low = angle.high, angle.low
    square = r * r
    return quick_two_sum(r, fma(r * square, polynomial(square, SINE[r.dtype]), fma(-0.5 * square, low, low)))


def _cosine(angle: Angle) -> DoubleWord:
    r, low = angle.high, angle.low
    square = r * r
    head, lost = quick_two_sum(constant(1, r.dtype), -0.5 * square)
    return quick_two_sum(head, lost + fma(square * square, polynomial(square, COSINE[r.dtype]), -(r * low)))


def _sign_of(quadrant: Scalar) -> Scalar:
    """Return the sign that two half turns, counted in quarters, give: the second bit, moved to the top."""
    return (quadrant & 2) << (quadrant.dtype.itemsize * 8 - 2)


def _sin(x: Scalar, reduce: Reduction) -> Scalar:
    angle = reduce(absolute(x))
    size = where((angle.quadrant & 1) == 0, _sine(angle)[0], _cosine(angle)[0])
    return flip_sign(size, _sign_of(angle.quadrant) ^ sign_bit(x))


def _cos(x: Scalar, reduce: Reduction) -> Scalar:
    angle = reduce(absolute(x))
    size = where((angle.quadrant & 1) == 0, _cosine(angle)[0], _sine(angle)[0])
    return flip_sign(size, _sign_of(angle.quadrant + 1))


def _tan(x: Scalar, reduce: Reduction) -> Scalar:
    angle = reduce(absolute(x))
    sine, cosine = _sine(angle), _cosine(angle)
    even = (angle.quadrant & 1) == 0
    high, low = where(even, sine[0], -cosine[0]), where(even, sine[1], -cosine[1])
    divisor, divisor_low = where(even, cosine[0], sine[0]), where(even, cosine[1], sine[1])
    quotient = high / divisor
    rest = fma(-quotient, divisor, high) + fma(-quotient, divisor_low, low)
    return flip_sign(quotient + rest / divisor, sign_bit(x))


def sin(x: Scalar) -> Scalar:
    """Sine, for arguments in the fast range."""
    return _sin(x, _reduce)


def cos(x: Scalar) -> Scalar:
    """Cosine, for arguments in the fast range."""
    return _cos(x, _reduce)


def tan(x: Scalar) -> Scalar:
    """Tangent, for arguments in the fast range."""
    return _tan(x, _reduce)


def sin_anywhere(x: Scalar) -> Scalar:
    """Sine of any argument."""
    return _sin(x, _reduce_anywhere)


def cos_anywhere(x: Scalar) -> Scalar:
    """Cosine of any argument."""
    return _cos(x, _reduce_anywhere)


def tan_anywhere(x: Scalar) -> Scalar:
    """Tangent of any argument."""
    return _tan(x, _reduce_anywhere)
