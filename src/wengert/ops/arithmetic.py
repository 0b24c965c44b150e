"""Arithmetic with broadcasting: sums, products, quotients, remainders, signs."""

from __future__ import annotations

from ..declare import at, elementwise
from ..typing import Array, Namespace


@elementwise(reference="numpy.add")
def add(xp: Namespace, x: Array, y: Array) -> Array:
    """Sum of two arrays, element by element."""
    return xp.add(x, y)


@add.partials
def add_partials() -> tuple[Array, ...]:
    return (1, 1)


@elementwise(reference="numpy.subtract")
def subtract(xp: Namespace, x: Array, y: Array) -> Array:
    """Difference of two arrays, element by element."""
    return xp.subtract(x, y)


@subtract.partials
def subtract_partials() -> tuple[Array, ...]:
    return (1, -1)


@elementwise(reference="numpy.multiply")
def multiply(xp: Namespace, x: Array, y: Array) -> Array:
    """Product of two arrays, element by element."""
    return xp.multiply(x, y)


@multiply.partials
def multiply_partials(x: Array, y: Array) -> tuple[Array, ...]:
    return (y, x)


@elementwise(masks=True)
def guarded_product(xp: Namespace, x: Array, y: Array) -> Array:
    """Product in which an exactly zero factor wins over infinity and NaN: how a cotangent meets a local derivative."""
    product = xp.multiply(x, y)
    return xp.where(xp.logical_or(xp.equal(x, 0), xp.equal(y, 0)), 0 * xp.nan_to_num(product), product)


@guarded_product.partials
def guarded_product_partials(x: Array, y: Array) -> tuple[Array, ...]:
    return (y, x)


@elementwise(domain=((-2.0, 2.0), (0.5, 2.0)), reference="numpy.true_divide", singular=True)
def divide(xp: Namespace, x: Array, y: Array) -> Array:
    """Quotient of two arrays, element by element."""
    return xp.true_divide(x, y)


@divide.partial("x")
def divide_partial_x(xp: Namespace, y: Array) -> Array:
    return xp.true_divide(1, y)


@divide.partial("y")
def divide_partial_y(y: Array, out: Array) -> Array:
    return -out / y


@elementwise(reference="numpy.negative")
def negative(xp: Namespace, x: Array) -> Array:
    """Negative of each element."""
    return xp.negative(x)


@negative.partials
def negative_partials() -> tuple[Array, ...]:
    return (-1,)


@elementwise(reference="numpy.positive")
def positive(xp: Namespace, x: Array) -> Array:
    """Each element as it is, in a new array."""
    return xp.positive(x)


@positive.partials
def positive_partials() -> tuple[Array, ...]:
    return (1,)


@elementwise(reference="numpy.square")
def square(xp: Namespace, x: Array) -> Array:
    """Square of each element."""
    return xp.square(x)


@square.partials
def square_partials(x: Array) -> tuple[Array, ...]:
    return (2 * x,)


@elementwise(domain=(0.5, 3.0), reference="numpy.reciprocal", singular=True)
def reciprocal(xp: Namespace, x: Array) -> Array:
    """One divided by each element."""
    return xp.true_divide(1, x)


@reciprocal.partials
def reciprocal_partials(out: Array) -> tuple[Array, ...]:
    return (-(out * out),)


@elementwise(reference="numpy.absolute", masks=True, special=[at(0.0, out=0.0, partials=(0.0,))])
def absolute(xp: Namespace, x: Array) -> Array:
    """Absolute value of each element; the derivative at zero is zero."""
    return xp.absolute(x)


@absolute.partials
def absolute_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.sign(x),)
