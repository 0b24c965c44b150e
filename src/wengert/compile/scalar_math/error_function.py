"""erf, erfc and ndtr: an odd polynomial below 1/2, and exp(-x^2) times a scaled complement beyond.

In single precision erf, which needs no accuracy of its complement, is 1 - exp(polynomial) beyond: half the work.

Method: (x + 2) exp(x^2) erfc(x) as a polynomial in (x - 2) / (x + 2): one division makes both. That argument is of
M. M. Shepherd and J. G. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < inf" (Math.
Comp. 36, 1981). x^2 is a double word.
Of ndtr the same with exp(x^2 / 2), which it has in common with its derivative.
Coefficients: tests/compile/minimax.py, "error function", "scaled complement", "log complement", "normal middle" and
"normal tail".
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
# (ndtr(x) - 1/2) / x in -x^2 / 2, |x| <= 0.7; errors 2^-26.4 and 2^-55.2.
NORMAL_MIDDLE = {
    FLOAT32: (
        *(0.3989422917366028, 0.1329825222492218, 0.039925847202539444, 0.009673160500824451),
        0.002079595811665058,
    ),
    FLOAT64: (
        *(0.3989422804014327, 0.13298076013383528, 0.03989422804198415, 0.009498625776410178),
        *(0.001846955745412865, 0.00030223469593436896, 4.2645495664738396e-05, 5.321574941485471e-06),
        5.916680084409453e-07,
    ),
}
# (x + 4) exp(x^2 / 2) ndtr(-x) in (x - 4) / (x + 4), 0.7 <= x; relative errors 2^-25.3 (to 14.3) and 2^-54.7 (to 38.6).
NORMAL_TAIL = {
    FLOAT32: (
        *(0.7552851438522339, -0.6078965067863464, 0.3871360421180725, -0.1865258663892746),
        *(0.0604165755212307, -0.007501939311623573, -0.003572047222405672, 0.0014760505873709917),
        0.000267329829512164,
    ),
    FLOAT64: (
        *(0.7552851304157515, -0.6078966419718924, 0.38713740074220904, -0.18652185795962128),
        *(0.060396574891135035, -0.007540188968092613, -0.0034796923694101044, 0.0016308184816699865),
        *(0.00013334430811578728, -0.00023109516448687048, -1.9080409473264886e-06, 3.514595993096705e-05),
        *(7.149417578881474e-07, -5.924437120398692e-06, -6.228709445207889e-07, 1.0301101324326545e-06),
        *(2.565478705805396e-07, -1.647908279543016e-07, -6.633420172453047e-08, 1.9176954843336187e-08),
        7.748665971053105e-09,
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
    size = absolute(x)
    half = -0.5 * x
    square = half * x
    density = exp(square)
    limit = math.sqrt(2) * LIMIT[x.dtype]
    correction = where(size > limit, 0, fma(half, x, -square))
    bounded = where(size > limit, limit, size)
    inverse = 1 / (bounded + 4)
    scaled = polynomial((bounded - 4) * inverse, NORMAL_TAIL[x.dtype]) * inverse
    tail = fma(density, correction, density) * scaled
    middle = fma(x, polynomial(square, NORMAL_MIDDLE[x.dtype]), constant(0.5, x.dtype))
    return where(size < 0.7, middle, where(x < 0, tail, 1 - tail))
