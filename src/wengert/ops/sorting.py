"""Sorting, taking and putting along axes, and the searches whose results are positions.

Sorting moves the gradient back along the permutation that it made; among equal elements it is the stable one. Positions
have no derivative; they may come as Tensors and be mapped over.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..core import boxing
from ..core.dispatch import bind
from ..declare import Sample, composite, nondifferentiable, opaque
from ..errors import DTypeError, ShapeError
from ..typing import Array, ArrayLike, Namespace
from .axes import canonical_axis
from .creation import asarray
from .selection import nonzero
from .shaping import reshape
from .taking import take, take_along_axis

__all__ = ["argpartition", "argsort", "bincount", "flatnonzero", "partition", "searchsorted", "sort", "topk", "unique"]

_SORTED: Any = [
    Sample((4,), distinct=True, axis=0, descending=False),
    Sample((2, 3), distinct=True, axis=1, descending=True),
    Sample((3, 2, 2), distinct=True, axis=0, descending=False),
]


def _order(xp: Namespace, x: Any, axis: int, descending: bool) -> Any:
    """Return the stable order; among equals the first comes first in either direction."""
    if not descending:
        return xp.argsort(x, axis=axis, stable=True)
    return xp.flip(x.shape[axis] - 1 - xp.argsort(xp.flip(x, axis), axis=axis, stable=True), axis)


@opaque(samples=_SORTED)
def sort_along(xp: Namespace, x: Array, *, axis: int, descending: bool) -> Array:
    """Elements in order along an axis."""
    ordered = xp.sort(x, axis=axis)
    return xp.flip(ordered, axis) if descending else ordered


@sort_along.vjp
def sort_along_vjp(xp: Namespace, out_bar: Array, x: Array, axis: int, descending: bool) -> Array:
    back = xp.argsort(_order(xp, x, axis, descending), axis=axis, stable=True)
    return xp.take_along_axis(out_bar, back, axis=axis)


@sort_along.jvp
def sort_along_jvp(xp: Namespace, x: Array, x_dot: Array, axis: int, descending: bool) -> Array:
    return xp.take_along_axis(x_dot, _order(xp, x, axis, descending), axis=axis)


@sort_along.batched
def sort_along_batched(xp: Namespace, x: Array, *, axis: int, descending: bool) -> Array:
    return sort_along(x, axis=axis + 1, descending=descending)


def _axis_or_flat(x: ArrayLike, axis: int | None, name: str) -> tuple[Any, int]:
    tensor = asarray(x)
    if axis is None:
        return reshape(tensor, (-1,)), 0
    return tensor, canonical_axis(axis, tensor.ndim, name)


def sort(x: ArrayLike, /, axis: int | None = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """A copy in order along an axis (of the flattened array for None); NaN comes last in ascending order.

    Args:
        x: array of at least one axis.
        axis: the axis to sort along.
        descending: largest first.
        stable: accepted for the Array API's sake; the gradient always follows the stable order.

    >>> import wengert as wg
    >>> wg.sort(wg.tensor([3.0, 1.0, 2.0])).tolist()
    [1.0, 2.0, 3.0]
    """
    tensor, axis = _axis_or_flat(x, axis, "sort")
    return bind(sort_along.primitive, (tensor,), {"axis": axis, "descending": bool(descending)})


@nondifferentiable(samples=_SORTED)
def order_along(xp: Namespace, x: Array, *, axis: int, descending: bool) -> Array:
    """Positions that sort along an axis, stably."""
    return _order(xp, x, axis, descending)


def argsort(x: ArrayLike, /, axis: int | None = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """Positions that sort an array along an axis (the flattened array for None), stably.

    >>> import wengert as wg
    >>> wg.argsort(wg.tensor([3.0, 1.0, 2.0])).tolist()
    [1, 2, 0]
    """
    tensor, axis = _axis_or_flat(x, axis, "argsort")
    return bind(order_along.primitive, (tensor,), {"axis": axis, "descending": bool(descending)})


@nondifferentiable(samples=[Sample((5,), distinct=True, axis=0, kth=2), Sample((2, 4), distinct=True, axis=1, kth=0)])
def partition_along(xp: Namespace, x: Array, *, axis: int, kth: int) -> Array:
    """Positions that bring the element of rank `kth` to its place, smaller ones before it, larger ones behind."""
    return xp.argpartition(x, kth, axis=axis)


def argpartition(x: ArrayLike, kth: int, axis: int | None = -1) -> Any:
    """Positions that put the element of rank `kth` in its place along an axis, smaller before it, larger behind it."""
    tensor, axis = _axis_or_flat(x, axis, "argpartition")
    return bind(partition_along.primitive, (tensor,), {"axis": axis, "kth": operator.index(kth)})


@composite(samples=[Sample((5,), distinct=True, kth=2)])
def partition(x: ArrayLike, kth: int, axis: int | None = -1) -> Any:
    """A copy with the element of rank `kth` in its place along an axis, smaller ones before it, larger ones behind it.

    >>> import wengert as wg
    >>> wg.partition(wg.tensor([3.0, 1.0, 2.0]), 1)[1].item()
    2.0
    """
    tensor, axis = _axis_or_flat(x, axis, "partition")
    return take_along_axis(tensor, argpartition(tensor, kth, axis), axis)


@composite(samples=[Sample((5,), distinct=True, k=2), Sample((2, 4), distinct=True, k=3, largest=False)])
def topk(x: ArrayLike, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Any, Any]:
    """The k largest (or smallest) elements along an axis, and their positions.

    Args:
        x: array of at least one axis.
        k: how many.
        axis: the axis to search along.
        largest: False asks for the smallest.
        sorted: accepted for PyTorch's sake; the result always is.

    Raises:
        IndexError: there are not that many.

    >>> import wengert as wg
    >>> values, positions = wg.topk(wg.tensor([3.0, 1.0, 2.0]), 2)
    >>> values.tolist(), positions.tolist()
    ([3.0, 2.0], [0, 2])
    """
    tensor = asarray(x)
    place = canonical_axis(axis, tensor.ndim, "topk")
    if not 0 <= k <= tensor.shape[place]:
        raise IndexError(f"topk: there are not {k} elements along axis {place} of shape {tensor.shape}")
    positions = argsort(tensor, place, descending=largest)[(*(slice(None),) * place, slice(0, k))]
    return take_along_axis(tensor, positions, place), positions


def _per_row(xp: Namespace, operation: Any, rows: tuple[Any, ...], **params: Any) -> Any:
    return xp.stack([bind(operation.primitive, row, params) for row in zip(*rows)])


def _numbers(rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(6)


def _ascending(rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.uniform(-2, 2, 5))


@nondifferentiable(samples=[Sample(_ascending, (2, 3), side="left"), Sample(_ascending, (4,), side="right")])
def rank_among(xp: Namespace, x: Array, values: Array, *, side: str) -> Array:
    """Positions before which values belong in a sorted vector."""
    return xp.searchsorted(x, values, side=side)


@rank_among.batch
def rank_among_batch(xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...], side: str) -> tuple[Any, int]:
    x, values = args
    if axes[0] is None:
        return bind(rank_among.primitive, (x, values), {"side": side}), axes[1]
    rows = xp.moveaxis(x, axes[0], 0)
    others = [values] * rows.shape[0] if axes[1] is None else list(xp.moveaxis(values, axes[1], 0))
    return _per_row(xp, rank_among, (list(rows), others), side=side), 0


def searchsorted(x: ArrayLike, values: ArrayLike, side: str = "left", sorter: Any = None) -> Any:
    """Positions before which values belong in a sorted vector, so that it stays sorted.

    >>> import wengert as wg
    >>> wg.searchsorted(wg.tensor([1.0, 2.0, 3.0]), 2.5).item()
    2
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: side must be 'left' or 'right', not {side!r}")
    vector = asarray(x)
    if vector.ndim != 1:
        raise ShapeError(f"searchsorted: needs a sorted vector, got shape {vector.shape}")
    if sorter is not None:
        vector = boxing.operations.take(vector, sorter)
    return bind(rank_among.primitive, (vector, asarray(values)), {"side": side})


def _row_by_row(operation: Any, name: str) -> None:
    """Declare batching by a loop, for results whose shape depends on the values."""

    def row_by_row(xp: Namespace, x: Any, **params: Any) -> Any:
        rows = [bind(operation.primitive, (row,), params) for row in x]
        if len({row.shape for row in rows}) > 1:
            raise ShapeError(
                f"{name}: the result's shape depends on the values, and differs between the calls that are mapped "
                f"over: {', '.join(str(row.shape) for row in rows)}. Use a mask (wg.where), or a Python loop"
            )
        return xp.stack(rows)

    operation.batched(row_by_row)


def flatnonzero(x: ArrayLike) -> Any:
    """Positions of the elements that are not zero in the flattened array.

    >>> import wengert as wg
    >>> wg.flatnonzero(wg.eye(2)).tolist()
    [0, 3]
    """
    return nonzero(reshape(asarray(x), (-1,)))[0]


_PARTS = ("values", "index", "inverse", "counts")


@nondifferentiable(samples=[Sample(_numbers, axis=None, part=part) for part in _PARTS])
def unique_part(xp: Namespace, x: Array, *, axis: int | None, part: str) -> Array:
    """The distinct elements in order; or where each is first; which each element is; how often each is."""
    if part == "values":
        return xp.unique(x, axis=axis)
    found = xp.unique(x, axis=axis, return_index=True, return_inverse=True, return_counts=True)
    return found[_PARTS.index(part)]


_row_by_row(unique_part, "unique")


def _unique_part(x: Any, axis: int | None, part: str) -> Any:
    return bind(unique_part.primitive, (x,), {"axis": axis, "part": part})


def unique(
    x: ArrayLike,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
) -> Any:
    """The distinct elements (or slices along an axis), in order; the gradient goes to the first of equal ones.

    Args:
        x: array of any shape.
        return_index: return, too, where each is first.
        return_inverse: return, too, which of them each element of `x` is.
        return_counts: return, too, how often each is there.
        axis: compare slices along this axis.

    >>> import wengert as wg
    >>> wg.unique(wg.tensor([3, 1, 3])).tolist()
    [1, 3]
    """
    tensor = asarray(x)
    if axis is not None:
        axis = canonical_axis(axis, tensor.ndim, "unique")
    wanted = [part for part, asked in zip(_PARTS[1:], (return_index, return_inverse, return_counts)) if asked]
    if tensor.dtype.kind in "fc":
        first = _unique_part(tensor, axis, "index")
        values = take(tensor if axis is not None else reshape(tensor, (-1,)), first, axis=0 if axis is None else axis)
    else:
        values = _unique_part(tensor, axis, "values")
    parts = (values, *[_unique_part(tensor, axis, part) for part in wanted])
    return parts if len(parts) > 1 else parts[0]


@nondifferentiable(samples=[Sample(_numbers, minlength=0), Sample(_numbers, minlength=9)])
def occurrences(xp: Namespace, x: Array, *, minlength: int) -> Array:
    """How often each number from zero up occurs."""
    return xp.bincount(x, minlength=minlength)


_row_by_row(occurrences, "bincount")


def bincount(x: ArrayLike, weights: Any = None, minlength: int = 0) -> Any:
    """How often each number from zero up occurs in a vector of integers; with weights, the (tracked) sum of theirs.

    >>> import wengert as wg
    >>> wg.bincount(wg.tensor([0, 2, 2])).tolist()
    [1, 0, 2]
    """
    numbers = asarray(x)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iub":
        raise DTypeError(f"bincount: needs a vector of integers, got {numbers.dtype} of shape {numbers.shape}")
    counts = bind(occurrences.primitive, (numbers,), {"minlength": operator.index(minlength)})
    if weights is None:
        return counts
    values = asarray(weights)
    zeros = boxing.operations.zeros((counts.shape[0],), values.dtype)
    return boxing.operations.add_at(zeros, numbers, values, axis=0)
