"""Trigonometric functions and their inverses."""

from __future__ import annotations

import math

from ..declare import at, elementwise
from ..typing import Array, Namespace

__all__ = [
    "acos",
    "arccos",
    "arcsin",
    "arctan",
    "arctan2",
    "asin",
    "atan",
    "atan2",
    "cos",
    "deg2rad",
    "degrees",
    "rad2deg",
    "radians",
    "sin",
    "sinc",
    "tan",
]

_RADIANS = math.pi / 180.0
_DEGREES = 180.0 / math.pi
_SINC_SERIES = tuple([(-1) ** (k + 1) * 2.0 * (k + 1) / math.factorial(2 * k + 3) for k in range(11)])
"""sinc'(x) / (pi² x) in powers of (pi x)²; what is left out is below 1e-19 for |x| <= 1/2."""


@elementwise(reference="numpy.sin")
def sin(xp: Namespace, x: Array) -> Array:
    """Sine of each element, in radians.

    >>> import wengert as wg
    >>> wg.sin(wg.tensor(0.0)).item()
    0.0
    """
    return xp.sin(x)


@sin.partials
def sin_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.cos(x),)


@elementwise(reference="numpy.cos")
def cos(xp: Namespace, x: Array) -> Array:
    """Cosine of each element, in radians.

    >>> import wengert as wg
    >>> wg.cos(wg.tensor(0.0)).item()
    1.0
    """
    return xp.cos(x)


@cos.partials
def cos_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (-xp.sin(x),)


@elementwise(domain=(-1.3, 1.3), reference="numpy.tan")
def tan(xp: Namespace, x: Array) -> Array:
    """Tangent of each element, in radians.

    >>> import wengert as wg
    >>> wg.tan(wg.tensor(0.0)).item()
    0.0
    """
    return xp.tan(x)


@tan.partials
def tan_partials(out: Array) -> tuple[Array, ...]:
    return (1 + out * out,)


@elementwise(
    domain=(-0.9, 0.9),
    reference="numpy.arcsin",
    singular=True,
    special=[
        at(0.0, out=0.0, partials=(1.0,)),
        at(1.0, out=math.pi / 2, partials=(math.inf,)),
        at(-1.0, out=-math.pi / 2, partials=(math.inf,)),
    ],
)
def arcsin(xp: Namespace, x: Array) -> Array:
    """Inverse sine of each element, NaN beyond one; the derivative at one and minus one is infinity.

    >>> import wengert as wg
    >>> wg.arcsin(wg.tensor(0.0)).item()
    0.0
    """
    return xp.arcsin(x)


@arcsin.partials
def arcsin_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (1 / xp.sqrt((1 - x) * (1 + x)),)


@elementwise(
    domain=(-0.9, 0.9),
    reference="numpy.arccos",
    singular=True,
    special=[
        at(0.0, out=math.pi / 2, partials=(-1.0,)),
        at(1.0, out=0.0, partials=(-math.inf,)),
        at(-1.0, out=math.pi, partials=(-math.inf,)),
    ],
)
def arccos(xp: Namespace, x: Array) -> Array:
    """Inverse cosine of each element, NaN beyond one; the derivative at one and minus one is minus infinity.

    >>> import wengert as wg
    >>> wg.arccos(wg.tensor(1.0)).item()
    0.0
    """
    return xp.arccos(x)


@arccos.partials
def arccos_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (-1 / xp.sqrt((1 - x) * (1 + x)),)


@elementwise(
    reference="numpy.arctan",
    special=[at(0.0, out=0.0, partials=(1.0,)), at(math.inf, out=math.pi / 2, partials=(0.0,))],
)
def arctan(xp: Namespace, x: Array) -> Array:
    """Inverse tangent of each element, between minus and plus pi/2.

    >>> import wengert as wg
    >>> wg.arctan(wg.tensor(0.0)).item()
    0.0
    """
    return xp.arctan(x)


@arctan.partials
def arctan_partials(x: Array) -> tuple[Array, ...]:
    return (1 / (1 + x * x),)


@elementwise(
    domain=((-2.0, 2.0), (0.3, 2.0)),
    reference="numpy.arctan2",
    special=[
        at(0.0, 0.0, out=0.0, partials=(0.0, 0.0)),
        at(0.0, -2.0, out=math.pi, partials=(-0.5, 0.0)),
        at(2.0, 0.0, out=math.pi / 2, partials=(0.0, -0.5)),
        at(-2.0, 0.0, out=-math.pi / 2, partials=(0.0, 0.5)),
    ],
)
def arctan2(xp: Namespace, y: Array, x: Array) -> Array:
    """Angle of the point (x, y), between minus and plus pi; at the origin, which has none, both derivatives are zero.

    >>> import wengert as wg
    >>> wg.arctan2(wg.tensor([0.0, 0.0]), wg.tensor([1.0, 0.0])).tolist()
    [0.0, 0.0]
    """
    return xp.arctan2(y, x)


@arctan2.partial("y")
def arctan2_partial_y(xp: Namespace, y: Array, x: Array) -> Array:
    radius = _radius(xp, y, x)
    return x / radius / radius


@arctan2.partial("x")
def arctan2_partial_x(xp: Namespace, y: Array, x: Array) -> Array:
    radius = _radius(xp, y, x)
    return y / -radius / radius  # y may be unsigned


def _radius(xp: Namespace, y: Array, x: Array) -> Array:
    """Return the distance from the origin, and one at the origin itself."""
    radius = xp.hypot(x, y)
    return xp.where(xp.equal(radius, 0), 1, radius)


@elementwise(
    reference="numpy.sinc",
    special=[
        at(0.0, out=1.0, partials=(0.0,)),
        at(0.5, out=2 / math.pi, partials=(-4 / math.pi,)),
    ],
)
def sinc(xp: Namespace, x: Array) -> Array:
    """sin(pi x) / (pi x), and one at zero, where the derivative is zero.

    >>> import wengert as wg
    >>> wg.sinc(wg.tensor(0.0)).item()
    1.0
    """
    angle = math.pi * x
    is_zero = xp.equal(angle, 0)
    return xp.where(is_zero, 1, xp.sin(angle) / xp.where(is_zero, 1, angle))


@sinc.partials
def sinc_partials(xp: Namespace, x: Array, out: Array) -> tuple[Array, ...]:
    """Near zero the closed form is a difference of nearly equal numbers; there a series takes its place."""
    angle = math.pi * x
    square = angle * angle
    series = _SINC_SERIES[-1]
    for coefficient in _SINC_SERIES[-2::-1]:
        series = coefficient + series * square
    return (xp.where(xp.less(xp.absolute(x), 0.5), math.pi * angle * series, (xp.cos(angle) - out) / x),)


@elementwise(domain=(-400.0, 400.0), reference="numpy.deg2rad", special=[at(180.0, out=math.pi, partials=(_RADIANS,))])
def deg2rad(xp: Namespace, x: Array) -> Array:
    """Degrees to radians.

    >>> import wengert as wg
    >>> wg.deg2rad(wg.tensor(0.0)).item()
    0.0
    """
    return x * _RADIANS


@deg2rad.partials
def deg2rad_partials() -> tuple[Array, ...]:
    return (_RADIANS,)


@elementwise(domain=(-7.0, 7.0), reference="numpy.rad2deg", special=[at(math.pi, out=180.0, partials=(_DEGREES,))])
def rad2deg(xp: Namespace, x: Array) -> Array:
    """Radians to degrees.

    >>> import wengert as wg
    >>> wg.rad2deg(wg.tensor(0.0)).item()
    0.0
    """
    return x * _DEGREES


@rad2deg.partials
def rad2deg_partials() -> tuple[Array, ...]:
    return (_DEGREES,)


acos = arccos
asin = arcsin
atan = arctan
atan2 = arctan2
degrees = rad2deg
radians = deg2rad
