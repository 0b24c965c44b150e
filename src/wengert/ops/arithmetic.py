"""Arithmetic with broadcasting: sums, products, quotients, remainders, signs."""

from __future__ import annotations

import math
from typing import Any

from ..declare import at, elementwise
from ..typing import Array, Namespace

__all__ = [
    "abs",
    "absolute",
    "add",
    "copysign",
    "divide",
    "fabs",
    "floor_divide",
    "fmod",
    "hypot",
    "mod",
    "multiply",
    "negative",
    "positive",
    "reciprocal",
    "remainder",
    "sign",
    "square",
    "subtract",
    "true_divide",
]


@elementwise(reference="numpy.add")
def add(xp: Namespace, x: Array, y: Array) -> Array:
    """Sum of two arrays, element by element.

    >>> import wengert as wg
    >>> wg.add(wg.tensor([1.0, 2.0]), 10).tolist()
    [11.0, 12.0]
    """
    return xp.add(x, y)


@add.partials
def add_partials() -> tuple[Array, ...]:
    return (1, 1)


@elementwise(reference="numpy.subtract")
def subtract(xp: Namespace, x: Array, y: Array) -> Array:
    """Difference of two arrays, element by element.

    >>> import wengert as wg
    >>> wg.subtract(wg.tensor([1.0, 2.0]), 10).tolist()
    [-9.0, -8.0]
    """
    return xp.subtract(x, y)


@subtract.partials
def subtract_partials() -> tuple[Array, ...]:
    return (1, -1)


@elementwise(reference="numpy.multiply")
def multiply(xp: Namespace, x: Array, y: Array) -> Array:
    """Product of two arrays, element by element.

    >>> import wengert as wg
    >>> wg.multiply(wg.tensor([1.0, 2.0]), 10).tolist()
    [10.0, 20.0]
    """
    return xp.multiply(x, y)


@multiply.partials
def multiply_partials(x: Array, y: Array) -> tuple[Array, ...]:
    return (y, x)


@elementwise(masks=True)
def guarded_product(xp: Namespace, x: Array, y: Array) -> Array:
    """Product in which an exactly zero factor wins over infinity and NaN: how a cotangent meets a local derivative."""
    return xp.guarded_product(x, y)


@guarded_product.partials
def guarded_product_partials(x: Array, y: Array) -> tuple[Array, ...]:
    return (y, x)


@elementwise(
    domain=((-2.0, 2.0), (0.5, 2.0)),
    reference="numpy.true_divide",
    special=[
        at(1.0, 0.0, out=math.inf, partials=(math.inf, -math.inf)),
        at(2.0, math.inf, out=0.0, partials=(0.0, 0.0)),
    ],
    singular=True,
)
def divide(xp: Namespace, x: Array, y: Array) -> Array:
    """Quotient of two arrays, element by element; where y is zero the derivatives are infinite or NaN, as the value is.

    >>> import wengert as wg
    >>> wg.divide(wg.tensor([1.0, 3.0]), 2).tolist()
    [0.5, 1.5]
    """
    return xp.true_divide(x, y)


@divide.partial("x")
def divide_partial_x(xp: Namespace, y: Array) -> Array:
    return _one_over(xp, y)


@divide.partial("y")
def divide_partial_y(y: Array, out: Array) -> Array:
    return -out / y


def _one_over(xp: Namespace, y: Any) -> Any:
    """One over y; a Python number stays one, so that it never promotes."""
    if type(y) is float or type(y) is int:
        return 1 / y if y else math.copysign(math.inf, y)
    return xp.true_divide(1, y)


@elementwise(reference="numpy.negative")
def negative(xp: Namespace, x: Array) -> Array:
    """Negative of each element.

    >>> import wengert as wg
    >>> wg.negative(wg.tensor([1.0, -2.0])).tolist()
    [-1.0, 2.0]
    """
    return xp.negative(x)


@negative.partials
def negative_partials() -> tuple[Array, ...]:
    return (-1,)


@elementwise(reference="numpy.positive")
def positive(xp: Namespace, x: Array) -> Array:
    """Each element as it is, in a new array.

    >>> import wengert as wg
    >>> wg.positive(wg.tensor([1.0, -2.0])).tolist()
    [1.0, -2.0]
    """
    return xp.positive(x)


@positive.partials
def positive_partials() -> tuple[Array, ...]:
    return (1,)


@elementwise(reference="numpy.square")
def square(xp: Namespace, x: Array) -> Array:
    """Square of each element.

    >>> import wengert as wg
    >>> wg.square(wg.tensor([1.0, -3.0])).tolist()
    [1.0, 9.0]
    """
    return xp.square(x)


@square.partials
def square_partials(x: Array) -> tuple[Array, ...]:
    return (x + x,)


@elementwise(
    domain=(0.5, 3.0),
    reference="numpy.reciprocal",
    special=[at(0.0, out=math.inf, partials=(-math.inf,)), at(math.inf, out=0.0, partials=(0.0,))],
    singular=True,
)
def reciprocal(xp: Namespace, x: Array) -> Array:
    """One divided by each element; the derivative at zero is minus infinity.

    >>> import wengert as wg
    >>> wg.reciprocal(wg.tensor([2.0, 4.0])).tolist()
    [0.5, 0.25]
    """
    return xp.true_divide(1, x)


@reciprocal.partials
def reciprocal_partials(out: Array) -> tuple[Array, ...]:
    return (-(out * out),)


@elementwise(reference="numpy.absolute", masks=True, special=[at(0.0, out=0.0, partials=(0.0,))])
def absolute(xp: Namespace, x: Array) -> Array:
    """Absolute value of each element; the derivative at zero is zero.

    >>> import wengert as wg
    >>> wg.absolute(wg.tensor([1.0, -2.0])).tolist()
    [1.0, 2.0]
    """
    return xp.absolute(x)


@elementwise(reference="numpy.fabs", masks=True, special=[at(0.0, out=0.0, partials=(0.0,))])
def fabs(xp: Namespace, x: Array) -> Array:
    """Absolute value of each element, floating even for integers; the derivative at zero is zero.

    >>> import wengert as wg
    >>> wg.fabs(wg.tensor([1, -2])).tolist()
    [1.0, 2.0]
    """
    return xp.fabs(x)


@fabs.partials
@absolute.partials
def absolute_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.sign(x),)


@elementwise(reference="numpy.sign", special=[at(0.0, out=0.0, partials=(0.0,)), at(-3.0, out=-1.0, partials=(0.0,))])
def sign(xp: Namespace, x: Array) -> Array:
    """Minus one, zero or one by the sign of each element; the derivative is zero everywhere, at the jump too.

    >>> import wengert as wg
    >>> wg.sign(wg.tensor([-2.0, 0.0, 5.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return xp.sign(x)


@sign.partials
def sign_partials() -> tuple[Array, ...]:
    return (0,)


@elementwise(
    reference="numpy.copysign",
    masks=True,
    special=[
        at(0.0, 1.0, out=0.0, partials=(0.0, 0.0)),
        at(2.0, 0.0, out=2.0, partials=(1.0, 0.0)),
        at(2.0, -0.0, out=-2.0, partials=(-1.0, 0.0)),
    ],
)
def copysign(xp: Namespace, x: Array, y: Array) -> Array:
    """Magnitude of x with the sign of y; the derivatives are zero by x at zero, and everywhere by y.

    >>> import wengert as wg
    >>> wg.copysign(wg.tensor([1.0, 2.0]), -1.0).tolist()
    [-1.0, -2.0]
    """
    return xp.copysign(x, y)


@copysign.partial("x")
def copysign_partial_x(xp: Namespace, x: Array, out: Array) -> Array:
    return xp.sign(x) * xp.sign(out)


@copysign.partial("y")
def copysign_partial_y() -> Array:
    return 0


_FLOOR_POINTS: Any = [  # x, y, floor(x / y)
    (-3.0, 2.0, -2.0),
    (3.0, -2.0, -2.0),
    (-3.0, -2.0, 1.0),
    (1.0, math.inf, 0.0),
]


@elementwise(
    domain=((4.1, 4.9), (1.7, 1.9)),  # the quotient stays between two and three
    reference="numpy.floor_divide",
    special=[at(x, y, out=quotient, partials=(0.0, 0.0)) for x, y, quotient in _FLOOR_POINTS],
)
def floor_divide(xp: Namespace, x: Array, y: Array) -> Array:
    """Quotient rounded down; piecewise constant, so both derivatives are zero everywhere, at the jumps too.

    >>> import wengert as wg
    >>> wg.floor_divide(wg.tensor([7.0, -7.0]), 2).tolist()
    [3.0, -4.0]
    """
    return xp.floor_divide(x, y)


@floor_divide.partials
def floor_divide_partials() -> tuple[Array, ...]:
    return (0, 0)


@elementwise(
    domain=((4.1, 4.9), (1.7, 1.9)),
    reference="numpy.remainder",
    special=[
        at(-3.0, 2.0, out=1.0, partials=(1.0, 2.0)),
        at(3.0, -2.0, out=-1.0, partials=(1.0, 2.0)),
        at(4.0, 2.0, out=0.0, partials=(1.0, -2.0)),
        at(1.0, math.inf, out=1.0, partials=(1.0, 0.0)),
    ],
)
def remainder(xp: Namespace, x: Array, y: Array) -> Array:
    """What x leaves after division by y rounded down; it has the sign of y.

    The derivatives are one and -floor(x / y), at the jumps (where y divides x) too: those from the right.

    >>> import wengert as wg
    >>> wg.remainder(wg.tensor([7.0, -7.0]), 4).tolist()
    [3.0, 1.0]
    """
    return xp.remainder(x, y)


@remainder.partial("x")
def remainder_partial_x() -> Array:
    return 1


@remainder.partial("y")
def remainder_partial_y(xp: Namespace, x: Array, y: Array) -> Array:
    return -xp.floor_divide(x, y)


@elementwise(
    domain=((4.1, 4.9), (1.7, 1.9)),
    reference="numpy.fmod",
    special=[
        at(-3.0, 2.0, out=-1.0, partials=(1.0, 1.0)),
        at(3.0, -2.0, out=1.0, partials=(1.0, 1.0)),
        at(4.0, 2.0, out=0.0, partials=(1.0, -2.0)),
        at(1.0, math.inf, out=1.0, partials=(1.0, 0.0)),
    ],
)
def fmod(xp: Namespace, x: Array, y: Array) -> Array:
    """What x leaves after division by y rounded towards zero, as in C; it has the sign of x.

    The derivatives are one and -trunc(x / y), at the jumps (where y divides x) too.

    >>> import wengert as wg
    >>> wg.fmod(wg.tensor([7.0, -7.0]), 4).tolist()
    [3.0, -3.0]
    """
    return xp.fmod(x, y)


@fmod.partial("x")
def fmod_partial_x() -> Array:
    return 1


@fmod.partial("y")
def fmod_partial_y(xp: Namespace, x: Array, y: Array, out: Array) -> Array:
    return -xp.rint((x - out) / y)


@elementwise(
    reference="numpy.hypot",
    special=[
        at(0.0, 0.0, out=0.0, partials=(0.0, 0.0)),
        at(0.0, -2.0, out=2.0, partials=(0.0, -1.0)),
        at(3.0, 4.0, out=5.0, partials=(0.6, 0.8)),
    ],
)
def hypot(xp: Namespace, x: Array, y: Array) -> Array:
    """Length of the hypotenuse, sqrt(x² + y²) without overflow; both derivatives at the origin are zero.

    >>> import wengert as wg
    >>> wg.hypot(wg.tensor(3.0), 4.0).item()
    5.0
    """
    return xp.hypot(x, y)


@hypot.partial("x")
def hypot_partial_x(xp: Namespace, x: Array, out: Array) -> Array:
    return x / xp.where(xp.equal(out, 0), 1, out)


@hypot.partial("y")
def hypot_partial_y(xp: Namespace, y: Array, out: Array) -> Array:
    return y / xp.where(xp.equal(out, 0), 1, out)


abs = absolute
mod = remainder
true_divide = divide
