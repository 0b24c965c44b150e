"""The vocabulary that the functions of mathematics are written in: formats, bits, fused multiply-add, double words.

A double word is an unevaluated sum of two Scalars, high + low, that carries twice the digits: T. J. Dekker, "A
floating-point technique for extending the available precision" (1971); D. E. Knuth, TAOCP vol. 2, 4.2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..scalar_ir import FLOAT32, FLOAT64, INT32, INT64, DType, Scalar, apply, bitcast, constant

DoubleWord = tuple[Scalar, Scalar]


class Format(NamedTuple):
    """A binary floating format: the integer type of its bits, the digits stored, the exponent's bias."""

    bits: DType
    digits: int
    bias: int

    @property
    def sign_mask(self) -> int:
        """The bits with the sign alone set."""
        return -(2 ** (self.bits.itemsize * 8 - 1))

    @property
    def integer_offset(self) -> float:
        """1.5 * 2^digits: added to a number of moderate size it leaves the nearest integer in the low bits."""
        return 1.5 * 2.0**self.digits

    @property
    def offset_bits(self) -> int:
        """The bits of `integer_offset`."""
        return ((self.bias + self.digits) << self.digits) | (1 << (self.digits - 1))

    @property
    def smallest_normal(self) -> float:
        """The least positive number with all its digits."""
        return 2.0 ** (1 - self.bias)


FORMATS: dict[DType, Format] = {FLOAT32: Format(INT32, 23, 127), FLOAT64: Format(INT64, 52, 1023)}


def format_of(x: Scalar) -> Format:
    """Return the format of a floating Scalar."""
    return FORMATS[x.dtype]


def fma(x: Any, y: Any, z: Any) -> Scalar:
    """Return x * y + z, rounded once."""
    return apply("fma", x, y, z)


def where(condition: Scalar, x: Any, y: Any) -> Scalar:
    """Return x where the condition holds, else y; one of them is a Scalar, for two Python numbers have no type."""
    assert isinstance(x, Scalar) or isinstance(y, Scalar)
    return apply("where", condition, x, y)


def absolute(x: Scalar) -> Scalar:
    """Return the magnitude."""
    return apply("absolute", x)


def copysign(x: Any, y: Scalar) -> Scalar:
    """Return the magnitude of x with the sign of y."""
    return apply("copysign", x, y)


def sqrt(x: Scalar) -> Scalar:
    """Return the square root, rounded correctly."""
    return apply("sqrt", x)


def rint(x: Scalar) -> Scalar:
    """Return the nearest integer, ties to even."""
    return apply("rint", x)


def is_nan(x: Scalar) -> Scalar:
    """Return whether x is not a number."""
    return x != x


def bits_of(x: Scalar) -> Scalar:
    """Return the bits of a floating Scalar as an integer."""
    return bitcast(x, format_of(x).bits)


def from_bits(bits: Scalar) -> Scalar:
    """Return the floating Scalar with these bits."""
    return bitcast(bits, FLOAT32 if bits.dtype == INT32 else FLOAT64)


def power_of_two(exponent: Scalar) -> Scalar:
    """Return 2^exponent for an integer Scalar in the range of normal numbers."""
    form = FORMATS[FLOAT32 if exponent.dtype == INT32 else FLOAT64]
    return from_bits((exponent + form.bias) << form.digits)


def nearest_integer(x: Scalar) -> DoubleWord:
    """Return the integer nearest to x, as a float and as an integer Scalar; |x| < 2^(digits - 1).

    The sum with 1.5 * 2^digits rounds it; no conversion is needed, which AVX2 does not have for 64 bits, and a NaN
    gives arbitrary bits, not undefined behaviour.
    """
    form = format_of(x)
    shifted = x + form.integer_offset
    return shifted - form.integer_offset, bits_of(shifted) - form.offset_bits


def float_of(integer: Scalar) -> Scalar:
    """Convert an integer Scalar of moderate size to the float of its width, by the same sum run backwards."""
    form = FORMATS[FLOAT32 if integer.dtype == INT32 else FLOAT64]
    return from_bits(integer + form.offset_bits) - form.integer_offset


def scale(x: Scalar, exponent: Scalar) -> Scalar:
    """Return x * 2^exponent, in two steps so that subnormal and overflowing results round once and right."""
    half = exponent >> 1
    return (x * power_of_two(half)) * power_of_two(exponent - half)


def polynomial(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    """Return c0 + c1 x + c2 x^2 + ... by Horner's rule in fused multiply-adds."""
    result = constant(coefficients[-1], x.dtype)
    for coefficient in coefficients[-2::-1]:
        result = fma(result, x, coefficient)
    return result


def two_sum(x: Scalar, y: Scalar) -> DoubleWord:
    """Return x + y and its rounding error."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def quick_two_sum(x: Scalar, y: Scalar) -> DoubleWord:
    """Return x + y and its rounding error, given |x| >= |y|."""
    total = x + y
    return total, y - (total - x)


def two_product(x: Scalar, y: Scalar) -> DoubleWord:
    """Return x * y and its rounding error."""
    product = x * y
    return product, fma(x, y, -product)


def multiply_words(x: DoubleWord, y: DoubleWord) -> DoubleWord:
    """Return the product of two double words."""
    high, low = two_product(x[0], y[0])
    return quick_two_sum(high, fma(x[0], y[1], fma(x[1], y[0], low)))


def add_words(x: DoubleWord, y: DoubleWord) -> DoubleWord:
    """Return the sum of two double words, given |x| >= |y| or no heavy cancellation."""
    high, low = two_sum(x[0], y[0])
    return quick_two_sum(high, low + (x[1] + y[1]))


def words(value: tuple[float, float], dtype: DType) -> DoubleWord:
    """Return a double-word constant."""
    return constant(value[0], dtype), constant(value[1], dtype)


def flip_sign(x: Scalar, sign: Scalar) -> Scalar:
    """Flip the sign of x where the integer Scalar `sign` has its top bit set; its other bits must be zero."""
    return from_bits(bits_of(x) ^ sign)


def sign_bit(x: Scalar) -> Scalar:
    """Return the sign of a floating Scalar as an integer with the top bit alone set, or zero."""
    return bits_of(x) & format_of(x).sign_mask


INFINITY, NAN = math.inf, math.nan
