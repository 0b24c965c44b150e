"""Sums, means, extrema and products over any axes.

Ties of `max` and `min` share the gradient equally. Where an element is NaN, so is the extremum, and the NaN elements
share the gradient. The gradient of a product is right with any number of zeros: it never divides.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from .. import backend
from ..backend.numpy import all_finite
from ..core import boxing
from ..core.dispatch import bind
from ..core.vspace import settle
from ..declare import Sample, at, linear, reduction
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Axis, DTypeLike, Namespace, Shape
from .axes import canonical_axes
from .creation import asarray, astype

__all__ = ["amax", "amin", "max", "mean", "min", "prod", "ptp", "sum"]

_raw: Any = backend.numpy
_SAMPLES: Any = [
    Sample((2, 3), axis=(0,), keepdims=False),
    Sample((2, 3, 2), axis=(0, 2), keepdims=True),
    Sample((2, 3), axis=(0, 1), keepdims=False),
    Sample((2, 3), axis=(), keepdims=False),
    Sample((), axis=(), keepdims=False),
]
_DISTINCT: Any = [
    Sample((2, 3), distinct=True, axis=(0,), keepdims=False),
    Sample((2, 3, 2), distinct=True, axis=(0, 2), keepdims=True),
    Sample((2, 3), distinct=True, axis=(0, 1), keepdims=False),
    Sample((), axis=(), keepdims=False),
]


@linear(samples=_SAMPLES, reference="numpy.sum")
def sum_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Sum over axes."""
    return xp.sum(x, axis=axis, keepdims=keepdims)


@sum_over.transpose
def sum_over_transpose(xp: Namespace, out_bar: Array, x_shape: Shape, axis: tuple[int, ...], keepdims: bool) -> Array:
    if not keepdims:
        out_bar = xp.reshape(out_bar, tuple([1 if i in axis else n for i, n in enumerate(x_shape)]))
    return xp.spread(out_bar, x_shape)


@sum_over.batched
def sum_over_batched(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return sum_over(x, axis=tuple([a + 1 for a in axis]), keepdims=keepdims)


def _count(shape: Shape, axis: tuple[int, ...]) -> int:
    return math.prod([shape[a] for a in axis])


@linear(samples=_SAMPLES, reference="numpy.mean")
def mean_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Mean over axes."""
    if x.dtype.itemsize < 4:  # as NumPy does: a sum in half precision overflows at 65504
        return xp.mean(x, axis=axis, keepdims=keepdims)
    return xp.sum(x, axis=axis, keepdims=keepdims) / _count(x.shape, axis)


@mean_over.transpose
def mean_over_transpose(xp: Namespace, out_bar: Array, x_shape: Shape, axis: tuple[int, ...], keepdims: bool) -> Array:
    if not keepdims:
        out_bar = xp.reshape(out_bar, tuple([1 if i in axis else n for i, n in enumerate(x_shape)]))
    return xp.spread(out_bar / builtins.max(_count(x_shape, axis), 1), x_shape)


@mean_over.batched
def mean_over_batched(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return mean_over(x, axis=tuple([a + 1 for a in axis]), keepdims=keepdims)


def share_among_tied(xp: Namespace, x: Array, out: Array, axis: tuple[int, ...]) -> Any:
    """Return the derivative of an extremum: one, divided equally among the elements that attain it (or are NaN)."""
    tied = xp.logical_or(xp.equal(x, out), xp.isnan(x))
    return tied * xp.astype(1 / xp.sum(tied, axis=axis, keepdims=True), x.dtype)


@reduction(
    samples=_DISTINCT,
    reference="numpy.max",
    masks=True,
    special=[
        at(1.0, 3.0, 3.0, -1.0, out=3.0, partials=(0.0, 0.5, 0.5, 0.0)),
        at(1.0, math.nan, 3.0, out=math.nan, partials=(0.0, 1.0, 0.0)),
        at(-math.inf, -math.inf, out=-math.inf, partials=(0.5, 0.5)),
    ],
)
def max_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Largest element over axes; NaN if any is."""
    return xp.max(x, axis=axis, keepdims=keepdims)


@max_over.partials
def max_over_partials(xp: Namespace, x: Array, out: Array, axis: tuple[int, ...]) -> Array:
    return share_among_tied(xp, x, out, axis)


@reduction(
    samples=_DISTINCT,
    reference="numpy.min",
    masks=True,
    special=[
        at(1.0, 3.0, 1.0, out=1.0, partials=(0.5, 0.0, 0.5)),
        at(1.0, math.nan, 3.0, out=math.nan, partials=(0.0, 1.0, 0.0)),
    ],
)
def min_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Smallest element over axes; NaN if any is."""
    return xp.min(x, axis=axis, keepdims=keepdims)


def _pull_extremum(node: Any, out_bar: Array) -> tuple[Any, ...]:
    """Select where nothing is tied, as is usual; otherwise share."""
    x, out, shape = node.saved
    axis, parent = node.params["axis"], node.inputs[0]
    kept = tuple([1 if i in axis else n for i, n in enumerate(shape)])
    out, out_bar = out.reshape(kept), out_bar.reshape(kept)
    tied: Any = x == out
    if np.count_nonzero(tied) == out.size and all_finite(out):
        bar = _raw.where(tied, out_bar, out_bar.dtype.type(0))
    else:
        bar = _raw.guarded_product(share_among_tied(_raw, x, out, axis), out_bar)
    return (bar if bar.dtype is parent.dtype else settle(_raw, bar, parent),)


max_over.raw_pull(_pull_extremum)
min_over.raw_pull(_pull_extremum)


@min_over.partials
def min_over_partials(xp: Namespace, x: Array, out: Array, axis: tuple[int, ...]) -> Array:
    return share_among_tied(xp, x, out, axis)


@reduction(
    samples=_SAMPLES,
    reference="numpy.prod",
    special=[
        at(2.0, 0.0, 5.0, out=0.0, partials=(0.0, 10.0, 0.0)),
        at(0.0, 3.0, 0.0, out=0.0, partials=(0.0, 0.0, 0.0)),
        at(2.0, 3.0, 4.0, out=24.0, partials=(12.0, 8.0, 6.0)),
    ],
)
def prod_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Product over axes."""
    return xp.prod(x, axis=axis, keepdims=keepdims)


@prod_over.partials
def prod_over_partials(xp: Namespace, x: Array, axis: tuple[int, ...]) -> Array:
    if not axis:
        return xp.ones_like(x)
    others = tuple([i for i in range(x.ndim) if i not in axis])
    order = (*others, *axis)
    moved = xp.transpose(x, order)
    rows = xp.reshape(moved, (*moved.shape[: len(others)], _count(x.shape, axis)))
    before = _exclusive_products(xp, rows)
    after = xp.flip(_exclusive_products(xp, xp.flip(rows, -1)), -1)
    return xp.transpose(xp.reshape(before * after, moved.shape), tuple([order.index(i) for i in range(x.ndim)]))


def _exclusive_products(xp: Namespace, rows: Any) -> Any:
    """Return the product of all that stand before each element of a row."""
    first = xp.ones_like(rows[..., :1])
    return xp.concatenate([first, xp.cumprod(rows[..., :-1], axis=-1)], axis=-1)


# The public functions: NumPy's signatures, canonical parameters.


def reduce_axes(operation: Any, x: Any, axis: Axis, keepdims: bool, name: str, **params: Any) -> Any:
    """Apply a reduction to a Tensor over axes as users write them."""
    params["axis"] = canonical_axes(axis, x.ndim, name)
    params["keepdims"] = bool(keepdims)
    return bind(operation.primitive, (x,), params)


def masked_out(x: Any, where: Any, neutral: float, name: str) -> Any:
    """Return `x` with `neutral` where the mask is false; those elements get an exactly zero gradient.

    Raises:
        ShapeError: the mask does not broadcast to the array.
    """
    if where is None or where is True:
        return x
    mask = _mask(where, x, name)
    return boxing.operations.where(mask, x, neutral)


def _mask(where: Any, x: Any, name: str) -> Any:
    mask = asarray(where)
    if mask.dtype.kind != "b":
        mask = astype(mask, "bool")
    if mask.ndim > x.ndim or builtins.any([m not in (1, n) for m, n in zip(mask.shape[::-1], x.shape[::-1])]):
        raise ShapeError(
            f"{name}: a mask (where=) of shape {mask.shape} does not broadcast to the array's shape {x.shape}"
        )
    return mask


def count_where(where: Any, x: Any, axis: Axis, keepdims: bool, name: str) -> Any:
    """Return how many elements over axes a mask lets through, as a Tensor of the array's dtype."""
    mask = boxing.operations.broadcast_to(_mask(where, x, name), x.shape)
    return astype(reduce_axes(sum_over, mask, axis, keepdims, name), x.dtype)


def sum(
    x: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    keepdims: bool = False,
    *,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Sum over axes (all by default).

    Args:
        x: array of any shape.
        axis: axis or axes to sum over.
        dtype: dtype of the accumulator and the result.
        keepdims: keep the reduced axes with extent one.
        initial: a number or Tensor that the sum starts from.
        where: elements to include; the others get an exactly zero gradient, whatever they hold.

    >>> import wengert as wg
    >>> wg.sum(wg.ones((2, 3)), axis=1).tolist()
    [3.0, 3.0]
    """
    tensor = asarray(x) if dtype is None else astype(x, dtype, copy=False)
    out = reduce_axes(sum_over, masked_out(tensor, where, 0, "sum"), axis, keepdims, "sum")
    return out if initial is None else out + initial


def mean(x: ArrayLike, axis: Axis = None, dtype: DTypeLike = None, keepdims: bool = False, *, where: Any = None) -> Any:
    """Mean over axes (all by default); of integers in float64.

    Args:
        x: array of any shape.
        axis: axis or axes to average over.
        dtype: dtype of the accumulator and the result.
        keepdims: keep the reduced axes with extent one.
        where: elements to include; the others get an exactly zero gradient, whatever they hold.

    >>> import wengert as wg
    >>> wg.mean(wg.tensor([[1.0, 2.0], [3.0, 6.0]]), axis=0).tolist()
    [2.0, 4.0]
    """
    tensor = asarray(x) if dtype is None else astype(x, dtype, copy=False)
    if where is None or where is True:
        return reduce_axes(mean_over, tensor, axis, keepdims, "mean")
    tensor = as_floating(tensor)
    return sum(tensor, axis, keepdims=keepdims, where=where) / count_where(where, tensor, axis, keepdims, "mean")


def as_floating(x: Any) -> Any:
    """Return integers and booleans as float64, as NumPy's averages do; everything else as it is."""
    return astype(x, "float64") if x.dtype.kind in "biu" else x


def max(x: ArrayLike, axis: Axis = None, keepdims: bool = False, *, initial: Any = None, where: Any = None) -> Any:
    """Largest element over axes (all by default). Tied elements share the gradient equally; NaN wins.

    Args:
        x: array of any shape.
        axis: axis or axes to reduce.
        keepdims: keep the reduced axes with extent one.
        initial: the least that the result can be; needed for empty arrays.
        where: elements to include; needs `initial` if none may be left.

    Raises:
        ShapeError: there is no element, and no `initial`.

    >>> import wengert as wg
    >>> wg.max(wg.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1).tolist()
    [5.0, 3.0]
    """
    return _extremum(max_over, x, axis, keepdims, initial, where, "max")


def min(x: ArrayLike, axis: Axis = None, keepdims: bool = False, *, initial: Any = None, where: Any = None) -> Any:
    """Smallest element over axes (all by default). Tied elements share the gradient equally; NaN wins.

    Args:
        x: array of any shape.
        axis: axis or axes to reduce.
        keepdims: keep the reduced axes with extent one.
        initial: the most that the result can be; needed for empty arrays.
        where: elements to include; needs `initial` if none may be left.

    Raises:
        ShapeError: there is no element, and no `initial`.

    >>> import wengert as wg
    >>> wg.min(wg.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1).tolist()
    [1.0, 2.0]
    """
    return _extremum(min_over, x, axis, keepdims, initial, where, "min")


def _extremum(operation: Any, x: Any, axis: Axis, keepdims: bool, initial: Any, where: Any, name: str) -> Any:
    tensor = asarray(x)
    axes = canonical_axes(axis, tensor.ndim, name)
    if where is not None and where is not True:
        tensor = masked_out(tensor, where, _worst(tensor.dtype, name), name)
    if initial is None:
        if 0 in [tensor.shape[a] for a in axes]:
            raise ShapeError(f"{name}: an array of shape {tensor.shape} has no {name} over {axes}; pass initial=")
        return reduce_axes(operation, tensor, axes, keepdims, name)
    if 0 in tensor.shape:
        kept = [1 if i in axes else n for i, n in enumerate(tensor.shape)]
        shape = kept if keepdims else [n for i, n in enumerate(tensor.shape) if i not in axes]
        return boxing.operations.full(tuple(shape), initial, tensor.dtype)
    out = reduce_axes(operation, tensor, axes, keepdims, name)
    return boxing.operations.maximum(out, initial) if name == "max" else boxing.operations.minimum(out, initial)


def _worst(dtype: Any, name: str) -> Any:
    """Return what loses against every number of a dtype."""
    if dtype.kind in "fc":
        return -math.inf if name == "max" else math.inf
    if dtype.kind == "b":
        return name == "min"
    lowest = 0 if dtype.kind == "u" else -(1 << (8 * dtype.itemsize - 1))
    highest = (1 << (8 * dtype.itemsize - (dtype.kind == "i"))) - 1
    return lowest if name == "max" else highest


amax, amin = max, min


def ptp(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest minus smallest element over axes (peak to peak).

    >>> import wengert as wg
    >>> wg.ptp(wg.tensor([1.0, 5.0, 3.0])).item()
    4.0
    """
    tensor = asarray(x)
    return max(tensor, axis, keepdims) - min(tensor, axis, keepdims)


def prod(
    x: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    keepdims: bool = False,
    *,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Product over axes (all by default); the gradient is right with any number of zeros.

    Args:
        x: array of any shape.
        axis: axis or axes to multiply over.
        dtype: dtype of the accumulator and the result.
        keepdims: keep the reduced axes with extent one.
        initial: a number or Tensor that the product starts from.
        where: elements to include; the others get an exactly zero gradient.

    >>> import wengert as wg
    >>> wg.prod(wg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1).tolist()
    [2.0, 12.0]
    """
    tensor = asarray(x) if dtype is None else astype(x, dtype, copy=False)
    out = reduce_axes(prod_over, masked_out(tensor, where, 1, "prod"), axis, keepdims, "prod")
    return out if initial is None else out * initial
