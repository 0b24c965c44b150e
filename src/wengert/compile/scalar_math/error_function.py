"""erf, erfc and ndtr: an odd polynomial below 1/2, and exp(-x^2) times a scaled complement beyond.

In single precision erf, which needs no accuracy of its complement, is 1 - exp(polynomial) beyond: half the work.

Method: (x + 2) exp(x^2) erfc(x) as a polynomial in (x - 2) / (x + 2): one division makes both. That argument is of
M. M. Shepherd and J. G. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < inf" (Math.
Comp. 36, 1981). x^2 is a double word.
Coefficients: tests/compile/minimax.py, "error function", "scaled complement" and "log complement".
"""

from __future__ import annotations

import math

from ..scalar_ir import FLOAT32, FLOAT64, Scalar, constant
from .exponential import exp, exp_moderate, exp_of_word
from .machine import absolute, copysign, fma, polynomial, two_product, where

# erf(x) / x - 1 in x^2 <= 1/4; errors 2^-29 and 2^-56.
ERROR_FUNCTION = {
    FLOAT32: (
        *(0.12837916612625122, -0.37612611055374146, 0.11282848566770554, -0.02675795368850231),
        0.004718215670436621,
    ),
    FLOAT64: (
        *(0.1283791670955126, -0.3761263890318456, 0.11283791671041092, -0.026866170680406868, 0.0052239783503190895),
        *(-0.0008548410660831098, 0.000120609976013817, -1.5148926476571322e-05, 2.119049052087888e-06),
        -5.745520851444635e-07,
    ),
}
# (x + 2) exp(x^2) erfc(x) in (x - 2) / (x + 2), 1/2 <= x; relative errors 2^-25.7 (to x = 10.1) and 2^-55.7 (to 27.3).
SCALED_COMPLEMENT = {
    FLOAT32: (
        *(1.0215827226638794, -0.6871607899665833, 0.27947041392326355, -0.03643808141350746, -0.02148520201444626),
        *(0.006436838768422604, 0.0029608674813061953, -0.0006815228844061494, -0.0004144698614254594),
        -0.00014473732153419405,
    ),
    FLOAT64: (
        *(1.021582705242023, -0.6871606844138105, 0.27947209255604916, -0.03644223150688575, -0.02151066188919804),
        *(0.006479185067909005, 0.003090612054133027, -0.0008372960658808679, -0.0006630734753309945),
        *(3.437151145753923e-05, 0.00014447083954351547, 3.414777400399295e-05, -2.16981573803874e-05),
        *(-1.6111376368110802e-05, -1.1171831533147994e-06, 3.5973041675764625e-06, 1.994824997955195e-06),
        *(1.3070197917101866e-07, -6.188274854062693e-07, -5.106737085674209e-07, 1.4246707273604376e-07),
        *(2.142540122877254e-07, -7.747751904020766e-08),
    ),
}
# log(erfc(x)) on 1/2 <= x <= 4, where erf is 1 to single precision; relative error of erf 2^-28.
LOG_COMPLEMENT = (
    *(4.648131289286539e-05, -1.1287896633148193, -0.6350692510604858, -0.10606096684932709),
    *(0.02344856783747673, -0.003437535371631384, 0.0002609112416394055, -4.044526122015668e-06),
)
ONE_FROM = 4.0
LIMIT = {FLOAT32: 10.1, FLOAT64: 27.3}


def _near(x: Scalar) -> Scalar:
    """erf(x) for |x| <= 1/2."""
    return fma(x, polynomial(x * x, ERROR_FUNCTION[x.dtype]), x)


def _scaled(size: Scalar) -> Scalar:
    """exp(x^2) erfc(x) for x >= 1/2; the same division serves the polynomial's argument and its factor."""
    inverse = 1 / (size + 2)
    return polynomial((size - 2) * inverse, SCALED_COMPLEMENT[size.dtype]) * inverse


def _beyond(size: Scalar) -> Scalar:
    """erfc(x) for x >= 1/2; zero from where it vanishes."""
    limit = LIMIT[size.dtype]
    size = where(size > limit, limit, size)
    square, lost = two_product(size, size)
    return exp_of_word(-square, -lost) * _scaled(size)


def _beyond_single(size: Scalar) -> Scalar:
    """erfc(x) for x >= 1/2, to an absolute error below that of float32 near 1."""
    return exp_moderate(polynomial(where(size > ONE_FROM, ONE_FROM, size), LOG_COMPLEMENT))


def erf(x: Scalar) -> Scalar:
    """Error function."""
    size = absolute(x)
    beyond = _beyond_single(size) if x.dtype == FLOAT32 else _beyond(size)
    return where(size < 0.5, _near(x), copysign(1 - beyond, x))


def erfc(x: Scalar) -> Scalar:
    """Complementary error function, without cancellation."""
    size = absolute(x)
    tail = _beyond(size)
    return where(size < 0.5, 1 - _near(x), where(x < 0, 2 - tail, tail))


def ndtr(x: Scalar) -> Scalar:
    """Distribution function of the normal distribution; x^2 / 2 is a double word, so that the tail is accurate.

    The exponential is that of the density, which derivatives need: a kernel with both computes it once.
    """
    limit = math.sqrt(2) * LIMIT[x.dtype]
    size = absolute(x)
    half = -0.5 * x
    square = half * x
    density = exp(square)
    correction = where(size > limit, 0, fma(half, x, -square))
    argument = math.sqrt(0.5) * where(size > limit, limit, size)
    tail = 0.5 * fma(density, correction, density) * _scaled(argument)
    near = fma(0.5, _near(math.sqrt(0.5) * x), constant(0.5, x.dtype))
    return where(argument < 0.5, near, where(x < 0, tail, 1 - tail))
