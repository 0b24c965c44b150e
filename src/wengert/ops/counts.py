"""Truth over axes, counts, and positions of extrema: reductions that have no derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dispatch import bind
from ..declare import Sample, nondifferentiable
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Axis, Namespace
from .axes import canonical_axis
from .creation import asarray
from .reductions import reduce_axes

__all__ = ["all", "any", "argmax", "argmin", "count_nonzero"]


def _truths(rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.random((3, 4)) < 0.5)


def _digits(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2, (3, 4))


_TRUTHS: Any = [
    Sample(_truths, axis=(1,), keepdims=False),
    Sample(_digits, axis=(0, 1), keepdims=True),
    Sample((2, 3), axis=(0,), keepdims=False),
]


@nondifferentiable(samples=_TRUTHS, reference="numpy.any")
def any_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Whether any element over axes is true."""
    return xp.any(x, axis=axis, keepdims=keepdims)


@nondifferentiable(samples=_TRUTHS, reference="numpy.all")
def all_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Whether all elements over axes are true."""
    return xp.all(x, axis=axis, keepdims=keepdims)


@nondifferentiable(samples=_TRUTHS, reference="numpy.count_nonzero")
def count_nonzero_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """How many elements over axes are not zero."""
    return xp.sum(xp.not_equal(x, 0), axis=axis, keepdims=keepdims)


_POSITIONS: Any = [
    Sample((3, 4), distinct=True, axis=1, keepdims=False),
    Sample((3, 4), distinct=True, axis=0, keepdims=True),
]


@nondifferentiable(samples=_POSITIONS, reference="numpy.argmax")
def argmax_along(xp: Namespace, x: Array, *, axis: int, keepdims: bool) -> Array:
    """Position of the largest element along an axis; the first of equals."""
    return xp.argmax(x, axis=axis, keepdims=keepdims)


@nondifferentiable(samples=_POSITIONS, reference="numpy.argmin")
def argmin_along(xp: Namespace, x: Array, *, axis: int, keepdims: bool) -> Array:
    """Position of the smallest element along an axis; the first of equals."""
    return xp.argmin(x, axis=axis, keepdims=keepdims)


def any(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether any element over axes is true (not zero).

    >>> import wengert as wg
    >>> wg.any(wg.tensor([0.0, 2.0])).item()
    True
    """
    return reduce_axes(any_over, asarray(x), axis, keepdims, "any")


def all(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether all elements over axes are true (not zero).

    >>> import wengert as wg
    >>> wg.all(wg.tensor([0.0, 2.0])).item()
    False
    """
    return reduce_axes(all_over, asarray(x), axis, keepdims, "all")


def count_nonzero(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """How many elements over axes are not zero.

    >>> import wengert as wg
    >>> wg.count_nonzero(wg.tensor([0.0, 2.0, -1.0])).item()
    2
    """
    return reduce_axes(count_nonzero_over, asarray(x), axis, keepdims, "count_nonzero")


def argmax(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> Any:
    """Position of the largest element along an axis (of all elements in row-major order by default).

    >>> import wengert as wg
    >>> wg.argmax(wg.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1).tolist()
    [1, 0]
    """
    return _position(argmax_along, x, axis, keepdims, "argmax")


def argmin(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> Any:
    """Position of the smallest element along an axis (of all elements in row-major order by default).

    >>> import wengert as wg
    >>> wg.argmin(wg.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1).tolist()
    [0, 1]
    """
    return _position(argmin_along, x, axis, keepdims, "argmin")


def _position(operation: Any, x: Any, axis: int | None, keepdims: bool, name: str) -> Any:
    tensor = asarray(x)
    if not tensor.size and (axis is None or not tensor.shape[canonical_axis(axis, tensor.ndim, name)]):
        raise ShapeError(f"{name}: an array of shape {tensor.shape} has no largest or smallest element")
    if axis is None:
        flat = bind(operation.primitive, (tensor.reshape(-1),), {"axis": 0, "keepdims": False})
        return flat.reshape((1,) * tensor.ndim) if keepdims else flat
    params = {"axis": canonical_axis(axis, tensor.ndim, name), "keepdims": bool(keepdims)}
    return bind(operation.primitive, (tensor,), params)
