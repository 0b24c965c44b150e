"""Largest elements and sums over windows in NumPy, axis by axis: both can be taken along one axis after the other.

Images have shape (count, channels, *extents). The border is filled with what changes nothing, and never gets a share of
a cotangent. Of equal elements the first of a window, in row-major order, is its largest: the rows are searched first,
then the columns of what they gave.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..typing import Array, Shape
from .convolution import Widths, demand_shape, window_places


class _Axis(NamedTuple):
    """How windows lie along one axis of an array."""

    axis: int
    extent: int
    window: int
    stride: int
    low: int
    high: int
    dilation: int
    places: int

    def region(self, ndim: int, start: int, stop: int, step: int = 1) -> tuple[Any, ...]:
        return tuple([slice(start, stop, step) if a == self.axis else slice(None) for a in range(ndim)])

    def member(self, ndim: int, offset: int) -> tuple[Any, ...]:
        """Return the key, in the array with its border, of the elements at one offset in all windows."""
        start = offset * self.dilation
        return self.region(ndim, start, start + self.stride * (self.places - 1) + 1, self.stride)

    def is_inside(self, ndim: int, offset: int) -> Array:
        """Return which windows have an element of the array itself at an offset, for broadcasting along the axis."""
        where = np.arange(self.places) * self.stride + offset * self.dilation - self.low
        return ((where >= 0) & (where < self.extent)).reshape([-1 if a == self.axis else 1 for a in range(ndim)])


def _axes(extents: Shape, window: Shape, stride: Shape, padding: Widths, dilation: Shape) -> list[_Axis]:
    places = window_places(extents, window, stride, padding, dilation)
    return [
        _Axis(i + 2, n, k, s, low, high, d, m)
        for i, (n, k, s, (low, high), d, m) in enumerate(zip(extents, window, stride, padding, dilation, places))
    ]


def _bordered(x: Array, along: _Axis, fill: Any) -> Array:
    if not along.low and not along.high:
        return x
    shape = tuple([n + along.low + along.high if a == along.axis else n for a, n in enumerate(x.shape)])
    out = np.empty(shape, x.dtype)
    out[along.region(x.ndim, 0, along.low)] = fill
    out[along.region(x.ndim, along.low, along.low + along.extent)] = x
    out[along.region(x.ndim, along.low + along.extent, shape[along.axis])] = fill
    return out


def _least(dtype: Any) -> Any:
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else np.iinfo(dtype).min


def _reduced(x: Array, along: _Axis, ufunc: Any, fill: Any) -> Array:
    bordered = _bordered(x, along, fill)
    out = bordered[along.member(x.ndim, 0)]
    if along.window == 1:
        return np.array(out)
    out = ufunc(out, bordered[along.member(x.ndim, 1)])
    for offset in range(2, along.window):
        ufunc(out, bordered[along.member(x.ndim, offset)], out=out)
    return out


def max_pool(x: Array, *, window: Shape, stride: Shape, padding: Widths, dilation: Shape) -> Array:
    """Return the largest element of every window; NaN where it holds one."""
    for along in reversed(_axes(x.shape[2:], window, stride, padding, dilation)):
        x = _reduced(x, along, np.maximum, _least(x.dtype))
    return x


def sum_pool(x: Array, *, window: Shape, stride: Shape, padding: Widths, dilation: Shape) -> Array:
    """Return the sum of every window."""
    for along in reversed(_axes(x.shape[2:], window, stride, padding, dilation)):
        x = _reduced(x, along, np.add, 0)
    return x


def sum_pool_transpose(
    y: Array, *, extents: Shape, window: Shape, stride: Shape, padding: Widths, dilation: Shape
) -> Array:
    """Give every element of an image of the given extents the sum of `y` over the windows that it lies in."""
    axes = _axes(extents, window, stride, padding, dilation)
    demand_shape(y.shape[2:], tuple([along.places for along in axes]))
    for along in axes:
        out = _border_of_zeros(y, along)
        for offset in range(along.window):
            out[along.member(y.ndim, offset)] += y
        y = out[along.region(y.ndim, along.low, along.low + along.extent)]
    return np.ascontiguousarray(y)


def _border_of_zeros(y: Array, along: _Axis) -> Array:
    extent = along.extent + along.low + along.high
    return np.zeros(tuple([extent if a == along.axis else n for a, n in enumerate(y.shape)]), y.dtype)


class _Stage(NamedTuple):
    """One axis of a maximum: what went in, with its border, and what came out."""

    along: _Axis
    before: Array
    after: Array


def _stages(x: Array, window: Shape, stride: Shape, padding: Widths, dilation: Shape) -> list[_Stage]:
    stages: list[_Stage] = []
    axes = _axes(x.shape[2:], window, stride, padding, dilation)
    for along in reversed(axes):
        before = _bordered(x, along, _least(x.dtype))
        x = _reduced(x, along, np.maximum, _least(x.dtype))
        stages.append(_Stage(along, before, x))
    return stages


def _firsts(stage: _Stage) -> list[Array]:
    """Return, for each offset in the windows, where the first largest element is."""
    along, before, after = stage
    ndim = after.ndim
    has_nan = after.dtype.kind == "f" and bool(np.isnan(after).any())
    bordered = along.low > 0 or along.high > 0
    if along.window == 2 and not bordered and not has_nan:
        first = np.equal(before[along.member(ndim, 0)], after)
        return [first, ~first]
    firsts: list[Array] = []
    free: Any = None
    for offset in range(along.window):
        member = before[along.member(ndim, offset)]
        first = np.equal(member, after)
        if has_nan:
            first |= np.isnan(member)
        if bordered:
            first &= along.is_inside(ndim, offset)
        if free is None:
            free = ~first
        else:
            first &= free
            free &= ~first
        firsts.append(first)
    return firsts


def max_pool_transpose(y: Array, x: Array, *, window: Shape, stride: Shape, padding: Widths, dilation: Shape) -> Array:
    """Give every element of `y` to where the first largest element of its window in `x` is; zero elsewhere."""
    stages = _stages(x, window, stride, padding, dilation)
    demand_shape(y.shape, stages[-1].after.shape)
    for stage in reversed(stages):
        along = stage.along
        out = _border_of_zeros(y, along)
        apart = along.stride > (along.window - 1) * along.dilation
        for offset, first in enumerate(_firsts(stage)):
            target = out[along.member(y.ndim, offset)]
            share = _chosen(first, y)
            if apart:
                target[...] = share
            else:
                target += share
        y = out[along.region(y.ndim, along.low, along.low + along.extent)]
    return np.ascontiguousarray(y)


def max_pool_take(y: Array, x: Array, *, window: Shape, stride: Shape, padding: Widths, dilation: Shape) -> Array:
    """Read `y` where the first largest element of every window in `x` is."""
    demand_shape(y.shape, x.shape)
    for stage in _stages(x, window, stride, padding, dilation):
        along = stage.along
        bordered = _bordered(y, along, 0)
        y = np.zeros(stage.after.shape, y.dtype)
        for offset, first in enumerate(_firsts(stage)):
            y += _chosen(first, bordered[along.member(y.ndim, offset)])
    return y


def _chosen(where: Array, y: Array) -> Array:
    """Return `y` there and zero elsewhere, even of what is infinite: its bits times zero or one, without a branch."""
    if y.dtype.itemsize > 8:
        return np.where(where, y, y.dtype.type(0))
    bits = y.view(f"i{y.dtype.itemsize}")
    return np.multiply(bits, where.view(np.int8), dtype=bits.dtype).view(y.dtype)
