"""Rounding to whole numbers. Piecewise constant, so gradients through it are zero: they arrive, and are exact zeros."""

from __future__ import annotations

from typing import Any

from ..declare import at, elementwise
from ..typing import Array, ArrayLike, Namespace
from .arithmetic import divide, multiply, positive
from .creation import asarray, astype

__all__ = ["around", "ceil", "fix", "floor", "rint", "round", "trunc"]


@elementwise(
    reference="numpy.floor",
    special=[at(-1.0, out=-1.0, partials=(0.0,)), at(0.0, out=0.0, partials=(0.0,)), at(1.0, out=1.0, partials=(0.0,))],
)
def floor(xp: Namespace, x: Array) -> Array:
    """The largest whole number not above each element; the derivative is zero, at the jumps too.

    >>> import wengert as wg
    >>> wg.floor(wg.tensor([1.5, -1.5])).tolist()
    [1.0, -2.0]
    """
    return xp.floor(x)


@elementwise(
    reference="numpy.ceil",
    special=[at(-1.0, out=-1.0, partials=(0.0,)), at(0.0, out=0.0, partials=(0.0,)), at(1.0, out=1.0, partials=(0.0,))],
)
def ceil(xp: Namespace, x: Array) -> Array:
    """The smallest whole number not below each element; the derivative is zero, at the jumps too.

    >>> import wengert as wg
    >>> wg.ceil(wg.tensor([1.5, -1.5])).tolist()
    [2.0, -1.0]
    """
    return xp.ceil(x)


@elementwise(reference="numpy.trunc", special=[at(-1.0, out=-1.0, partials=(0.0,)), at(1.0, out=1.0, partials=(0.0,))])
def trunc(xp: Namespace, x: Array) -> Array:
    """Each element without its fraction, rounded towards zero; the derivative is zero, at the jumps too.

    >>> import wengert as wg
    >>> wg.trunc(wg.tensor([1.5, -1.5])).tolist()
    [1.0, -1.0]
    """
    return xp.trunc(x)


@elementwise(
    reference="numpy.rint",
    special=[
        at(-1.5, out=-2.0, partials=(0.0,)),
        at(-0.5, out=0.0, partials=(0.0,)),
        at(0.5, out=0.0, partials=(0.0,)),
        at(1.5, out=2.0, partials=(0.0,)),
    ],
)
def rint(xp: Namespace, x: Array) -> Array:
    """The nearest whole number to each element, ties to the even one; the derivative is zero, at the jumps too.

    >>> import wengert as wg
    >>> wg.rint(wg.tensor([0.5, 1.5, -1.7])).tolist()
    [0.0, 2.0, -2.0]
    """
    return xp.rint(x)


@floor.partials
@ceil.partials
@trunc.partials
@rint.partials
def rounding_partials() -> tuple[Array, ...]:
    return (0,)


def round(x: ArrayLike, decimals: int = 0) -> Any:
    """Each element rounded to a number of decimals, ties to even; the derivative is zero, at the jumps too.

    Args:
        x: integers stay integers.
        decimals: negative ones round to tens, hundreds...

    >>> import wengert as wg
    >>> wg.round(wg.tensor([0.125, 2.5]), 2).tolist()
    [0.11999999731779099, 2.5]
    >>> wg.round(wg.tensor([15, 25]), -1).tolist()
    [20, 20]
    """
    tensor = asarray(x)
    scale = 10.0 ** abs(decimals)
    if tensor.dtype.kind in "iu":
        if decimals >= 0:
            return positive(tensor)
        return astype(multiply(rint(divide(tensor, scale)), scale), tensor.dtype)
    if decimals > 0:
        return divide(rint(multiply(tensor, scale)), scale)
    return multiply(rint(divide(tensor, scale)), scale) if decimals else rint(tensor)


around = round
fix = trunc
