"""Average pooling: the mean of every window of images of shape (count, channels, *extents).

Sums over windows, and sums over the windows that an element lies in, are each other's transposes.
"""

# What users write is Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..core.dispatch import bind
from ..declare import Sample, composite, linear
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Namespace, Shape
from .contraction import tensordot
from .creation import asarray
from .reductions import as_floating
from .shaping import moveaxis
from .windows import (
    Geometry,
    Widths,
    batch_of_images,
    demand_numbers,
    join_count,
    per_axis,
    pooling_geometry,
    split_count,
    widths,
    without_count,
)

__all__ = ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "avg_pool3d"]

_APART: Any = {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
_OVERLAPPING: Any = {"window": (3, 2), "stride": (2, 1), "padding": ((1, 1), (0, 1)), "dilation": (1, 2)}
_LINE: Any = {"window": (3,), "stride": (1,), "padding": ((1, 0),), "dilation": (1,)}


@linear(samples=[Sample((2, 2, 4, 3), **_APART), Sample((1, 2, 4, 5), **_OVERLAPPING), Sample((2, 1, 5), **_LINE)])
def sum_pool(xp: Namespace, x: Array, *, window: Shape, stride: Shape, padding: Widths, dilation: Shape) -> Array:
    """Sum of every window; the border counts as zero."""
    return xp.sum_pool(x, window=window, stride=stride, padding=padding, dilation=dilation)


@sum_pool.transpose
def sum_pool_pull(
    xp: Namespace, out_bar: Array, x_shape: Shape, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    return xp.sum_pool_transpose(
        out_bar, extents=x_shape[2:], window=window, stride=stride, padding=padding, dilation=dilation
    )


@sum_pool.batched
def sum_pool_batched(xp: Namespace, x: Array, **moves: Any) -> Array:
    return split_count(xp, sum_pool(join_count(xp, x), **moves), x.shape[0], x.shape[1])


@linear(
    samples=[
        Sample((2, 2, 2, 1), extents=(4, 3), **_APART),
        Sample((1, 2, 2, 4), extents=(4, 5), **_OVERLAPPING),
        Sample((2, 1, 4), extents=(5,), **_LINE),
    ]
)
def sum_pool_transpose(
    xp: Namespace, y: Array, *, extents: Shape, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    """For every element of images of given extents the sum of `y` over the windows that it lies in."""
    return xp.sum_pool_transpose(y, extents=extents, window=window, stride=stride, padding=padding, dilation=dilation)


@sum_pool_transpose.transpose
def sum_pool_transpose_pull(
    xp: Namespace, out_bar: Array, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    return xp.sum_pool(out_bar, window=window, stride=stride, padding=padding, dilation=dilation)


@sum_pool_transpose.batched
def sum_pool_transpose_batched(xp: Namespace, y: Array, **moves: Any) -> Array:
    return split_count(xp, sum_pool_transpose(join_count(xp, y), **moves), y.shape[0], y.shape[1])


def _avg_pool(
    x: ArrayLike, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool, rank: int
) -> Any:
    name = f"avg_pool{rank}d"
    images, single = batch_of_images(as_floating(demand_numbers(asarray(x), name)), rank, name)
    extents = images.shape[2:]
    geometry = pooling_geometry(extents, kernel, stride, padding, 1, ceil_mode, name)
    out = bind(sum_pool.primitive, (images,), geometry._asdict())
    counted = widths(padding, rank, geometry, name) if count_include_pad else ((0, 0),) * rank
    if geometry.padding == counted:
        return without_count(out / prod(geometry.window), single)
    counts = _counts(extents, geometry, counted)
    return without_count(out / counts.astype(images.dtype), single)


def _counts(extents: Shape, geometry: Geometry, counted: Widths) -> np.ndarray:
    """Return how many elements of every window count: those of the array and of the padding `counted`."""
    counts = np.ones((), np.intp)
    for n, k, s, (low, high), (before, after) in zip(
        extents, geometry.window, geometry.stride, geometry.padding, counted
    ):
        starts = np.arange(0, n + low + high - k + 1, s) - low
        along = np.minimum(starts + k, n + after) - np.maximum(starts, -before)
        counts = np.multiply.outer(counts, along)
    return counts


@composite(
    samples=[Sample((2, 2, 5), kernel_size=2), Sample((2, 5), kernel_size=3, stride=2, padding=1, ceil_mode=True)]
)
def avg_pool1d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """Mean of every window of sequences, of shape (count, channels, length) or (channels, length); as `avg_pool2d`.

    Raises:
        ShapeError: the windows do not fit.

    >>> import wengert as wg
    >>> wg.avg_pool1d(wg.tensor([[1.0, 3.0, 2.0, 4.0]]), 2).tolist()
    [[2.0, 3.0]]
    """
    return _avg_pool(x, kernel_size, stride, padding, ceil_mode, count_include_pad, 1)


@composite(
    samples=[
        Sample((2, 1, 4, 3), kernel_size=(2, 3), stride=1, padding=(1, 0)),
        Sample((2, 5, 4), kernel_size=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    ]
)
def avg_pool2d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """Mean of every window of images.

    Args:
        x: array of shape (count, channels, height, width), or (channels, height, width).
        kernel_size: extent of the windows; a number, or one for each axis.
        stride: steps between windows; by default they touch.
        padding: border of zeros, at most half a window wide; a number, or a number or a pair for each axis.
        ceil_mode: whether a last window that is not complete counts too.
        count_include_pad: whether the border counts in the mean; what lies beyond it never does.

    Raises:
        ShapeError: the windows do not fit.

    >>> import wengert as wg
    >>> wg.avg_pool2d(wg.tensor([[[1.0, 2.0], [4.0, 3.0]]]), 2).tolist()
    [[[2.5]]]
    """
    return _avg_pool(x, kernel_size, stride, padding, ceil_mode, count_include_pad, 2)


@composite(samples=[Sample((1, 2, 3, 2, 4), kernel_size=2)])
def avg_pool3d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """Mean of every window of volumes, (count, channels, depth, height, width); as `avg_pool2d`.

    Raises:
        ShapeError: the windows do not fit.

    >>> import wengert as wg
    >>> wg.avg_pool3d(wg.ones((1, 2, 2, 2, 2)), 2).shape
    (1, 2, 1, 1, 1)
    """
    return _avg_pool(x, kernel_size, stride, padding, ceil_mode, count_include_pad, 3)


def _adaptive(x: ArrayLike, output_size: Any, rank: int) -> Any:
    name = f"adaptive_avg_pool{rank}d"
    images, single = batch_of_images(as_floating(demand_numbers(asarray(x), name)), rank, name)
    extents = images.shape[2:]
    sizes = per_axis(_filled(output_size, extents), rank, name, "output_size")
    if 0 in extents:
        raise ShapeError(f"{name}: x of shape {images.shape} has no elements to take means of")
    if all([n % size == 0 for n, size in zip(extents, sizes)]):
        window = tuple([n // size for n, size in zip(extents, sizes)])
        geometry = Geometry(window, window, ((0, 0),) * rank, (1,) * rank)
        out = bind(sum_pool.primitive, (images,), geometry._asdict()) / prod(window)
        return without_count(out, single)
    for axis, (n, size) in enumerate(zip(extents, sizes), 2):
        shares = _shares(n, size).astype(images.dtype)
        images = moveaxis(tensordot(images, shares, ((axis,), (1,))), -1, axis)
    return without_count(images, single)


def _filled(output_size: Any, extents: Shape) -> Any:
    """Put the extents that there are in the place of None."""
    if output_size is None:
        return extents
    if not isinstance(output_size, (tuple, list)) or len(output_size) != len(extents):
        return output_size
    return tuple([n if size is None else size for n, size in zip(extents, output_size)])


def _shares(extent: int, size: int) -> np.ndarray:
    """Return the matrix that takes `extent` elements to `size` means of stretches that may overlap by one."""
    shares = np.zeros((size, extent))
    for i in range(size):
        start, stop = i * extent // size, -(-(i + 1) * extent // size)
        shares[i, start:stop] = 1 / (stop - start)
    return shares


@composite(samples=[Sample((2, 2, 5), output_size=2), Sample((2, 6), output_size=3)])
def adaptive_avg_pool1d(x: ArrayLike, output_size: Any) -> Any:
    """Mean of each of a given number of stretches that a sequence is divided into; as `adaptive_avg_pool2d`.

    >>> import wengert as wg
    >>> wg.adaptive_avg_pool1d(wg.tensor([[1.0, 3.0, 2.0]]), 2).tolist()
    [[2.0, 2.5]]
    """
    return _adaptive(x, output_size, 1)


@composite(samples=[Sample((2, 1, 4, 3), output_size=1), Sample((2, 3, 5), output_size=(2, None))])
def adaptive_avg_pool2d(x: ArrayLike, output_size: Any) -> Any:
    """Mean of each of the regions that images are divided into, for results of given extents.

    Region i of n along an axis of m elements goes from floor(i m / n) to ceil((i + 1) m / n), as in PyTorch.

    Args:
        x: array of shape (count, channels, height, width), or (channels, height, width).
        output_size: extents of the result; a number, or one for each axis, None for as many as there are.

    Raises:
        ShapeError: the array has another number of axes, or no elements.

    >>> import wengert as wg
    >>> wg.adaptive_avg_pool2d(wg.tensor([[[1.0, 2.0], [4.0, 3.0]]]), 1).tolist()
    [[[2.5]]]
    """
    return _adaptive(x, output_size, 2)
