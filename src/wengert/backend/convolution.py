"""Convolution and its two transposes in NumPy: windows laid out as a matrix, a few images at a time, and one product.

Images have shape (count, channels, *extents), kernels (outputs, channels of a group, *extents). The matrix has a row
for each channel and place in the kernel, and a column for each place that the kernel is put to. Where the stride is
one, a row is a stretch of the padded image as it lies in memory: it is copied whole, with the few columns where the
kernel would reach over the edge, whose results are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from math import isfinite, prod
from typing import Any, NamedTuple

import numpy as np

from ..typing import Array, Shape

Widths = tuple[tuple[int, int], ...]

_as_strided: Any = np.lib.stride_tricks.as_strided
_HALF, _SINGLE = np.dtype(np.float16), np.dtype(np.float32)
_BLOCK = 1 << 16
"""Elements of the matrix that are laid out at a time: they stay in the caches until the product reads them."""
_SPREAD_BLOCK = 1 << 19
"""The same where the matrix is added up into images: here calls of NumPy cost more than the caches save."""


class _Plan(NamedTuple):
    """How windows lie in a padded image.

    Attributes:
        kernel, stride, dilation: of the convolution.
        padded: extents of the image with its border.
        steps: elements from one place to the next along each of them.
        interior: the region of the padded image that the image itself fills.
        places: extents of a row of the matrix.
        place_steps: elements of the padded image between neighbours in a row.
        kept: the region of `places` that counts.
        slack: elements that the last row reads beyond the last image.
    """

    kernel: Shape
    stride: Shape
    dilation: Shape
    padded: Shape
    steps: Shape
    interior: tuple[Any, ...]
    places: Shape
    place_steps: Shape
    kept: tuple[Any, ...]
    slack: int

    def columns(self, stretch: slice) -> int:
        """Return how many places there are in a stretch of them along the first axis."""
        return (stretch.stop - stretch.start) * prod(self.places[1:])


@lru_cache(maxsize=256)
def _plan(extents: Shape, kernel: Shape, stride: Shape, padding: Widths, dilation: Shape, whole: bool) -> _Plan:
    padded = tuple([n + low + high for n, (low, high) in zip(extents, padding)])
    steps = tuple([prod(padded[i + 1 :]) for i in range(len(padded))])
    interior = tuple([slice(low, low + n) for n, (low, _) in zip(extents, padding)])
    out = window_places(extents, kernel, stride, padding, dilation)
    kept = tuple([slice(0, n) for n in out])
    if whole and max(stride) == 1 and len(out):
        places = (out[0], *padded[1:])
        last = sum([(k - 1) * d * step for k, d, step in zip(kernel, dilation, steps)])
        slack = max(0, last + prod(places) - prod(padded))
        return _Plan(kernel, stride, dilation, padded, steps, interior, places, steps, kept, slack)
    place_steps = tuple([s * step for s, step in zip(stride, steps)])
    return _Plan(kernel, stride, dilation, padded, steps, interior, out, place_steps, kept, 0)


def window_places(extents: Shape, kernel: Shape, stride: Shape, padding: Widths, dilation: Shape) -> Shape:
    """Return how many places there are, along each axis, for windows inside a padded image.

    Raises:
        ValueError: there is none.
    """
    places = tuple(
        [
            (n + low + high - d * (k - 1) - 1) // s + 1
            for n, k, s, (low, high), d in zip(extents, kernel, stride, padding, dilation)
        ]
    )
    if min(places) < 1:
        raise ValueError(f"windows of {kernel} do not fit into images of {extents} with a border of {padding}")
    return places


def demand_shape(given: Shape, wanted: Shape) -> None:
    """Refuse an array that is not of the shape that follows from the other one.

    Raises:
        ValueError: naming both shapes.
    """
    if given != wanted:
        raise ValueError(f"an argument of shape {given} should have shape {wanted}")


def _blocks(plan: _Plan, count: int, channels: int, elements: int) -> tuple[list[slice], list[slice]]:
    """Divide the images into blocks of about so many elements, and if one is too much, their places along an axis.

    Returns:
        Blocks of images, and stretches of places along the first axis: one of all where a block has several images.
    """
    row = max(1, channels * prod(plan.kernel) * prod(plan.places[1:]))
    return _divided(count, elements // (row * plan.places[0])), _divided(plan.places[0], elements // row)


def _divided(count: int, size: int) -> list[slice]:
    size = max(1, size)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _bordered(plan: _Plan, channels: int, count: int, dtype: Any) -> Array:
    """Return zeros for a block of padded images, channel by channel, with room at the end for what rows read beyond."""
    return np.zeros(channels * count * prod(plan.padded) + plan.slack, dtype)


def _images(plan: _Plan, buffer: Array, channels: int, count: int) -> Array:
    """Return the part of the buffer without the border, as (channels, count, *extents)."""
    size = channels * count * prod(plan.padded)
    return buffer[:size].reshape((channels, count, *plan.padded))[(slice(None), slice(None), *plan.interior)]


def _windows(plan: _Plan, buffer: Array, channels: int, count: int, stretch: slice) -> Array:
    """Return the matrix of a stretch of places as a view of the buffer: (channels, *kernel, count, *places)."""
    image, item = prod(plan.padded), buffer.itemsize
    strides = (count * image, *[d * s for d, s in zip(plan.dilation, plan.steps)], image, *plan.place_steps)
    if plan.places[1:] == plan.padded[1:] and plan.place_steps == plan.steps:
        shape, strides = (plan.columns(stretch),), (*strides[: len(plan.kernel) + 2], 1)
    else:
        shape = (stretch.stop - stretch.start, *plan.places[1:])
    start = buffer[stretch.start * plan.place_steps[0] :]
    return _as_strided(start, (channels, *plan.kernel, count, *shape), tuple([s * item for s in strides]))


class _Matrix:
    """The matrix of blocks of images, and the memory that it is laid out in, block by block."""

    def __init__(self, plan: _Plan, x: Array, groups: int, dtype: Any) -> None:
        self.plan = plan
        self.x = x
        self.groups = groups
        self.channels = x.shape[1]
        self.blocks, self.stretches = _blocks(plan, len(x), self.channels, _BLOCK)
        most = self.blocks[0].stop if self.blocks else 0
        self.buffer = _bordered(plan, self.channels, most, dtype)
        self.room = np.empty(self.channels * prod(plan.kernel) * most * plan.columns(self.stretches[0]), dtype)
        self.count = most

    def __iter__(self) -> Iterator[tuple[slice, slice, Array]]:
        """Yield blocks of images, stretches of places, and their matrix, (groups, rows, columns), until the next."""
        plan = self.plan
        rows = self.channels // self.groups * prod(plan.kernel)
        for block in self.blocks:
            size = block.stop - block.start
            if size != self.count:
                self.buffer, self.count = _bordered(plan, self.channels, size, self.buffer.dtype), size
            _images(plan, self.buffer, self.channels, size)[...] = np.swapaxes(self.x[block], 0, 1)
            for stretch in self.stretches:
                columns = size * plan.columns(stretch)
                windows = _windows(plan, self.buffer, self.channels, size, stretch)
                matrix = self.room[: self.groups * rows * columns]
                np.copyto(matrix.reshape(windows.shape), windows)
                yield block, stretch, matrix.reshape((self.groups, rows, columns))


def _grouped(weight: Array, groups: int) -> Array:
    rows = weight.shape[0] // groups
    return weight.reshape((groups, rows, prod(weight.shape[1:])))


def _working(dtype: Any) -> Any:
    """Return the dtype to add up in: sums of many float16 would lose most of their digits, and take long."""
    return _SINGLE if dtype == _HALF else dtype


def _finite(array: Array) -> bool:
    """Return whether an array is finite, by its sum of squares if BLAS can do it; a false alarm costs time alone."""
    if array.dtype.char not in "fd":
        return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
    return isfinite(np.vdot(array, array))


def convolve(x: Array, weight: Array, *, stride: Shape, padding: Widths, dilation: Shape, groups: int) -> Array:
    """Sum the products of kernels with what lies under them, at every place that they are put to."""
    result = np.result_type(x, weight)
    dtype = _working(result)
    plan = _plan(x.shape[2:], weight.shape[2:], stride, padding, dilation, _finite(weight))
    count, channels, outputs = x.shape[0], x.shape[1], weight.shape[0]
    demand_shape(weight.shape[:2], (outputs, channels // groups))
    out = np.empty((count, outputs, *[k.stop for k in plan.kept]), result)
    factors = _grouped(weight.astype(dtype, copy=False), groups)
    for block, stretch, matrix in _Matrix(plan, x, groups, dtype):
        made = np.matmul(factors, matrix)
        shape = (outputs, block.stop - block.start, stretch.stop - stretch.start, *plan.places[1:])
        out[block, :, stretch] = np.swapaxes(made.reshape(shape)[_kept(plan)], 0, 1)
    return out


def convolve_transpose_x(
    y: Array, weight: Array, *, extents: Shape, stride: Shape, padding: Widths, dilation: Shape, groups: int
) -> Array:
    """Spread every element of `y` through the kernels to where it came from: images of the given extents."""
    result = np.result_type(y, weight)
    dtype = _working(result)
    factors = _grouped(weight.astype(dtype, copy=False), groups).swapaxes(1, 2)
    plan = _plan(extents, weight.shape[2:], stride, padding, dilation, _finite(weight))
    count, channels = y.shape[0], weight.shape[1] * groups
    demand_shape(y.shape, (count, weight.shape[0], *[k.stop for k in plan.kept]))
    out = np.empty((count, channels, *extents), result)
    blocks, stretches = _blocks(plan, count, channels, _SPREAD_BLOCK)
    for block in blocks:
        size = block.stop - block.start
        buffer = _bordered(plan, channels, size, dtype)
        for stretch in stretches:
            spread = np.matmul(factors, _placed(plan, y[block, :, stretch], groups, dtype))
            windows = _windows(plan, buffer, channels, size, stretch)
            spread = spread.reshape(windows.shape)
            for offset in product(*[range(k) for k in plan.kernel]):
                windows[(slice(None), *offset)] += spread[(slice(None), *offset)]
        out[block] = np.swapaxes(_images(plan, buffer, channels, size), 0, 1)
    return out


def _placed(plan: _Plan, y: Array, groups: int, dtype: Any) -> Array:
    """Return a stretch of `y` in columns, as (groups, rows, columns), with zeros in those that do not count."""
    count, outputs, rows = y.shape[:3]
    placed = np.zeros((outputs, count, rows, *plan.places[1:]), dtype)
    placed[_kept(plan)] = np.swapaxes(y, 0, 1)
    return placed.reshape((groups, outputs // groups, prod(placed.shape[1:])))


def _kept(plan: _Plan) -> tuple[Any, ...]:
    """Return the key of the places that count, in an array whose last axes are a stretch of places."""
    return (..., slice(None), *plan.kept[1:])


def convolve_transpose_weight(
    y: Array, x: Array, *, kernel: Shape, stride: Shape, padding: Widths, dilation: Shape, groups: int
) -> Array:
    """Sum, for every place in the kernel, the products of `y` with what of `x` lies under that place."""
    result = np.result_type(y, x)
    dtype = _working(result)
    plan = _plan(x.shape[2:], kernel, stride, padding, dilation, x.dtype.kind not in "fc" or bool(np.isfinite(x).all()))
    count, channels, outputs = x.shape[0], x.shape[1], y.shape[1]
    demand_shape(y.shape, (count, outputs, *[k.stop for k in plan.kept]))
    rows = channels // groups * prod(kernel)
    out = np.zeros((groups, outputs // groups, rows), dtype)
    for block, stretch, matrix in _Matrix(plan, x, groups, dtype):
        out += np.matmul(_placed(plan, y[block, :, stretch], groups, dtype), matrix.swapaxes(1, 2))
    return out.reshape((outputs, channels // groups, *kernel)).astype(result, copy=False)
