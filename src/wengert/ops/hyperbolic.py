"""Hyperbolic functions and their inverses."""

from __future__ import annotations

import math

from ..declare import at, elementwise
from ..typing import Array, Namespace

__all__ = ["acosh", "arccosh", "arcsinh", "arctanh", "asinh", "atanh", "cosh", "sinh", "tanh"]


@elementwise(reference="numpy.sinh", singular=True, special=[at(math.inf, out=math.inf, partials=(math.inf,))])
def sinh(xp: Namespace, x: Array) -> Array:
    """Hyperbolic sine of each element.

    >>> import wengert as wg
    >>> wg.sinh(wg.tensor(0.0)).item()
    0.0
    """
    return xp.sinh(x)


@sinh.partials
def sinh_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.cosh(x),)


@elementwise(reference="numpy.cosh", singular=True, special=[at(-math.inf, out=math.inf, partials=(-math.inf,))])
def cosh(xp: Namespace, x: Array) -> Array:
    """Hyperbolic cosine of each element.

    >>> import wengert as wg
    >>> wg.cosh(wg.tensor(0.0)).item()
    1.0
    """
    return xp.cosh(x)


@cosh.partials
def cosh_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.sinh(x),)


@elementwise(
    reference="numpy.tanh",
    special=[
        at(0.0, out=0.0, partials=(1.0,)),
        at(20.0, out=1.0, partials=(1.6993417021166356e-17,)),
        at(-math.inf, out=-1.0, partials=(0.0,)),
        at(1000.0, out=1.0, partials=(0.0,)),
    ],
)
def tanh(xp: Namespace, x: Array) -> Array:
    """Hyperbolic tangent of each element.

    >>> import wengert as wg
    >>> wg.tanh(wg.tensor([0.0, float("inf")])).tolist()
    [0.0, 1.0]
    """
    return xp.tanh(x)


@tanh.partials
def tanh_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.sech_squared(x),)  # 1 - out² would be nothing but rounding error for large x


@elementwise(
    special=[
        at(0.0, out=1.0, partials=(0.0,)),
        at(20.0, out=1.6993417021166355e-17, partials=(-3.398683404233271e-17,)),
        at(-math.inf, out=0.0, partials=(0.0,)),
        at(1000.0, out=0.0, partials=(0.0,)),
    ],
)
def sech_squared(xp: Namespace, x: Array) -> Array:
    """Squared hyperbolic secant of each element, 1 / cosh(x)², accurate for large x: the derivative of tanh.

    >>> import wengert as wg
    >>> wg.ops.sech_squared(wg.tensor([0.0, float("inf")])).tolist()
    [1.0, 0.0]
    """
    return xp.sech_squared(x)


@sech_squared.partials
def sech_squared_partials(xp: Namespace, x: Array, out: Array) -> tuple[Array, ...]:
    return (-2 * xp.tanh(x) * out,)


@elementwise(
    reference="numpy.arcsinh", special=[at(0.0, out=0.0, partials=(1.0,)), at(math.inf, out=math.inf, partials=(0.0,))]
)
def arcsinh(xp: Namespace, x: Array) -> Array:
    """Inverse hyperbolic sine of each element.

    >>> import wengert as wg
    >>> wg.arcsinh(wg.tensor(0.0)).item()
    0.0
    """
    return xp.arcsinh(x)


@arcsinh.partials
def arcsinh_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (1 / xp.hypot(1, x),)


@elementwise(
    domain=(1.1, 3.0),
    reference="numpy.arccosh",
    singular=True,
    special=[at(1.0, out=0.0, partials=(math.inf,)), at(math.inf, out=math.inf, partials=(0.0,))],
)
def arccosh(xp: Namespace, x: Array) -> Array:
    """Inverse hyperbolic cosine of each element, NaN below one; the derivative at one is infinity.

    >>> import wengert as wg
    >>> wg.arccosh(wg.tensor(1.0)).item()
    0.0
    """
    return xp.arccosh(x)


@arccosh.partials
def arccosh_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (1 / (xp.sqrt(x - 1) * xp.sqrt(x + 1)),)


@elementwise(
    domain=(-0.9, 0.9),
    reference="numpy.arctanh",
    singular=True,
    special=[at(1.0, out=math.inf, partials=(math.inf,)), at(-1.0, out=-math.inf, partials=(math.inf,))],
)
def arctanh(xp: Namespace, x: Array) -> Array:
    """Inverse hyperbolic tangent of each element, NaN beyond one; the derivative at one and minus one is infinity.

    >>> import wengert as wg
    >>> wg.arctanh(wg.tensor(0.0)).item()
    0.0
    """
    return xp.arctanh(x)


@arctanh.partials
def arctanh_partials(x: Array) -> tuple[Array, ...]:
    return (1 / ((1 - x) * (1 + x)),)


acosh = arccosh
asinh = arcsinh
atanh = arctanh
