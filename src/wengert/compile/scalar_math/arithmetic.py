"""maximum, minimum, remainder, floor_divide, hypot, cbrt: what hardware does not have in one instruction."""

from __future__ import annotations

from ..scalar_ir import Scalar, apply, constant
from .machine import (
    INFINITY,
    absolute,
    bits_of,
    copysign,
    float_of,
    fma,
    format_of,
    from_bits,
    is_nan,
    polynomial,
    rint,
    scale,
    sqrt,
    where,
)

# The cube root on [1, 8], to 2^-7.6: where Newton's method starts. tests/compile/minimax.py, "cube root".
CUBE_ROOT = (0.6816837611009057, 0.3645283181363003, -0.043310167144723445, 0.002313223951482269)


def maximum(x: Scalar, y: Scalar) -> Scalar:
    """The larger; NaN if either is. Of zeros the second, as NumPy has it, and the instructions of x86."""
    return where(_first_wins(x, y < x), x, y)


def minimum(x: Scalar, y: Scalar) -> Scalar:
    """The smaller; NaN if either is. Of zeros the second."""
    return where(_first_wins(x, x < y), x, y)


def _first_wins(x: Scalar, better: Scalar) -> Scalar:
    return better | is_nan(x) if x.dtype.kind == "f" else better


def remainder(x: Scalar, y: Scalar) -> Scalar:
    """x - floor(x / y) y, exactly, with the sign of y."""
    rest = apply("fmod", x, y)
    wrong_side = (rest != 0) & ((rest < 0) != (y < 0))
    rest = where(wrong_side, rest + y, rest)
    return where(rest == 0, copysign(0, y), rest)


def floor_divide(x: Scalar, y: Scalar) -> Scalar:
    """floor(x / y), from the exact remainder, as Python and NumPy do."""
    rest = apply("fmod", x, y)
    wrong_side = (rest != 0) & ((rest < 0) != (y < 0))
    quotient = (x - rest) / y - where(wrong_side, constant(1, x.dtype), 0)
    floor = apply("floor", quotient)
    whole = where(quotient - floor > 0.5, floor + 1, floor)  # the quotient may have been rounded below an integer
    return where(y == 0, x / y, where(quotient == 0, copysign(0, x / y), whole))


def hypot(x: Scalar, y: Scalar) -> Scalar:
    """sqrt(x^2 + y^2), without overflow on the way."""
    x, y = absolute(x), absolute(y)
    long, short = where(x < y, y, x), where(x < y, x, y)
    form, one = format_of(x), constant(1, x.dtype)
    half_range = form.bias // 2
    grow, shrink = 2.0 ** (half_range + form.digits), 2.0 ** -(half_range + form.digits)
    small, large = long < 2.0 ** (form.digits - half_range), long > 2.0 ** (half_range - 2)
    up, down = where(small, grow, where(large, shrink, one)), where(small, shrink, where(large, grow, one))
    long, short = long * up, short * up
    result = sqrt(fma(long, long, short * short)) * down
    return where((x == INFINITY) | (y == INFINITY), INFINITY, result)


def cbrt(x: Scalar) -> Scalar:
    """Cube root: a cubic in the mantissa, then Newton's method, the last step with its residual in full."""
    form = format_of(x)
    size = absolute(x)
    tiny = size < form.smallest_normal
    bits = bits_of(where(tiny, size * 2.0 ** (form.digits + 1), size))
    exponent = (bits >> form.digits) - form.bias - where(tiny, constant(form.digits + 1, bits.dtype), 0)
    mantissa = from_bits((bits & (2**form.digits - 1)) | (form.bias << form.digits))
    third = rint((float_of(exponent) - 1) * (1 / 3))
    left = float_of(exponent) - 3 * third  # 0, 1 or 2
    mantissa = mantissa * where(left == 0, constant(1, x.dtype), where(left == 1, constant(2, x.dtype), 4))
    root = polynomial(mantissa, CUBE_ROOT)
    for _ in range(1 if form.digits < 24 else 2):
        root = root - (root - mantissa / (root * root)) * (1 / 3)
    square = root * root
    lost = fma(root, root, -square)
    residual = fma(square, root, -mantissa) + lost * root
    root = root - residual / (3 * square)
    result = scale(root, bits_of(third + form.integer_offset) - form.offset_bits)
    return copysign(where((size == 0) | (size == INFINITY) | is_nan(x), size, result), x)
