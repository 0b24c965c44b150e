"""Sums, means, extrema and products over any axes."""

from __future__ import annotations

from typing import Any

from ..core.dispatch import bind
from ..declare import Sample, linear
from ..typing import Array, ArrayLike, Axis, DTypeLike, Namespace, Shape
from .axes import canonical_axes
from .creation import asarray, astype


@linear(
    samples=[
        Sample((2, 3), axis=(0,), keepdims=False),
        Sample((2, 3, 2), axis=(0, 2), keepdims=True),
        Sample((2, 3), axis=(0, 1), keepdims=False),
        Sample((), axis=(), keepdims=False),
    ],
    reference="numpy.sum",
)
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


def sum(x: ArrayLike, axis: Axis = None, dtype: DTypeLike = None, keepdims: bool = False) -> Any:
    """Sum over axes (all by default).

    Args:
        x: array of any shape.
        axis: axis or axes to sum over.
        dtype: dtype of the accumulator and the result.
        keepdims: keep the reduced axes with extent one.

    >>> import wengert as wg
    >>> wg.sum(wg.ones((2, 3)), axis=1).tolist()
    [3.0, 3.0]
    """
    tensor = asarray(x) if dtype is None else astype(x, dtype, copy=False)
    return bind(
        sum_over.primitive, (tensor,), {"axis": canonical_axes(axis, tensor.ndim, "sum"), "keepdims": bool(keepdims)}
    )
