"""arcsin, arccos, arctan, arctan2: one reduction to small arguments, then an odd polynomial.

arctan takes the ratio of two lengths, turns it below tan(pi/8) with one division as in Cephes (S. L. Moshier), and adds
the angle turned by as a double word; arcsin and arccos halve the angle beyond 1/2, as in FreeBSD's msun (e_asin.c).
Coefficients: tests/compile/minimax.py, "arctangent" and "arcsine".
"""

from __future__ import annotations

from ..scalar_ir import BOOL, FLOAT32, FLOAT64, Scalar, constant
from .machine import (
    INFINITY,
    absolute,
    bits_of,
    copysign,
    fma,
    polynomial,
    sqrt,
    where,
)

# (arctan(t) / t - 1) / t^2 in t^2 <= tan(pi/8)^2; errors 2^-30 and 2^-63.
ARCTANGENT = {
    FLOAT32: (
        *(-0.33333316445350647, 0.1999853104352951, -0.1424446851015091, 0.1059979647397995),
        -0.06091666594147682,
    ),
    FLOAT64: (
        *(-0.33333333333333326, 0.19999999999997095, -0.14285714285320686, 0.11111111084387161),
        *(-0.09090908023933471, 0.07692280401913934, -0.06666197218977021, 0.0587678064803974),
        *(-0.0521713489899347, 0.04499422849879328, -0.03339987625875944, 0.015138737557910786),
    ),
}
# (arcsin(x) / x - 1) / x^2 in x^2 <= 1/4; errors 2^-27 and 2^-59.
ARCSINE = {
    FLOAT32: (0.16666753590106964, 0.07495252043008804, 0.0454760417342186, 0.024152088910341263, 0.04221181571483612),
    FLOAT64: (
        *(0.16666666666666763, 0.07499999999970129, 0.04464285717525444, 0.030381942676900277, 0.02237221585759739),
        *(0.017351596411758312, 0.01398100711485513, 0.011397390272367063, 0.01078875621360377, 0.0036743908137046952),
        *(0.021785113111541465, -0.021108659715656546, 0.03269698368948675),
    ),
}
TAN_PI_EIGHTHS = 0.4142135623730951
QUARTER_PI = {
    FLOAT32: (0.7853981852531433, -2.1855694143368964e-08),
    FLOAT64: (0.7853981633974483, 3.061616997868383e-17),
}
THREE_QUARTERS_PI = {
    FLOAT32: (2.356194496154785, -5.962440319251527e-09),
    FLOAT64: (2.356194490192345, 9.184850993605148e-17),
}


def _multiple_of_pi(quarters: int, like: Scalar) -> tuple[float, float]:
    if quarters == 3:
        return THREE_QUARTERS_PI[like.dtype]
    high, low = QUARTER_PI[like.dtype]
    return quarters * high, quarters * low


def _angle(height: Scalar, width: Scalar, left: Scalar | None) -> Scalar:
    """Return the angle whose tangent is height / width, both >= 0; measured from the other side where `left` holds."""
    steep = height > width
    short, long = where(steep, width, height), where(steep, height, width)
    turned = short > TAN_PI_EIGHTHS * long
    divisor = where(turned, short + long, long)
    tangent = where(turned, short - long, short) / where(divisor == 0, 1, divisor)
    square = tangent * tangent
    tail = tangent * (square * polynomial(square, ARCTANGENT[height.dtype]))

    def base(part: int) -> Scalar:
        flat, diagonal, upright, other, opposite = [_multiple_of_pi(n, height)[part] for n in range(5)]
        if left is None:
            return where(turned, diagonal, where(steep, constant(upright, height.dtype), flat))
        across = where(left, constant(opposite, height.dtype), flat)
        return where(turned, where(left, constant(other, height.dtype), diagonal), where(steep, upright, across))

    backwards = steep if left is None else steep ^ left
    tangent, tail = where(backwards, -tangent, tangent), where(backwards, -tail, tail)
    return base(0) + (tangent + (tail + base(1)))


def arctan(x: Scalar) -> Scalar:
    """Inverse tangent."""
    size = absolute(x)
    return copysign(_angle(size, constant(1, x.dtype), None), x)


def arctan2(y: Scalar, x: Scalar) -> Scalar:
    """Angle of the point (x, y), in all four quadrants; signed zeros and infinities as in IEEE 754."""
    height, width = absolute(y), absolute(x)
    diagonal = (height == INFINITY) & (width == INFINITY)
    shrink = where((height > 1) | (width > 1), constant(0.25, x.dtype), 1)  # so that their sum does not overflow
    height = where(diagonal, 1, height * shrink)
    width = where(diagonal, 1, width * shrink)
    # Of a truth value LLVM would find the sign, too; some versions of it end the process over that.
    is_truth = x.op == "convert" and x.operands[0].dtype == BOOL
    return copysign(_angle(height, width, None if is_truth else bits_of(x) < 0), y)


def _halved(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Return t, tail and whether |x| > 1/2: arcsin(t) = t + tail, where t is |x| or the sine of half the angle left."""
    size = absolute(x)
    beyond = size > 0.5
    square = where(beyond, 0.5 - 0.5 * size, size * size)
    t = where(beyond, sqrt(square), size)
    return t, t * (square * polynomial(square, ARCSINE[x.dtype])), beyond


def arcsin(x: Scalar) -> Scalar:
    """Inverse sine."""
    t, tail, beyond = _halved(x)
    high, low = _multiple_of_pi(2, x)
    return copysign(where(beyond, high - (2 * t - (low - 2 * tail)), t + tail), x)


def arccos(x: Scalar) -> Scalar:
    """Inverse cosine."""
    t, tail, beyond = _halved(x)
    half_high, half_low = _multiple_of_pi(2, x)
    high, low = _multiple_of_pi(4, x)
    signed, signed_tail = copysign(t, x), copysign(tail, x)
    near = half_high - (signed - (half_low - signed_tail))
    far = where(x < 0, high - (2 * t - fma(-2, tail, constant(low, x.dtype))), 2 * (t + tail))
    return where(beyond, far, near)
