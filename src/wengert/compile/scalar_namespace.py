"""The `xp` that turns an `impl` or a rule into scalar IR: functions under NumPy's names that build expressions.

Names and signatures are those of `backend.numpy`. What is missing here, no kernel can contain: asking for it raises a
`KernelError` that names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .scalar_ir import BOOL, FLOAT64, KernelError, Scalar, apply, constant, convert
from .scalar_ir import power as power

Function = Callable[..., Scalar]

pi, e, inf, nan = math.pi, math.e, math.inf, math.nan
float32, float64, int32, int64 = np.float32, np.float64, np.int32, np.int64
finfo, iinfo, dtype = np.finfo, np.iinfo, np.dtype


def _direct(op: str) -> Function:
    def function(*args: Any) -> Scalar:
        return apply(op, *args)

    function.__name__ = function.__qualname__ = op
    return function


_DIRECT = """
    add subtract multiply divide negative absolute copysign fmod sqrt rint
    equal not_equal less less_equal maximum minimum remainder floor_divide arctan2 hypot
    exp exp2 expm1 log log2 log10 log1p cbrt sin cos tan arcsin arccos arctan
    sinh cosh tanh arcsinh arccosh arctanh erf erfc ndtr bitwise_and bitwise_or bitwise_xor
"""
_ALIASES = {
    **{"true_divide": "divide", "abs": "absolute", "mod": "remainder"},
    **{"acos": "arccos", "asin": "arcsin", "atan": "arctan", "atan2": "arctan2"},
    **{"acosh": "arccosh", "asinh": "arcsinh", "atanh": "arctanh"},
}
globals().update({name: _direct(name) for name in _DIRECT.split()})
globals().update({name: _direct(op) for name, op in _ALIASES.items()})


class NoSuchFunction(KernelError, AttributeError):
    """A function is asked for that scalar IR does not have; other libraries look through all modules like that."""


def __getattr__(name: str) -> Any:
    raise NoSuchFunction(f"scalar IR has no function {name!r}, so what calls it cannot become a kernel")


def _floating(x: Any) -> bool:
    return not isinstance(x, Scalar) or x.dtype.kind == "f"


def _truth(x: Any) -> Any:
    return convert(x, BOOL) if isinstance(x, Scalar) else bool(x)


def positive(x: Any) -> Any:
    """The value itself."""
    return x


def square(x: Any) -> Any:
    """x x."""
    return apply("multiply", x, x)


def reciprocal(x: Any) -> Scalar:
    """1 / x."""
    return apply("divide", 1, x)


def pow(x: Any, y: Any) -> Scalar:
    """x to the power y."""
    return power(x, y)


float_power = pow


def fma(x: Any, y: Any, z: Any) -> Scalar:
    """x y + z, rounded once."""
    return apply("fma", x, y, z)


def floor(x: Any) -> Any:
    """Largest integer not above x."""
    return apply("floor", x) if _floating(x) else x


def ceil(x: Any) -> Any:
    """Smallest integer not below x."""
    return apply("ceil", x) if _floating(x) else x


def trunc(x: Any) -> Any:
    """The integer part."""
    return apply("trunc", x) if _floating(x) else x


fix = trunc


def round(x: Any, decimals: int = 0) -> Any:
    """Nearest integer, ties to even."""
    if decimals:
        raise KernelError("round: a kernel rounds to integers only; scale before and after to round to decimals")
    return apply("rint", x) if _floating(x) else x


around = round


def greater(x: Any, y: Any) -> Scalar:
    """Whether x > y."""
    return apply("less", y, x)


def greater_equal(x: Any, y: Any) -> Scalar:
    """Whether x >= y."""
    return apply("less_equal", y, x)


def isnan(x: Any) -> Scalar:
    """Whether x is not a number."""
    return apply("not_equal", x, x)


def isinf(x: Any) -> Scalar:
    """Whether x is infinite."""
    return apply("equal", apply("absolute", x), inf)


def isfinite(x: Any) -> Scalar:
    """Whether x is neither infinite nor NaN."""
    return apply("less", apply("absolute", x), inf)


def signbit(x: Any) -> Scalar:
    """Whether the sign of x is set; of -0.0 and NaN too."""
    return apply("less", apply("copysign", 1, x), 0)


def logical_and(x: Any, y: Any) -> Scalar:
    """Whether both are true (not zero)."""
    return apply("bitwise_and", _truth(x), _truth(y))


def logical_or(x: Any, y: Any) -> Scalar:
    """Whether either is true (not zero)."""
    return apply("bitwise_or", _truth(x), _truth(y))


def logical_xor(x: Any, y: Any) -> Scalar:
    """Whether exactly one is true (not zero)."""
    return apply("bitwise_xor", _truth(x), _truth(y))


def logical_not(x: Any) -> Scalar:
    """Whether x is false (zero)."""
    return apply("bitwise_xor", _truth(x), True)


def where(condition: Any, x: Any, y: Any) -> Scalar:
    """x where the condition holds, else y; what is not chosen has no effect."""
    return apply("where", _truth(condition), x, y)


def fabs(x: Any) -> Scalar:
    """Magnitude, floating even of integers."""
    return apply("absolute", x if _floating(x) else convert(x, FLOAT64))


def invert(x: Any) -> Scalar:
    """The bits, each flipped."""
    return ~x


def left_shift(x: Any, y: Any) -> Scalar:
    """Bits moved up by y places; zero where none are left."""
    return where(_in_width(x, y), apply("shift_left", x, y), 0)


def right_shift(x: Any, y: Any) -> Scalar:
    """Bits moved down by y places; the sign stays."""
    return apply("shift_right", x, where(_in_width(x, y), y, 8 * x.dtype.itemsize - 1))


def _in_width(x: Scalar, y: Any) -> Scalar:
    return logical_and(apply("less_equal", 0, y), apply("less", y, 8 * x.dtype.itemsize))


def clip(x: Any, low: Any = None, high: Any = None) -> Any:
    """Bring x into [low, high]; a bound may be None."""
    if low is not None:
        x = apply("maximum", x, low)
    return x if high is None else apply("minimum", x, high)


def fmax(x: Any, y: Any) -> Scalar:
    """The larger; NaN only if both are."""
    return where(isnan(x), y, where(isnan(y), x, apply("maximum", x, y)))


def fmin(x: Any, y: Any) -> Scalar:
    """The smaller; NaN only if both are."""
    return where(isnan(x), y, where(isnan(y), x, apply("minimum", x, y)))


def sign(x: Any) -> Scalar:
    """-1, 0 or 1; NaN of NaN."""
    return where(apply("less", 0, x), 1, where(apply("less", x, 0), -1, where(apply("equal", x, 0), 0, x)))


def heaviside(x: Any, at_zero: Any) -> Scalar:
    """0 below zero, 1 above, `at_zero` between."""
    return where(apply("less", x, 0), 0, where(apply("equal", x, 0), at_zero, where(isnan(x), x, 1)))


def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """Replace NaN by `nan` and the infinities by the largest finite numbers (or `posinf`, `neginf`)."""
    if not _floating(x):
        return x
    largest = float(np.finfo(x.dtype).max)
    finite = where(apply("equal", x, inf), largest if posinf is None else posinf, x)
    finite = where(apply("equal", x, -inf), -largest if neginf is None else neginf, finite)
    return where(isnan(x), nan, finite)


def deg2rad(x: Any) -> Scalar:
    """Degrees to radians."""
    return apply("multiply", x, pi / 180)


def rad2deg(x: Any) -> Scalar:
    """Radians to degrees."""
    return apply("multiply", x, 180 / pi)


radians, degrees = deg2rad, rad2deg


def logaddexp(x: Any, y: Any) -> Scalar:
    """log(e^x + e^y), without overflow."""
    return _log_of_sum(x, y, "exp", "log1p", 1.0)


def logaddexp2(x: Any, y: Any) -> Scalar:
    """log2(2^x + 2^y), without overflow."""
    return _log_of_sum(x, y, "exp2", "log1p", 1 / math.log(2))


def _log_of_sum(x: Any, y: Any, exponential: str, logarithm: str, unit: float) -> Scalar:
    larger, distance = apply("maximum", x, y), apply("absolute", apply("subtract", x, y))
    total = larger + apply(logarithm, apply(exponential, -distance)) * unit
    return where(apply("equal", x, y), larger + math.log(2) * unit, total)  # equal infinities too


def expit(x: Any) -> Scalar:
    """1 / (1 + e^-x), without overflow."""
    small = apply("exp", -apply("absolute", x))
    return where(apply("less", x, 0), small, 1) / (1 + small)


def sigmoid_slope(x: Any) -> Scalar:
    """expit(x) expit(-x)."""
    small = apply("exp", -apply("absolute", x))
    total = 1 + small
    return small / (total * total)


def sech_squared(x: Any) -> Scalar:
    """1 / cosh(x)², without overflow."""
    small = apply("exp", -2 * apply("absolute", x))
    total = 1 + small
    return 4 * small / (total * total)


def log_expit(x: Any) -> Scalar:
    """log(expit(x)), without cancellation."""
    return apply("minimum", x, 0) - apply("log1p", apply("exp", -apply("absolute", x)))


def logit(x: Any) -> Scalar:
    """log(x / (1 - x)), without cancellation near 1/2 or underflow near 0 and 1."""
    distance = apply("subtract", 2 * x, 1)
    nearest = apply("minimum", x, apply("subtract", 1, x))
    return apply("copysign", apply("log1p", apply("absolute", distance) / nearest), distance)


def xlogy(x: Any, y: Any) -> Scalar:
    """x log(y), zero where x is (unless y is NaN)."""
    dtype = apply("multiply", x, y).dtype  # the logarithm is as precise as the result
    y = convert(y, FLOAT64 if dtype.kind != "f" else dtype) if isinstance(y, Scalar) else y
    return where(logical_and(apply("equal", x, 0), logical_not(isnan(y))), 0, x * apply("log", y))


def sinc(x: Any) -> Scalar:
    """sin(pi x) / (pi x), one at zero."""
    scaled = pi * where(apply("equal", x, 0), 1.0e-20, x)
    return apply("sin", scaled) / scaled


def guarded_product(x: Any, y: Any) -> Scalar:
    """x y, where an exactly zero factor on either side wins over infinity and NaN."""
    return where(logical_or(apply("equal", x, 0), apply("equal", y, 0)), 0, apply("multiply", x, y))


def zeros_like(x: Scalar, dtype: Any = None) -> Scalar:
    """Zero of the type of x."""
    return full_like(x, 0, dtype)


def ones_like(x: Scalar, dtype: Any = None) -> Scalar:
    """One of the type of x."""
    return full_like(x, 1, dtype)


def full_like(x: Scalar, value: Any, dtype: Any = None) -> Scalar:
    """A constant of the type of x."""
    return constant(value, x.dtype if dtype is None else np.dtype(dtype))


def astype(x: Scalar, dtype: Any) -> Scalar:
    """Convert to another type."""
    return convert(x, np.dtype(dtype))


def asarray(x: Any, dtype: Any = None) -> Any:
    """The value itself, converted if a type is given."""
    return x if dtype is None else convert(x, np.dtype(dtype))


array = asarray


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Any:
    """The value itself: a kernel's Scalars have no shape."""
    return x


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """The value itself: a kernel's Scalars have no shape."""
    return x


def real(x: Any) -> Any:
    """The value itself: a kernel's Scalars are real."""
    return x


conj = conjugate = real


def imag(x: Scalar) -> Scalar:
    """Zero: a kernel's Scalars are real."""
    return zeros_like(x)
