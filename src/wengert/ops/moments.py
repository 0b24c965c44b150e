"""Variance and standard deviation, weighted averages, and the logarithm of a sum of exponentials.

Where the standard deviation is exactly zero it has no derivative; the one given is zero, as for a norm.
"""

from __future__ import annotations

import math
from typing import Any

from ..core import boxing
from ..declare import Sample, at, composite, reduction
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Axis, DTypeLike, Namespace
from .axes import canonical_axes, canonical_axis
from .creation import asarray, astype
from .reductions import as_floating, count_where, masked_out, reduce_axes, sum

__all__ = ["average", "logsumexp", "std", "var"]


def _samples(**params: Any) -> Any:
    return [
        Sample((2, 3), axis=(0,), keepdims=False, **params),
        Sample((2, 3, 2), axis=(0, 2), keepdims=True, **params),
        Sample((2, 3), axis=(0, 1), keepdims=False, **params),
    ]


_SPREADS: Any = [*_samples(ddof=0), Sample((4,), axis=(0,), keepdims=False, ddof=1)]


def _degrees_of_freedom(shape: tuple[int, ...], axis: tuple[int, ...], ddof: float) -> float:
    return max(math.prod([shape[a] for a in axis]) - ddof, 0)


def _variance(xp: Namespace, x: Any, axis: tuple[int, ...], keepdims: bool, ddof: float) -> Any:
    freedom = _degrees_of_freedom(x.shape, axis, ddof)
    if x.dtype.kind != "f" or x.dtype.itemsize < 4 or not freedom:
        return xp.var(x, axis=axis, keepdims=keepdims, ddof=ddof)
    distance = x - xp.sum(x, axis=axis, keepdims=True) / math.prod([x.shape[a] for a in axis])
    return xp.sum(distance * distance, axis=axis, keepdims=keepdims) / freedom


@reduction(samples=_SPREADS, reference="numpy.var", special=[at(3.0, 3.0, 3.0, out=0.0, partials=(0.0, 0.0, 0.0))])
def var_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool, ddof: float) -> Array:
    """Mean of squared distances from the mean over axes."""
    return _variance(xp, x, axis, keepdims, ddof)


@var_over.partials
def var_over_partials(xp: Namespace, x: Array, axis: tuple[int, ...], ddof: float) -> Array:
    freedom = _degrees_of_freedom(x.shape, axis, ddof)
    return (x - xp.mean(x, axis=axis, keepdims=True)) * (2 / freedom if freedom else math.inf)


@reduction(samples=_SPREADS, reference="numpy.std", special=[at(3.0, 3.0, 3.0, out=0.0, partials=(0.0, 0.0, 0.0))])
def std_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool, ddof: float) -> Array:
    """Square root of the variance over axes; the derivative is zero where the variance is."""
    return xp.sqrt(_variance(xp, x, axis, keepdims, ddof))


@std_over.partials
def std_over_partials(xp: Namespace, x: Array, out: Array, axis: tuple[int, ...], ddof: float) -> Array:
    freedom = _degrees_of_freedom(x.shape, axis, ddof)
    constant = xp.equal(out, 0)
    distance = (x - xp.mean(x, axis=axis, keepdims=True)) * (1 / freedom if freedom else math.inf)
    return xp.where(constant, 0, distance / xp.where(constant, 1, out))


@reduction(
    samples=_samples(),
    reference="scipy.special.logsumexp",
    special=[
        at(-math.inf, -math.inf, out=-math.inf, partials=(0.0, 0.0)),
        at(-math.inf, 2.0, out=2.0, partials=(0.0, 1.0)),
        at(1000.0, -1000.0, out=1000.0, partials=(1.0, 0.0)),
        at(math.nan, 1.0, out=math.nan, partials=(math.nan, math.nan)),
    ],
)
def logsumexp_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    """Logarithm of the sum of exponentials over axes."""
    return xp.logsumexp(x, axis=axis, keepdims=keepdims)


@logsumexp_over.partials
def logsumexp_over_partials(xp: Namespace, x: Array, out: Array) -> Array:
    return xp.exp(x - xp.where(xp.equal(out, -math.inf), 0, out))


def _ddof(ddof: float, correction: float | None, name: str) -> float:
    if correction is None:
        return ddof
    if ddof:
        raise ValueError(f"{name}: ddof={ddof} and correction={correction} say the same thing; give one of them")
    return correction


def var(
    x: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    correction: float | None = None,
) -> Any:
    """Variance over axes (all by default): the mean of squared distances from the mean.

    Args:
        x: array of any shape.
        axis: axis or axes to reduce.
        dtype: dtype of the computation and the result.
        ddof: what is subtracted from the number of elements before dividing; 1 gives the unbiased estimate.
        keepdims: keep the reduced axes with extent one.
        where: elements to include; the others get an exactly zero gradient.
        correction: another name of `ddof`.

    >>> import wengert as wg
    >>> wg.var(wg.tensor([1.0, 3.0])).item(), wg.var(wg.tensor([1.0, 3.0]), ddof=1).item()
    (1.0, 2.0)
    """
    tensor = asarray(x) if dtype is None else astype(x, dtype, copy=False)
    less = _ddof(ddof, correction, "var")
    if where is None or where is True:
        return reduce_axes(var_over, tensor, axis, keepdims, "var", ddof=less)
    return masked_variance(as_floating(tensor), where, axis, less, keepdims, "var")


def masked_variance(x: Any, where: Any, axis: Axis, ddof: float, keepdims: bool, name: str) -> Any:
    """Return the variance of the elements that a mask lets through; the others get an exactly zero gradient."""
    count = count_where(where, x, axis, True, name)
    center = sum(x, axis, keepdims=True, where=where) / count
    total = reduce_axes_of_square(masked_out(x - center, where, 0, name), axis, keepdims, name)
    freedom = count if keepdims else boxing.operations.reshape(count, total.shape)
    return total / boxing.operations.maximum(freedom - ddof, 0)


def reduce_axes_of_square(x: Any, axis: Axis, keepdims: bool, name: str) -> Any:
    """Return the sum of squares over axes."""
    return sum(x * x, canonical_axes(axis, x.ndim, name), keepdims=keepdims)


def root_of_variance(variance: Any) -> Any:
    """Return the square root, whose derivative at zero is taken to be zero."""
    xp = boxing.operations
    constant = xp.equal(variance, 0)
    return xp.where(constant, 0, xp.sqrt(xp.where(constant, 1, variance)))


def std(
    x: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    correction: float | None = None,
) -> Any:
    """Standard deviation over axes (all by default); its gradient is zero where it is exactly zero.

    Args:
        x: array of any shape.
        axis: axis or axes to reduce.
        dtype: dtype of the computation and the result.
        ddof: what is subtracted from the number of elements before dividing; 1 is usual for samples.
        keepdims: keep the reduced axes with extent one.
        where: elements to include; the others get an exactly zero gradient.
        correction: another name of `ddof`.

    >>> import wengert as wg
    >>> wg.std(wg.tensor([1.0, 3.0])).item()
    1.0
    """
    tensor = asarray(x) if dtype is None else astype(x, dtype, copy=False)
    less = _ddof(ddof, correction, "std")
    if where is None or where is True:
        return reduce_axes(std_over, tensor, axis, keepdims, "std", ddof=less)
    return root_of_variance(masked_variance(as_floating(tensor), where, axis, less, keepdims, "std"))


def logsumexp(x: ArrayLike, axis: Axis = None, keepdims: bool = False, *, where: Any = None) -> Any:
    """Logarithm of the sum of exponentials over axes, without overflow.

    Where all elements are minus infinity, so is the result, and the gradient is zero.

    Args:
        x: array of any shape.
        axis: axis or axes to reduce.
        keepdims: keep the reduced axes with extent one.
        where: elements to include; the others get an exactly zero gradient, and a row of none gives minus infinity.

    >>> import wengert as wg
    >>> round(wg.logsumexp(wg.tensor([1000.0, 1000.0])).item(), 3)
    1000.693
    """
    tensor = as_floating(asarray(x))
    return reduce_axes(logsumexp_over, masked_out(tensor, where, -math.inf, "logsumexp"), axis, keepdims, "logsumexp")


@composite(
    samples=[
        Sample((2, 3), axis=1),
        Sample((2, 3), (3,), axis=1, interval=(0.5, 2.0)),
        Sample((2, 3), (2, 3), interval=(0.5, 2.0)),
    ]
)
def average(x: ArrayLike, weights: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """Weighted mean over axes; the weights may be tracked.

    Args:
        x: array of any shape.
        weights: array of the same shape, or one number for each position along `axis`.
        axis: axis or axes to average over.
        keepdims: keep the reduced axes with extent one.

    Raises:
        ShapeError: the weights have neither the shape of the array nor the extent of the axis.

    >>> import wengert as wg
    >>> wg.average(wg.tensor([1.0, 5.0]), weights=wg.tensor([3.0, 1.0])).item()
    2.0
    """
    tensor = asarray(x)
    if weights is None:
        return boxing.operations.mean(tensor, axis, keepdims=keepdims)
    scale = asarray(weights)
    if scale.shape != tensor.shape:
        if scale.ndim != 1 or axis is None or isinstance(axis, (tuple, list)):
            raise ShapeError(f"average: weights of shape {scale.shape} do not fit an array of shape {tensor.shape}")
        place = canonical_axis(axis, tensor.ndim, "average")
        if scale.shape[0] != tensor.shape[place]:
            raise ShapeError(
                f"average: {scale.shape[0]} weights do not fit the extent {tensor.shape[place]} of axis {place}"
            )
        scale = boxing.operations.reshape(scale, [-1 if i == place else 1 for i in range(tensor.ndim)])
        scale = boxing.operations.broadcast_to(scale, tensor.shape)
    return sum(tensor * scale, axis, keepdims=keepdims) / sum(scale, axis, keepdims=keepdims)
