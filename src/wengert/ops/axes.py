"""Axes and shapes as users write them, made canonical: sorted tuples of non-negative integers."""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..typing import Axis, Shape

ascii_letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Labels of axes in subscripts; importing `string` for them would take half a millisecond."""


def canonical_axis(axis: Any, ndim: int, name: str) -> int:
    """Return one axis as a non-negative integer.

    Raises:
        numpy.exceptions.AxisError: the axis does not exist.
    """
    try:
        index = operator.index(axis)
    except TypeError:
        raise TypeError(f"{name}: an axis must be an integer, not {axis!r}") from None
    if not -ndim <= index < ndim:
        raise np.exceptions.AxisError(f"{name}: axis {index} is out of bounds for an array with {ndim} dimensions")
    return index % ndim if ndim else index


def canonical_axes(axis: Axis, ndim: int, name: str) -> tuple[int, ...]:
    """Return axes as a sorted tuple of non-negative integers; None stands for all of them.

    Raises:
        numpy.exceptions.AxisError: an axis does not exist.
        ValueError: an axis is named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, (tuple, list)):
        return (canonical_axis(axis, ndim, name),)
    axes = sorted(canonical_axis(a, ndim, name) for a in axis)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: axis {tuple(axis)} names the same axis twice")
    return tuple(axes)


def canonical_shape(shape: Any, size: int, name: str) -> Shape:
    """Return a target shape with -1 filled in from `size`.

    Raises:
        ShapeError: the shape cannot hold `size` elements.
    """
    target = tuple(operator.index(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,)))
    if target.count(-1) == 1:
        known = 1
        for n in target:
            known *= n if n != -1 else 1
        if known and size % known == 0:
            target = tuple(size // known if n == -1 else n for n in target)
    total = 1
    for n in target:
        total *= n
    if total != size or any(n < 0 for n in target):
        raise ShapeError(f"{name}: an array of {size} elements does not fit the shape {shape}")
    return target
