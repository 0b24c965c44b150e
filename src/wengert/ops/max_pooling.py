"""Max pooling: the largest element of every window of images of shape (count, channels, *extents).

The gradient goes to the first largest element of its window, in row-major order. What reads an array there
(`max_pool_take`) and what writes to there (`max_pool_transpose`) are each other's transposes, so that any order of
derivative needs no third.
"""

from __future__ import annotations

from typing import Any

from ..core.chains import Link, bind_chain
from ..declare import Sample, composite, linear, opaque
from ..typing import Array, ArrayLike, Namespace, Shape
from .creation import asarray
from .windows import (
    Widths,
    batch_of_images,
    demand_numbers,
    join_count,
    pooling_geometry,
    split_count,
    without_count,
)

__all__ = ["max_pool1d", "max_pool2d", "max_pool3d"]

_APART: Any = {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
_OVERLAPPING: Any = {"window": (3, 2), "stride": (2, 1), "padding": ((1, 1), (0, 1)), "dilation": (1, 2)}
_LINE: Any = {"window": (3,), "stride": (1,), "padding": ((1, 0),), "dilation": (1,)}


@opaque(
    samples=[
        Sample((2, 2, 4, 3), distinct=True, **_APART),
        Sample((1, 2, 4, 5), distinct=True, **_OVERLAPPING),
        Sample((2, 1, 5), distinct=True, **_LINE),
    ],
    masks=True,
)
def max_pool(xp: Namespace, x: Array, *, window: Shape, stride: Shape, padding: Widths, dilation: Shape) -> Array:
    """Largest element of every window; the gradient goes to the first of equals, NaN counts as the largest."""
    return xp.max_pool(x, window=window, stride=stride, padding=padding, dilation=dilation)


@max_pool.vjp
def max_pool_vjp(
    xp: Namespace, out_bar: Array, x: Array, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    return xp.max_pool_transpose(out_bar, x, window=window, stride=stride, padding=padding, dilation=dilation)


@max_pool.jvp
def max_pool_jvp(
    xp: Namespace, x: Array, x_dot: Array, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    return xp.max_pool_take(x_dot, x, window=window, stride=stride, padding=padding, dilation=dilation)


@max_pool.batched
def max_pool_batched(xp: Namespace, x: Array, **moves: Any) -> Array:
    return split_count(xp, max_pool(join_count(xp, x), **moves), x.shape[0], x.shape[1])


@linear(
    samples=[
        Sample((2, 2, 2, 1), (2, 2, 4, 3), distinct=True, **_APART),
        Sample((1, 2, 2, 4), (1, 2, 4, 5), distinct=True, **_OVERLAPPING),
        Sample((2, 1, 4), (2, 1, 5), distinct=True, **_LINE),
    ],
    masks=True,
    fixed=("x",),
)
def max_pool_transpose(
    xp: Namespace, y: Array, x: Array, *, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    """Zeros with `y` added where the first largest elements of the windows of `x` are."""
    return xp.max_pool_transpose(y, x, window=window, stride=stride, padding=padding, dilation=dilation)


@max_pool_transpose.transpose_of("y")
def max_pool_transpose_transpose(
    xp: Namespace, out_bar: Array, x: Array, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    return xp.max_pool_take(out_bar, x, window=window, stride=stride, padding=padding, dilation=dilation)


@max_pool_transpose.batched
def max_pool_transpose_batched(xp: Namespace, y: Array, x: Array, **moves: Any) -> Array:
    return split_count(xp, max_pool_transpose(join_count(xp, y), join_count(xp, x), **moves), x.shape[0], x.shape[1])


@linear(
    samples=[
        Sample((2, 2, 4, 3), (2, 2, 4, 3), distinct=True, **_APART),
        Sample((1, 2, 4, 5), (1, 2, 4, 5), distinct=True, **_OVERLAPPING),
        Sample((2, 1, 5), (2, 1, 5), distinct=True, **_LINE),
    ],
    masks=True,
    fixed=("x",),
)
def max_pool_take(
    xp: Namespace, y: Array, x: Array, *, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    """Elements of `y` read where the first largest elements of the windows of `x` are."""
    return xp.max_pool_take(y, x, window=window, stride=stride, padding=padding, dilation=dilation)


@max_pool_take.transpose_of("y")
def max_pool_take_transpose(
    xp: Namespace, out_bar: Array, x: Array, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    return xp.max_pool_transpose(out_bar, x, window=window, stride=stride, padding=padding, dilation=dilation)


@max_pool_take.batched
def max_pool_take_batched(xp: Namespace, y: Array, x: Array, **moves: Any) -> Array:
    return split_count(xp, max_pool_take(join_count(xp, y), join_count(xp, x), **moves), x.shape[0], x.shape[1])


def _max_pool(x: ArrayLike, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, rank: int) -> Any:
    name = f"max_pool{rank}d"
    images, single = batch_of_images(demand_numbers(asarray(x), name, "iuf"), rank, name)
    links = max_pool_links(images, kernel, stride, padding, dilation, ceil_mode)
    return without_count(bind_chain(images, links), single)


def max_pool_links(images: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> list[Link]:
    """Return the operation that pools images, of which only the shape is looked at.

    Raises:
        ShapeError: the windows do not fit.
    """
    extents = images.shape[2:]
    geometry = pooling_geometry(extents, kernel, stride, padding, dilation, ceil_mode, f"max_pool{len(extents)}d")
    return [Link(max_pool.primitive, (), geometry._asdict())]


@composite(
    samples=[
        Sample((2, 2, 5), distinct=True, kernel_size=2),
        Sample((2, 5), distinct=True, kernel_size=2, ceil_mode=True),
    ]
)
def max_pool1d(
    x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Largest element of every window of sequences, of shape (count, channels, length) or (channels, length).

    For the arguments see `max_pool2d`.

    Raises:
        ShapeError: the windows do not fit.

    >>> import wengert as wg
    >>> wg.max_pool1d(wg.tensor([[1.0, 3.0, 2.0, 4.0, 0.0]]), 2).tolist()
    [[3.0, 4.0]]
    """
    return _max_pool(x, kernel_size, stride, padding, dilation, ceil_mode, 1)


@composite(
    samples=[
        Sample((2, 1, 4, 3), distinct=True, kernel_size=(2, 3), stride=1, padding=(1, 0)),
        Sample((2, 5, 4), distinct=True, kernel_size=2, dilation=(2, 1), ceil_mode=True),
    ]
)
def max_pool2d(
    x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Largest element of every window of images; the gradient goes to the first of equals, in row-major order.

    Args:
        x: array of shape (count, channels, height, width), or (channels, height, width).
        kernel_size: extent of the windows; a number, or one for each axis.
        stride: steps between windows; by default they touch.
        padding: border that never wins, at most half a window wide; a number, or a number or a pair for each axis.
        dilation: steps between the elements of a window.
        ceil_mode: whether a last window that is not complete counts too.

    Raises:
        ShapeError: the windows do not fit.

    >>> import wengert as wg
    >>> wg.max_pool2d(wg.tensor([[[1.0, 2.0], [4.0, 3.0]]]), 2).tolist()
    [[[4.0]]]
    """
    return _max_pool(x, kernel_size, stride, padding, dilation, ceil_mode, 2)


@composite(samples=[Sample((1, 2, 3, 2, 4), distinct=True, kernel_size=2)])
def max_pool3d(
    x: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Largest element of every window of volumes, (count, channels, depth, height, width); as `max_pool2d`.

    Raises:
        ShapeError: the windows do not fit.

    >>> import wengert as wg
    >>> wg.max_pool3d(wg.ones((1, 2, 2, 2, 2)), 2).shape
    (1, 2, 1, 1, 1)
    """
    return _max_pool(x, kernel_size, stride, padding, dilation, ceil_mode, 3)
