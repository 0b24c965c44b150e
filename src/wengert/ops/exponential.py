"""Exponentials, logarithms, powers and roots."""

from __future__ import annotations

import math
from typing import Any

from ..declare import at, elementwise
from ..typing import Array, ArrayLike, Namespace
from .creation import asarray, astype

__all__ = [
    "cbrt",
    "exp",
    "exp2",
    "expm1",
    "float_power",
    "log",
    "log10",
    "log1p",
    "log2",
    "logaddexp",
    "logaddexp2",
    "pow",
    "power",
    "sqrt",
    "xlogy",
]

_LN_2 = math.log(2.0)
_LOG2_E = 1.0 / math.log(2.0)
_LOG10_E = 1.0 / math.log(10.0)


@elementwise(
    reference="numpy.exp", special=[at(0.0, out=1.0, partials=(1.0,)), at(-math.inf, out=0.0, partials=(0.0,))]
)
def exp(xp: Namespace, x: Array) -> Array:
    """Exponential of each element.

    >>> import wengert as wg
    >>> wg.exp(wg.tensor([0.0, float("-inf")])).tolist()
    [1.0, 0.0]
    """
    return xp.exp(x)


@exp.partials
def exp_partials(out: Array) -> tuple[Array, ...]:
    return (out,)


@elementwise(reference="numpy.exp2", special=[at(3.0, out=8.0, partials=(8.0 * _LN_2,))])
def exp2(xp: Namespace, x: Array) -> Array:
    """Two to the power of each element.

    >>> import wengert as wg
    >>> wg.exp2(wg.tensor([0.0, 3.0])).tolist()
    [1.0, 8.0]
    """
    return xp.exp2(x)


@exp2.partials
def exp2_partials(out: Array) -> tuple[Array, ...]:
    return (out * _LN_2,)


@elementwise(reference="numpy.expm1", special=[at(0.0, out=0.0, partials=(1.0,))])
def expm1(xp: Namespace, x: Array) -> Array:
    """Exponential of each element minus one, accurate near zero.

    >>> import wengert as wg
    >>> wg.expm1(wg.tensor([0.0, float("-inf")])).tolist()
    [0.0, -1.0]
    """
    return xp.expm1(x)


@expm1.partials
def expm1_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.exp(x),)  # out + 1 would lose the tail


@elementwise(
    domain=(0.1, 3.0), reference="numpy.log", singular=True, special=[at(0.0, out=-math.inf, partials=(math.inf,))]
)
def log(xp: Namespace, x: Array) -> Array:
    """Natural logarithm of each element; at zero it is minus infinity, and its derivative infinity.

    >>> import wengert as wg
    >>> wg.log(wg.tensor([1.0, float("inf")])).tolist()
    [0.0, inf]
    """
    return xp.log(x)


@log.partials
def log_partials(x: Array) -> tuple[Array, ...]:
    return (1 / x,)


@elementwise(
    domain=(0.1, 3.0), reference="numpy.log2", singular=True, special=[at(0.0, out=-math.inf, partials=(math.inf,))]
)
def log2(xp: Namespace, x: Array) -> Array:
    """Logarithm to base two of each element; at zero it is minus infinity, and its derivative infinity.

    >>> import wengert as wg
    >>> wg.log2(wg.tensor([1.0, 8.0])).tolist()
    [0.0, 3.0]
    """
    return xp.log2(x)


@log2.partials
def log2_partials(x: Array) -> tuple[Array, ...]:
    return (_LOG2_E / x,)


@elementwise(
    domain=(0.1, 3.0), reference="numpy.log10", singular=True, special=[at(0.0, out=-math.inf, partials=(math.inf,))]
)
def log10(xp: Namespace, x: Array) -> Array:
    """Logarithm to base ten of each element; at zero it is minus infinity, and its derivative infinity.

    >>> import wengert as wg
    >>> wg.log10(wg.tensor([1.0, float("inf")])).tolist()
    [0.0, inf]
    """
    return xp.log10(x)


@log10.partials
def log10_partials(x: Array) -> tuple[Array, ...]:
    return (_LOG10_E / x,)


@elementwise(
    domain=(-0.9, 2.0),
    reference="numpy.log1p",
    singular=True,
    special=[at(0.0, out=0.0, partials=(1.0,)), at(-1.0, out=-math.inf, partials=(math.inf,))],
)
def log1p(xp: Namespace, x: Array) -> Array:
    """Natural logarithm of one plus each element, accurate near zero; the derivative at minus one is infinity.

    >>> import wengert as wg
    >>> wg.log1p(wg.tensor([0.0, float("inf")])).tolist()
    [0.0, inf]
    """
    return xp.log1p(x)


@log1p.partials
def log1p_partials(x: Array) -> tuple[Array, ...]:
    return (1 / (1 + x),)


@elementwise(
    reference="numpy.logaddexp",
    special=[
        at(0.0, 0.0, out=_LN_2, partials=(0.5, 0.5)),
        at(-math.inf, 0.0, out=0.0, partials=(0.0, 1.0)),
        at(-math.inf, -math.inf, out=-math.inf, partials=(0.5, 0.5)),
        at(math.inf, math.inf, out=math.inf, partials=(0.5, 0.5)),
        at(math.inf, 0.0, out=math.inf, partials=(1.0, 0.0)),
    ],
)
def logaddexp(xp: Namespace, x: Array, y: Array) -> Array:
    """log(exp(x) + exp(y)) without overflow; where both are the same infinity, each derivative is a half.

    >>> import wengert as wg
    >>> wg.logaddexp(wg.tensor([1000.0, 0.0]), wg.tensor([0.0, -1000.0])).tolist()
    [1000.0, 0.0]
    """
    return xp.logaddexp(x, y)


@logaddexp.partial("x")
def logaddexp_partial_x(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.expit(_difference(xp, x, y))


@logaddexp.partial("y")
def logaddexp_partial_y(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.expit(_difference(xp, y, x))


def _difference(xp: Namespace, x: Any, y: Any) -> Any:
    """Return x - y, and zero where both are the same infinity."""
    return xp.where(xp.logical_and(xp.equal(x, y), xp.isinf(x)), 0, x - y)


@elementwise(
    reference="numpy.logaddexp2",
    special=[
        at(0.0, 0.0, out=1.0, partials=(0.5, 0.5)),
        at(-math.inf, -math.inf, out=-math.inf, partials=(0.5, 0.5)),
    ],
)
def logaddexp2(xp: Namespace, x: Array, y: Array) -> Array:
    """log2(2**x + 2**y) without overflow; where both are the same infinity, each derivative is a half.

    >>> import wengert as wg
    >>> wg.logaddexp2(wg.tensor(5.0), wg.tensor(5.0)).item()
    6.0
    """
    return xp.logaddexp2(x, y)


@logaddexp2.partial("x")
def logaddexp2_partial_x(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.expit(_difference(xp, x, y) * _LN_2)


@logaddexp2.partial("y")
def logaddexp2_partial_y(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.expit(_difference(xp, y, x) * _LN_2)


def _raise(x: Any, y: Any) -> Any:
    """Return x ** y; the operator has short forms of its own for exponents up to two, but none for these."""
    if (type(y) is int or type(y) is float) and (y == 3 or y == 4) and x.dtype.kind == "f":
        squared = x * x
        return squared * x if y == 3 else squared * squared
    return x**y


@elementwise(
    domain=((0.2, 2.0), (-2.0, 2.0)),
    reference="numpy.power",
    singular=True,
    special=[
        at(0.0, 0.0, out=1.0, partials=(0.0, 0.0)),
        at(0.0, 0.5, out=0.0, partials=(math.inf, 0.0)),
        at(0.0, 1.0, out=0.0, partials=(1.0, 0.0)),
        at(0.0, 2.0, out=0.0, partials=(0.0, 0.0)),
        at(0.0, -1.0, out=math.inf, partials=(-math.inf, -math.inf)),
        at(-2.0, 0.0, out=1.0, partials=(0.0, math.nan)),
        at(-2.0, 3.0, out=-8.0, partials=(12.0, math.nan)),
        at(2.0, 0.0, out=1.0, partials=(0.0, _LN_2)),
    ],
)
def power(xp: Namespace, x: Array, y: Array) -> Array:
    """x to the power y, element by element.

    The derivative by x is zero where y is zero, even at x = 0, and infinite at x = 0 for y below one. The derivative by
    y is zero at x = 0 for y >= 0, and NaN where x is negative: there the power is real for integers alone.

    >>> import wengert as wg
    >>> wg.power(wg.tensor([2.0, -3.0]), 3).tolist()
    [8.0, -27.0]
    """
    return _raise(x, y)


def _in_full_precision(xp: Namespace, x: Any) -> Any:
    """Return integers as float64: NumPy takes logarithms of small ones in float16, and unsigned ones have no -1."""
    dtype = getattr(x, "dtype", None)
    return xp.astype(x, "float64") if getattr(dtype, "kind", "f") in "biu" else x


@power.partial("x")
def power_partial_x(xp: Namespace, x: Array, y: Array) -> Array:
    if type(y) is int or type(y) is float:
        return 2 * x if y == 2 else y * _raise(x, y - 1) if y else 0
    y = _in_full_precision(xp, y)
    irregular = xp.logical_and(xp.equal(y, 0), xp.logical_not(xp.greater(xp.absolute(x), 0)))
    return y * xp.where(irregular, 1, x) ** (y - 1)


@power.partial("y")
def power_partial_y(xp: Namespace, x: Array, out: Array) -> Array:
    if (type(x) is int or type(x) is float) and x > 0:
        return out * math.log(x)
    vanishes = xp.logical_and(xp.equal(x, 0), xp.isfinite(out))  # x = 0 and y >= 0
    return out * xp.log(xp.where(vanishes, 1, _in_full_precision(xp, x)))


def float_power(x: ArrayLike, y: ArrayLike) -> Any:
    """x to the power y, computed in float64 whatever the dtypes; see `power` for its derivatives.

    >>> import wengert as wg
    >>> wg.float_power(wg.tensor([2, 4]), -1).tolist()
    [0.5, 0.25]
    """
    return power(astype(asarray(x), "float64", copy=False), astype(asarray(y), "float64", copy=False))


@elementwise(
    domain=(0.1, 3.0),
    reference="numpy.sqrt",
    singular=True,
    special=[at(0.0, out=0.0, partials=(math.inf,)), at(math.inf, out=math.inf, partials=(0.0,))],
)
def sqrt(xp: Namespace, x: Array) -> Array:
    """Square root of each element; the derivative at zero is infinity.

    >>> import wengert as wg
    >>> wg.sqrt(wg.tensor([4.0, 0.0])).tolist()
    [2.0, 0.0]
    """
    return xp.sqrt(x)


@sqrt.partials
def sqrt_partials(out: Array) -> tuple[Array, ...]:
    return (0.5 / out,)


@elementwise(
    domain=(0.2, 3.0),
    reference="numpy.cbrt",
    singular=True,
    special=[at(0.0, out=0.0, partials=(math.inf,)), at(-8.0, out=-2.0, partials=(1 / 12,))],
)
def cbrt(xp: Namespace, x: Array) -> Array:
    """Cube root of each element, real for negative ones too; the derivative at zero is infinity.

    >>> import wengert as wg
    >>> wg.cbrt(wg.tensor([1.0, 0.0])).tolist()
    [1.0, 0.0]
    """
    return xp.cbrt(x)


@cbrt.partials
def cbrt_partials(out: Array) -> tuple[Array, ...]:
    return ((1 / 3) / (out * out),)


@elementwise(
    domain=((-2.0, 2.0), (0.2, 3.0)),
    reference="scipy.special.xlogy",
    singular=True,
    special=[
        at(0.0, 0.0, out=0.0, partials=(-math.inf, 0.0)),
        at(0.0, 2.0, out=0.0, partials=(_LN_2, 0.0)),
        at(2.0, 0.0, out=-math.inf, partials=(-math.inf, math.inf)),
    ],
)
def xlogy(xp: Namespace, x: Array, y: Array) -> Array:
    """x log(y), and zero where x is zero; there the derivative by y is zero as well, even at y = 0.

    >>> import wengert as wg
    >>> wg.xlogy(wg.tensor([0.0, 2.0]), wg.tensor([0.0, 1.0])).tolist()
    [0.0, 0.0]
    """
    return xp.xlogy(x, y)


@xlogy.partial("x")
def xlogy_partial_x(xp: Namespace, y: Array) -> Array:
    if (type(y) is int or type(y) is float) and y > 0:
        return math.log(y)
    return xp.log(_in_full_precision(xp, y))


@xlogy.partial("y")
def xlogy_partial_y(xp: Namespace, x: Array, y: Array) -> Array:
    return x / xp.where(xp.logical_and(xp.equal(x, 0), xp.equal(y, 0)), 1, y)


pow = power
