"""Shifts, borders, triangles and diagonals; positions inserted and deleted."""

from __future__ import annotations

import builtins
import operator
from typing import Any

import numpy as np

from ..core import boxing
from ..core.dispatch import bind
from ..declare import Sample, composite, linear
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Axis, Namespace, Shape
from .axes import canonical_axes, canonical_axis
from .creation import asarray
from .joining import concatenate
from .reductions import sum
from .shaping import broadcast_to, diagonal, ravel, reshape

__all__ = ["delete", "diag", "diagflat", "insert", "pad", "roll", "trace", "tril", "triu"]

_SEQUENCES: Any = (tuple, list)
_SLICE: Any = slice
Widths = tuple[tuple[int, int], ...]


@linear(
    samples=[Sample((4,), shift=(1,), axis=(0,)), Sample((2, 3), shift=(-1, 2), axis=(0, 1))], reference="numpy.roll"
)
def roll_along(xp: Namespace, x: Array, *, shift: tuple[int, ...], axis: tuple[int, ...]) -> Array:
    """Elements moved along axes; what leaves at one end enters at the other."""
    return xp.roll(x, shift, axis)


@roll_along.transpose
def roll_along_transpose(xp: Namespace, out_bar: Array, shift: tuple[int, ...], axis: tuple[int, ...]) -> Array:
    return xp.roll(out_bar, tuple([-s for s in shift]), axis)


@roll_along.batched
def roll_along_batched(xp: Namespace, x: Array, *, shift: tuple[int, ...], axis: tuple[int, ...]) -> Array:
    return roll_along(x, shift=shift, axis=tuple([a + 1 for a in axis]))


def roll(x: ArrayLike, shift: Any, axis: Axis = None) -> Any:
    """Move elements along axes (along all of them, flattened, by default); what leaves at one end enters at the other.

    >>> import wengert as wg
    >>> wg.roll(wg.arange(4), 1).tolist()
    [3, 0, 1, 2]
    """
    tensor = asarray(x)
    if axis is None:
        return reshape(roll(ravel(tensor), shift, 0), tensor.shape)
    axes: tuple[Any, ...] = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    shifts: tuple[Any, ...] = tuple(shift) if isinstance(shift, _SEQUENCES) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        if len(axes) != 1:
            raise ShapeError(f"roll: {len(shifts)} shifts do not fit {len(axes)} axes")
        axes = (*axes,) * len(shifts)
    params = {
        "shift": tuple(operator.index(s) for s in shifts),
        "axis": tuple(canonical_axis(a, tensor.ndim, "roll") for a in axes),
    }
    return bind(roll_along.primitive, (tensor,), params)


def _inside(shape: Shape, widths: Widths) -> tuple[Any, ...]:
    return tuple([builtins.slice(before, before + n) for n, (before, _) in zip(shape, widths)])


@linear(samples=[Sample((3,), (), widths=((1, 2),)), Sample((2, 3), (), widths=((0, 1), (2, 0)))], masks=True)
def pad_constant(xp: Namespace, x: Array, value: Array, *, widths: Widths) -> Array:
    """An array inside a border of one value."""
    shape = tuple([before + n + after for n, (before, after) in zip(x.shape, widths)])
    return xp.write_region(xp.full(shape, value, dtype=x.dtype), x, steps=(), key=_inside(x.shape, widths))


@pad_constant.transpose_of("x")
def pad_constant_transpose_x(out_bar: Array, x_shape: Shape, widths: Widths) -> Array:
    return out_bar[_inside(x_shape, widths)]


@pad_constant.transpose_of("value")
def pad_constant_transpose_value(xp: Namespace, out_bar: Array, x_shape: Shape, widths: Widths) -> Array:
    return xp.sum(xp.write_region(out_bar, 0.0, steps=(), key=_inside(x_shape, widths)))


@pad_constant.batched
def pad_constant_batched(xp: Namespace, x: Array, value: Array, *, widths: Widths) -> Array:
    padded = pad_constant(x, 0.0, widths=((0, 0), *widths))
    border = np.ones(padded.shape[1:], np.bool_)
    border[_inside(x.shape[1:], widths)] = False
    return xp.where(border, xp.reshape(value, (-1,) + (1,) * len(widths)), padded)


def _canonical_widths(pad_width: Any, ndim: int) -> Widths:
    try:
        pairs = np.broadcast_to(np.asarray(pad_width), (ndim, 2)).tolist()
        widths = tuple([(operator.index(before), operator.index(after)) for before, after in pairs])
    except (ValueError, TypeError):
        raise ShapeError(
            f"pad: pad_width {pad_width!r} is not one number, one pair of numbers, or a pair for each of {ndim} axes"
        ) from None
    if builtins.any(w < 0 for pair in widths for w in pair):
        raise ShapeError(f"pad: widths must not be negative, got {pad_width!r}")
    return widths


_INDEXED = ("edge", "reflect", "symmetric", "wrap")


@composite(
    samples=[
        Sample((3,), pad_width=2),
        Sample((2, 3), pad_width=((1, 0), (2, 3)), mode="edge"),
        Sample((3, 4), pad_width=(2, 1), mode="reflect"),
        Sample((3,), pad_width=4, mode="symmetric"),
        Sample((3,), pad_width=4, mode="wrap"),
        Sample((2, 2), pad_width=1, constant_values=((1.0, 2.0), (3.0, 4.0))),
    ],
    reference="numpy.pad",
)
def pad(x: ArrayLike, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    """Put a border around an array.

    Args:
        x: array of any shape.
        pad_width: widths before and after: one number, a pair, or a pair for each axis.
        mode: "constant", "edge" (the outermost value), "reflect" (mirrored, the edge once), "symmetric" (mirrored, the
            edge twice), or "wrap" (periodic).
        constant_values: the border's value, which may be a tracked Tensor; or numbers shaped as `pad_width` may be.

    Raises:
        ShapeError: widths that do not fit the array.
        ValueError: another mode.

    >>> import wengert as wg
    >>> wg.pad(wg.tensor([1.0, 2.0]), 1).tolist(), wg.pad(wg.tensor([1.0, 2.0]), 1, mode="edge").tolist()
    ([0.0, 1.0, 2.0, 0.0], [1.0, 1.0, 2.0, 2.0])
    """
    tensor = asarray(x)
    widths = _canonical_widths(pad_width, tensor.ndim)
    if mode == "constant":
        if isinstance(constant_values, (int, float, boxing.Tensor)) or np.ndim(constant_values) == 0:
            return bind(pad_constant.primitive, (tensor, _border_value(constant_values, tensor)), {"widths": widths})
        return _pad_sides(tensor, widths, np.broadcast_to(np.asarray(constant_values), (tensor.ndim, 2)))
    if mode not in _INDEXED:
        raise ValueError(f"pad: mode {mode!r} is none of 'constant', {', '.join(repr(m) for m in _INDEXED)}")
    for axis, pair in enumerate(widths):
        if pair != (0, 0):
            if not tensor.shape[axis]:
                raise ShapeError(f"pad: axis {axis} of shape {tensor.shape} is empty: there is nothing to {mode}")
            positions = np.pad(np.arange(tensor.shape[axis]), pair, mode=mode)  # type: ignore[call-overload]
            tensor = boxing.operations.take(tensor, positions, axis=axis)
    return tensor


def _border_value(value: Any, tensor: Any) -> Any:
    border = asarray(value)
    if border.ndim:
        raise ShapeError(f"pad: a tracked border value must be a scalar, got shape {border.shape}")
    return boxing.operations.astype(border, tensor.dtype, copy=False)


def _pad_sides(tensor: Any, widths: Widths, values: Any) -> Any:
    for axis, (pair, borders) in enumerate(zip(widths, values.tolist())):
        for side in (0, 1):
            one_side = [(0, 0)] * tensor.ndim
            one_side[axis] = (pair[0], 0) if side == 0 else (0, pair[1])
            value = _border_value(borders[side], tensor)
            tensor = bind(pad_constant.primitive, (tensor, value), {"widths": tuple(one_side)})
    return tensor


@linear(samples=[Sample((3, 4), k=0), Sample((2, 3, 3), k=-1), Sample((3, 2), k=1)], reference="numpy.tril", masks=True)
def lower_triangle(xp: Namespace, x: Array, *, k: int) -> Array:
    """Matrices with zeros above a diagonal."""
    return xp.tril(x, k)


@lower_triangle.transpose
def lower_triangle_transpose(xp: Namespace, out_bar: Array, k: int) -> Array:
    return xp.tril(out_bar, k)


@lower_triangle.batched
def lower_triangle_batched(xp: Namespace, x: Array, *, k: int) -> Array:
    return lower_triangle(x, k=k)


@linear(samples=[Sample((3, 4), k=0), Sample((2, 3, 3), k=-1), Sample((3, 2), k=1)], reference="numpy.triu", masks=True)
def upper_triangle(xp: Namespace, x: Array, *, k: int) -> Array:
    """Matrices with zeros below a diagonal."""
    return xp.triu(x, k)


@upper_triangle.transpose
def upper_triangle_transpose(xp: Namespace, out_bar: Array, k: int) -> Array:
    return xp.triu(out_bar, k)


@upper_triangle.batched
def upper_triangle_batched(xp: Namespace, x: Array, *, k: int) -> Array:
    return upper_triangle(x, k=k)


def _matrices(x: ArrayLike, name: str) -> Any:
    tensor = asarray(x)
    if tensor.ndim < 2:
        raise ShapeError(f"{name}: needs at least two axes, got shape {tensor.shape}")
    return tensor


def tril(x: ArrayLike, /, k: int = 0) -> Any:
    """Lower triangle: zeros above the k-th diagonal of each matrix.

    >>> import wengert as wg
    >>> wg.tril(wg.ones((2, 2))).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return bind(lower_triangle.primitive, (_matrices(x, "tril"),), {"k": operator.index(k)})


def triu(x: ArrayLike, /, k: int = 0) -> Any:
    """Upper triangle: zeros below the k-th diagonal of each matrix.

    >>> import wengert as wg
    >>> wg.triu(wg.ones((2, 2))).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    return bind(upper_triangle.primitive, (_matrices(x, "triu"),), {"k": operator.index(k)})


def _diagonal_key(n: int, offset: int) -> tuple[Any, ...]:
    places = np.arange(n)
    return Ellipsis, places + builtins.max(-offset, 0), places + builtins.max(offset, 0)


@linear(samples=[Sample((3,), offset=0), Sample((2, 3), offset=-1), Sample((2,), offset=2)])
def diagonal_matrix(xp: Namespace, x: Array, *, offset: int) -> Array:
    """Matrices with the rows of an array on a diagonal, and zeros elsewhere."""
    n = x.shape[-1]
    order = n + abs(offset)
    zeros = xp.zeros((*x.shape[:-1], order, order), dtype=x.dtype)
    return xp.write_region(zeros, x, steps=(), key=_diagonal_key(n, offset))


@diagonal_matrix.transpose
def diagonal_matrix_transpose(xp: Namespace, out_bar: Array, offset: int) -> Array:
    return xp.diagonal(out_bar, offset, -2, -1)


@diagonal_matrix.batched
def diagonal_matrix_batched(xp: Namespace, x: Array, *, offset: int) -> Array:
    return diagonal_matrix(x, offset=offset)


def diag(x: ArrayLike, k: int = 0) -> Any:
    """The k-th diagonal of a matrix (a view), or a matrix with a given diagonal.

    Raises:
        ShapeError: the array has neither one axis nor two.

    >>> import wengert as wg
    >>> wg.diag(wg.tensor([1.0, 2.0])).tolist(), wg.diag(wg.eye(2)).tolist()
    ([[1.0, 0.0], [0.0, 2.0]], [1.0, 1.0])
    """
    tensor = asarray(x)
    if tensor.ndim == 1:
        return bind(diagonal_matrix.primitive, (tensor,), {"offset": operator.index(k)})
    if tensor.ndim == 2:
        return diagonal(tensor, k)
    raise ShapeError(f"diag: needs one axis or two, got shape {tensor.shape}")


def diagflat(x: ArrayLike, k: int = 0) -> Any:
    """A matrix with all elements of an array on its k-th diagonal."""
    return diag(ravel(asarray(x)), k)


@composite(samples=[Sample((3, 3)), Sample((2, 3, 4), offset=1, axis1=2, axis2=0)], reference="numpy.trace")
def trace(x: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Sum of the diagonal of each matrix that two axes span.

    >>> import wengert as wg
    >>> wg.trace(wg.eye(3)).item()
    3.0
    """
    return sum(diagonal(x, offset, axis1, axis2), -1)


@composite(samples=[Sample((4,), obj=1), Sample((3, 4), obj=(0, 2), axis=1)], reference="numpy.delete")
def delete(x: ArrayLike, obj: Any, axis: int | None = None) -> Any:
    """A copy without the positions of `obj` along an axis (of the flattened array by default).

    >>> import wengert as wg
    >>> wg.delete(wg.tensor([1.0, 2.0, 3.0]), 1).tolist()
    [1.0, 3.0]
    """
    tensor, axis = _flattened_unless(x, axis, "delete")
    extent: int = tensor.shape[axis]
    return boxing.operations.take(tensor, np.delete(np.arange(extent), _positions(obj)), axis=axis)


@composite(samples=[Sample((3,), 1, ()), Sample((2, 3), 1, (2, 2), axis=1), Sample((3,), 2, (2,))])
def insert(x: ArrayLike, obj: Any, values: ArrayLike, axis: int | None = None) -> Any:
    """A copy with values inserted before the positions of `obj` along an axis (of the flattened array by default).

    >>> import wengert as wg
    >>> wg.insert(wg.tensor([1.0, 3.0]), 1, 2.0).tolist()
    [1.0, 2.0, 3.0]
    """
    tensor, axis = _flattened_unless(x, axis, "insert")
    extent: int = tensor.shape[axis]
    where: Any = _positions(obj)
    added = boxing.operations.astype(asarray(values), tensor.dtype, copy=False)
    single = not isinstance(where, _SLICE) and np.ndim(where) == 0
    count: int
    if single and added.ndim == tensor.ndim:
        count = added.shape[axis]
    else:
        if single and added.ndim:
            added = boxing.operations.expand_dims(added, axis)
        count = len(np.arange(extent)[where]) if isinstance(where, _SLICE) else np.size(where)
    shape = tuple([count if i == axis else n for i, n in enumerate(tensor.shape)])
    numbers = np.arange(extent, extent + count)
    order = np.insert(np.arange(extent), where, numbers)
    joined = concatenate([tensor, broadcast_to(added, shape)], axis)
    return boxing.operations.take(joined, order, axis=axis)


def _flattened_unless(x: ArrayLike, axis: int | None, name: str) -> tuple[Any, int]:
    tensor = asarray(x)
    if axis is None:
        return ravel(tensor), 0
    return tensor, canonical_axes(axis, tensor.ndim, name)[0]


def _positions(obj: Any) -> Any:
    return boxing.data_of(obj) if isinstance(obj, boxing.Tensor) else obj
