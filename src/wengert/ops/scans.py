"""Running sums, products and recurrences along an axis; differences and the trapezoidal rule."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import boxing
from ..core.dispatch import bind
from ..declare import Sample, composite, linear, opaque
from ..errors import ShapeError
from ..typing import Array, ArrayLike, DTypeLike, Namespace
from .axes import canonical_axis
from .creation import asarray, astype

__all__ = ["cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "diff", "linear_recurrence", "trapezoid"]


@linear(
    samples=[Sample((4,), axis=0), Sample((2, 3), axis=1), Sample((3, 2, 2), axis=0)],
    reference="numpy.cumsum",
)
def cumsum_along(xp: Namespace, x: Array, *, axis: int) -> Array:
    """Running sum along an axis."""
    return xp.cumsum(x, axis=axis)


@cumsum_along.transpose
def cumsum_along_transpose(xp: Namespace, out_bar: Array, axis: int) -> Array:
    return xp.flip(xp.cumsum(xp.flip(out_bar, axis), axis=axis), axis)


@cumsum_along.batched
def cumsum_along_batched(xp: Namespace, x: Array, *, axis: int) -> Array:
    return cumsum_along(x, axis=axis + 1)


def _shifted(xp: Namespace, x: Any, axis: int, first: float, reverse: bool) -> Any:
    """Return the element before each one along an axis (after each one in reverse), `first` where there is none."""
    whole: tuple[Any, ...] = (slice(None),) * axis
    edge = xp.zeros_like(x[(*whole, slice(0, 1))]) + first
    if reverse:
        return xp.concatenate([x[(*whole, slice(1, None))], edge], axis=axis)
    return xp.concatenate([edge, x[(*whole, slice(0, -1))]], axis=axis)


@opaque(
    samples=[
        Sample((4,), (4,), axis=0, reverse=False, guarded=False),
        Sample((2, 3), (2, 3), axis=1, reverse=True, guarded=False),
        Sample((20, 3), (20, 3), axis=0, reverse=False, guarded=True),
    ]
)
def linear_recurrence(
    xp: Namespace, coefficient: Array, drive: Array, *, axis: int, reverse: bool, guarded: bool
) -> Array:
    """Solution of `h[i] = coefficient[i] * h[i - 1] + drive[i]` along an axis, from zero.

    Args:
        coefficient: factors; the first along the axis is not used.
        drive: what is added, of the same shape.
        axis: the axis that `i` counts along (not negative).
        reverse: count from the end instead.
        guarded: a state of exactly zero stays zero whatever it is multiplied by.

    >>> import wengert as wg
    >>> half = wg.tensor([0.5, 0.5, 0.5])
    >>> wg.linear_recurrence(half, wg.tensor([8.0, 0.0, 1.0]), axis=0, reverse=False, guarded=False).tolist()
    [8.0, 4.0, 3.0]
    """
    return xp.linear_recurrence(coefficient, drive, axis=axis, reverse=reverse, guarded=guarded)


@linear_recurrence.vjp
def linear_recurrence_vjp(
    xp: Namespace, out_bar: Array, coefficient: Array, out: Array, axis: int, reverse: bool
) -> tuple[Array, Array]:
    back = _shifted(xp, coefficient, axis, 0, not reverse)
    drive_bar = xp.linear_recurrence(back, out_bar, axis=axis, reverse=not reverse, guarded=True)
    return xp.guarded_product(_shifted(xp, out, axis, 0, reverse), drive_bar), drive_bar


@linear_recurrence.jvp
def linear_recurrence_jvp(
    xp: Namespace,
    coefficient: Array,
    out: Array,
    coefficient_dot: Array,
    drive_dot: Array,
    axis: int,
    reverse: bool,
    guarded: bool,
) -> Array:
    drive = drive_dot + xp.guarded_product(_shifted(xp, out, axis, 0, reverse), coefficient_dot)
    return xp.linear_recurrence(coefficient, drive, axis=axis, reverse=reverse, guarded=guarded)


@linear_recurrence.batched
def linear_recurrence_batched(
    xp: Namespace, coefficient: Array, drive: Array, *, axis: int, reverse: bool, guarded: bool
) -> Array:
    return linear_recurrence(coefficient, drive, axis=axis + 1, reverse=reverse, guarded=guarded)


def _some_zeros(rng: np.random.Generator) -> np.ndarray:
    array = rng.uniform(0.5, 2, (5, 3))
    array[1, 0] = array[2, 1] = array[4, 1] = 0
    return array


@opaque(
    samples=[
        Sample((4,), axis=0),
        Sample((2, 3), axis=1),
        Sample(_some_zeros, axis=0),
    ],
    reference="numpy.cumprod",
)
def cumprod_along(xp: Namespace, x: Array, *, axis: int) -> Array:
    """Running product along an axis."""
    return xp.cumprod(x, axis=axis)


@cumprod_along.vjp
def cumprod_along_vjp(xp: Namespace, out_bar: Array, x: Array, out: Array, axis: int) -> Array:
    # With before[i] the product of all that stand before i, and after[i] = out_bar[i] + x[i + 1] * after[i + 1], the
    # cotangent is before * after: no division, so any number of zeros is right.
    after = xp.linear_recurrence(_shifted(xp, x, axis, 0, True), out_bar, axis=axis, reverse=True, guarded=True)
    return xp.guarded_product(_shifted(xp, out, axis, 1, False), after)


@cumprod_along.jvp
def cumprod_along_jvp(xp: Namespace, x: Array, out: Array, x_dot: Array, axis: int) -> Array:
    drive = xp.guarded_product(_shifted(xp, out, axis, 1, False), x_dot)
    return xp.linear_recurrence(x, drive, axis=axis, reverse=False, guarded=True)


@cumprod_along.batched
def cumprod_along_batched(xp: Namespace, x: Array, *, axis: int) -> Array:
    return cumprod_along(x, axis=axis + 1)


def _scan(operation: Any, x: ArrayLike, axis: int | None, dtype: DTypeLike, name: str) -> Any:
    tensor = asarray(x) if dtype is None else astype(x, dtype, copy=False)
    if axis is None:
        tensor, axis = tensor.reshape(-1), 0
    return bind(operation.primitive, (tensor,), {"axis": canonical_axis(axis, tensor.ndim, name)})


def cumsum(x: ArrayLike, axis: int | None = None, dtype: DTypeLike = None) -> Any:
    """Running sum along an axis (over all elements in row-major order by default).

    >>> import wengert as wg
    >>> wg.cumsum(wg.tensor([1.0, 2.0, 3.0])).tolist()
    [1.0, 3.0, 6.0]
    """
    return _scan(cumsum_along, x, axis, dtype, "cumsum")


def cumprod(x: ArrayLike, axis: int | None = None, dtype: DTypeLike = None) -> Any:
    """Running product along an axis (over all elements by default); the gradient is right with any number of zeros.

    >>> import wengert as wg
    >>> wg.cumprod(wg.tensor([1.0, 2.0, 3.0])).tolist()
    [1.0, 2.0, 6.0]
    """
    return _scan(cumprod_along, x, axis, dtype, "cumprod")


def cumulative_sum(
    x: ArrayLike, /, *, axis: int | None = None, dtype: DTypeLike = None, include_initial: bool = False
) -> Any:
    """Running sum along an axis, as the Array API has it.

    Args:
        x: array of at least one axis; of exactly one, `axis` may be left out.
        axis: the axis to sum along.
        dtype: dtype of the result.
        include_initial: start with a zero, so that the result is longer by one.

    >>> import wengert as wg
    >>> wg.cumulative_sum(wg.tensor([1.0, 2.0]), include_initial=True).tolist()
    [0.0, 1.0, 3.0]
    """
    return _cumulative(cumsum_along, x, axis, dtype, include_initial, 0, "cumulative_sum")


def cumulative_prod(
    x: ArrayLike, /, *, axis: int | None = None, dtype: DTypeLike = None, include_initial: bool = False
) -> Any:
    """Running product along an axis, as the Array API has it.

    Args:
        x: array of at least one axis; of exactly one, `axis` may be left out.
        axis: the axis to multiply along.
        dtype: dtype of the result.
        include_initial: start with a one, so that the result is longer by one.

    >>> import wengert as wg
    >>> wg.cumulative_prod(wg.tensor([2.0, 3.0]), include_initial=True).tolist()
    [1.0, 2.0, 6.0]
    """
    return _cumulative(cumprod_along, x, axis, dtype, include_initial, 1, "cumulative_prod")


def _cumulative(
    operation: Any, x: ArrayLike, axis: int | None, dtype: DTypeLike, include: bool, first: int, name: str
) -> Any:
    tensor = asarray(x)
    if axis is None and tensor.ndim != 1:
        raise ShapeError(f"{name}: axis= must say along which axis of shape {tensor.shape}")
    axis = canonical_axis(0 if axis is None else axis, tensor.ndim, name)
    out = _scan(operation, tensor, axis, dtype, name)
    if not include:
        return out
    shape = tuple([1 if i == axis else n for i, n in enumerate(out.shape)])
    xp = boxing.operations
    return xp.concatenate([xp.full(shape, first, out.dtype), out], axis=axis)


@composite(
    samples=[Sample((5,)), Sample((3, 4), n=2, axis=0), Sample((3,), n=0)],
    reference="numpy.diff",
)
def diff(x: ArrayLike, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours along an axis, taken n times.

    Args:
        x: array of at least one axis.
        n: how many times.
        axis: the axis to go along.
        prepend: values to put before the first along the axis (a number stands for a slice of it).
        append: values to put after the last.

    >>> import wengert as wg
    >>> wg.diff(wg.tensor([1.0, 4.0, 9.0])).tolist()
    [3.0, 5.0]
    """
    if n < 0:
        raise ValueError(f"diff: n must not be negative, got {n}")
    tensor = asarray(x)
    place = canonical_axis(axis, tensor.ndim, "diff")
    if n and (prepend is not None or append is not None):
        edge_shape = tuple([1 if i == place else m for i, m in enumerate(tensor.shape)])
        parts = [_edge(prepend, edge_shape), tensor, _edge(append, edge_shape)]
        tensor = boxing.operations.concatenate([p for p in parts if p is not None], axis=place)
    whole = (slice(None),) * place
    for _ in range(n):
        tensor = tensor[(*whole, slice(1, None))] - tensor[(*whole, slice(None, -1))]
    return tensor


def _edge(value: Any, shape: tuple[int, ...]) -> Any:
    if value is None:
        return None
    tensor = asarray(value)
    return tensor if tensor.ndim else boxing.operations.broadcast_to(tensor, shape)


@composite(
    samples=[Sample((5,)), Sample((2, 4), dx=0.5, axis=1), Sample((4,), (4,))],
)
def trapezoid(y: ArrayLike, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    """Integral along an axis by the trapezoidal rule.

    Args:
        y: values.
        x: where they were taken: of the same shape, or one number for each position along the axis; may be tracked.
        dx: their distance, where `x` is not given.
        axis: the axis to integrate along.

    >>> import wengert as wg
    >>> wg.trapezoid(wg.tensor([1.0, 2.0, 3.0])).item()
    4.0
    """
    values = asarray(y)
    place = canonical_axis(axis, values.ndim, "trapezoid")
    whole = (slice(None),) * place
    pairs = values[(*whole, slice(1, None))] + values[(*whole, slice(None, -1))]
    if x is None:
        return (pairs * (dx / 2)).sum(place)
    points = asarray(x)
    if points.ndim == 1:
        widths = boxing.operations.reshape(diff(points), [-1 if i == place else 1 for i in range(values.ndim)])
    else:
        widths = diff(points, axis=place)
    return (pairs * widths).sum(place) * 0.5
