"""erf, erfc and ndtr: an odd polynomial below 1/2, and exp(-x^2) times a scaled complement beyond.

In single precision erf, which needs no accuracy of its complement, is 1 - exp(polynomial) beyond: half the work.

Method: (1 + 2x) exp(x^2) erfc(x) as a polynomial in (x - 2) / (x + 2), after M. M. Shepherd and J. G. Laframboise,
"Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < inf" (Math. Comp. 36, 1981); x^2 is a double word.
Coefficients: tests/compile/minimax.py, "error function", "scaled complement" and "log complement".
"""

from __future__ import annotations

import math

from ..scalar_ir import FLOAT32, FLOAT64, Scalar, constant
from .exponential import exp_moderate, exp_of_word
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
# (1 + 2x) exp(x^2) erfc(x) in (x - 2) / (x + 2), 1/2 <= x; relative errors 2^-27 (to x = 10.1) and 2^-53 (to 27.3).
SCALED_COMPLEMENT = {
    FLOAT32: (
        *(1.2769783735275269, -0.09276388585567474, -0.1660294085741043, 0.1640535145998001, -0.05423982813954353),
        *(-0.008055279031395912, 0.008863736875355244, 0.001334557426162064, -0.0018712810706347227),
        *(-0.00046072801342234015, 0.0006350695621222258),
    ),
    FLOAT64: (
        *(1.2769783815525286, -0.09276382658574604, -0.16603039761524563, 0.16405128003343453, -0.05422000099556706),
        *(-0.008034015080664546, 0.008722653986418482, 0.0012713388786916976, -0.001456815707798258),
        *(-0.00045433894879126266, 0.0002063831384655211, 0.0001510174683852014, -1.5951194145394248e-06),
        *(-3.627715969593312e-05, -1.323032496377048e-05, 3.1186901267349377e-06, 4.839377518625993e-06),
        *(2.9173257742613276e-06, -7.509475446797092e-07, -2.641043069711154e-06, 6.608675380129002e-07),
        *(1.0202845519888173e-06, -7.040240221109686e-07, 1.4904264697440794e-07),
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
    """exp(x^2) erfc(x) for x >= 1/2."""
    ratio = (size - 2) / (size + 2)
    return polynomial(ratio, SCALED_COMPLEMENT[size.dtype]) / (1 + 2 * size)


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
    """Distribution function of the normal distribution; x^2 / 2 is a double word, so that the tail is accurate."""
    limit = math.sqrt(2) * LIMIT[x.dtype]
    size = absolute(x)
    size = where(size > limit, limit, size)
    square, lost = two_product(size, size)
    argument = math.sqrt(0.5) * size
    tail = 0.5 * exp_of_word(-0.5 * square, -0.5 * lost) * _scaled(argument)
    near = fma(0.5, _near(math.sqrt(0.5) * x), constant(0.5, x.dtype))
    return where(argument < 0.5, near, where(x < 0, tail, 1 - tail))
