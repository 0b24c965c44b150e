"""Reading and writing by arrays of positions along one axis: `take`, `take_along_axis`, and what undoes them.

Positions are arguments, not parameters: they may be Tensors, and may be mapped over. They carry no derivative. Reading
a few rows of a large table costs as much as the rows in the sweep, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.compound import scatter_along, scatter_rows
from ..core import boxing
from ..core.dispatch import bind
from ..core.vspace import Scatter
from ..declare import Sample, linear
from ..declare.batching import to_front
from ..errors import DTypeError, ShapeError
from ..typing import Array, ArrayLike, Namespace, Shape
from .axes import canonical_axis
from .creation import asarray
from .shaping import broadcast_to, reshape

__all__ = ["put_along_axis", "take", "take_along_axis"]


def _choices(*shape: int, below: int) -> Any:
    def choices(rng: np.random.Generator) -> np.ndarray:
        return rng.integers(-below, below, shape)

    return choices


def _orders(*shape: int) -> Any:
    def orders(rng: np.random.Generator) -> np.ndarray:
        return np.argsort(rng.random(shape), axis=-1)

    return orders


# Whole slices along an axis.


@linear(
    samples=[
        Sample((4, 3), _choices(5, below=4), axis=0),
        Sample((3, 4, 2), _choices(2, 2, below=4), axis=1),
        Sample((3,), _choices(below=3), axis=0),
    ],
    reference="numpy.take",
    fixed=("indices",),
    masks=True,
)
def take_slices(xp: Namespace, x: Array, indices: Array, *, axis: int) -> Array:
    """Slices of an array at positions along an axis."""
    return xp.take(x, indices, axis=axis)


@take_slices.transpose_of("x")
def take_slices_transpose_x(
    xp: Namespace, out_bar: Array, x_shape: Shape, x_dtype: Any, indices: Array, axis: int
) -> Array:
    return xp.add_at(xp.zeros(x_shape, dtype=x_dtype), indices, out_bar, axis=axis)


@take_slices.raw_pull
def take_slices_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    axis, parent = node.params["axis"], node.inputs[0]
    indices: Any = node.saved[-1]
    if parent is None:
        return (None, None)

    def add_into(buffer: np.ndarray) -> None:
        scatter_rows(buffer, np.asarray(indices), np.asarray(out_bar), axis)

    return (Scatter(parent.shape, parent.dtype, add_into), None)


@take_slices.batch
def take_slices_batch(xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...], axis: int) -> tuple[Any, int]:
    x, indices = (to_front(xp, value, place) for value, place in zip(args, axes))
    if axes[1] is None:
        return bind(take_slices.primitive, (x, indices), {"axis": axis + 1}), 0
    if axes[0] is None:
        return bind(take_slices.primitive, (x, indices), {"axis": axis}), axis
    rows, offset = _flat_table(xp, x, indices, axis)
    taken = bind(take_slices.primitive, (rows, offset), {"axis": 0})
    index_axes = tuple(range(1, indices.ndim))
    return xp.moveaxis(taken, index_axes, tuple([axis + i for i in index_axes])), 0


def _flat_table(xp: Namespace, x: Any, indices: Any, axis: int) -> tuple[Any, Any]:
    """Lay the mapped tables out as one, under each other, with positions to match."""
    count, extent = x.shape[0], x.shape[axis + 1]
    table = xp.moveaxis(x, axis + 1, 1)
    rows = xp.reshape(table, (count * extent, *table.shape[2:]))
    forward = xp.where(xp.less(indices, 0), indices + extent, indices)
    return rows, forward + xp.reshape(xp.arange(count) * extent, (count,) + (1,) * (indices.ndim - 1))


@linear(
    samples=[
        Sample((4, 3), _choices(5, below=4), (5, 3), axis=0),
        Sample((3, 4, 2), _choices(2, 2, below=4), (3, 2, 2, 2), axis=1),
    ],
    fixed=("indices",),
)
def add_at(xp: Namespace, x: Array, indices: Array, values: Array, *, axis: int) -> Array:
    """A copy of `x` with slices of `values` added at positions along an axis; repeated positions add up."""
    return xp.add_at(x, indices, values, axis=axis)


@add_at.transpose_of("x")
def add_at_transpose_x(out_bar: Array) -> Array:
    return out_bar


@add_at.transpose_of("values")
def add_at_transpose_values(xp: Namespace, out_bar: Array, indices: Array, axis: int) -> Array:
    return xp.take(out_bar, indices, axis=axis)


@add_at.batched
def add_at_batched(xp: Namespace, x: Array, indices: Array, values: Array, *, axis: int) -> Array:
    rows, offset = _flat_table(xp, x, indices, axis)
    index_axes = tuple(range(1, indices.ndim))
    leading = xp.moveaxis(values, tuple([axis + i for i in index_axes]), index_axes)
    summed = bind(add_at.primitive, (rows, offset, leading), {"axis": 0})
    return xp.moveaxis(xp.reshape(summed, (x.shape[0], x.shape[axis + 1], *rows.shape[1:])), 1, axis + 1)


# Single elements along an axis.


@linear(
    samples=[
        Sample((3, 4), _choices(3, 2, below=4), axis=1),
        Sample((3, 4, 2), _choices(5, 4, 2, below=3), axis=0),
    ],
    reference="numpy.take_along_axis",
    fixed=("indices",),
    masks=True,
)
def take_along(xp: Namespace, x: Array, indices: Array, *, axis: int) -> Array:
    """Elements of each row at positions of its own."""
    return xp.take_along_axis(x, indices, axis=axis)


@take_along.transpose_of("x")
def take_along_transpose_x(
    xp: Namespace, out_bar: Array, x_shape: Shape, x_dtype: Any, indices: Array, axis: int
) -> Array:
    return xp.add_along_axis(xp.zeros(x_shape, dtype=x_dtype), indices, out_bar, axis=axis)


@take_along.raw_pull
def take_along_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    axis, parent = node.params["axis"], node.inputs[0]
    indices: Any = node.saved[-1]
    if parent is None:
        return (None, None)

    def add_into(buffer: np.ndarray) -> None:
        scatter_along(buffer, indices, out_bar, axis)

    return (Scatter(parent.shape, parent.dtype, add_into), None)


@take_along.batched
def take_along_batched(xp: Namespace, x: Array, indices: Array, *, axis: int) -> Array:
    return take_along(x, indices, axis=axis + 1)


@linear(
    samples=[
        Sample((3, 4), _choices(3, 2, below=4), (3, 2), axis=1),
        Sample((4, 2), _choices(5, 2, below=4), (5, 2), axis=0),
    ],
    fixed=("indices",),
)
def add_along_axis(xp: Namespace, x: Array, indices: Array, values: Array, *, axis: int) -> Array:
    """A copy of `x` with values added at positions along an axis; repeated positions add up."""
    return xp.add_along_axis(x, indices, values, axis=axis)


@add_along_axis.transpose_of("x")
def add_along_axis_transpose_x(out_bar: Array) -> Array:
    return out_bar


@add_along_axis.transpose_of("values")
def add_along_axis_transpose_values(xp: Namespace, out_bar: Array, indices: Array, axis: int) -> Array:
    return xp.take_along_axis(out_bar, indices, axis=axis)


@add_along_axis.batched
def add_along_axis_batched(xp: Namespace, x: Array, indices: Array, values: Array, *, axis: int) -> Array:
    return add_along_axis(x, indices, values, axis=axis + 1)


@linear(
    samples=[
        Sample((3, 4), _orders(3, 2), (3, 2), axis=1),
        Sample((3, 4), _choices(3, 6, below=4), (3, 6), axis=1),
    ],
    fixed=("indices",),
    masks=True,
)
def put_along(xp: Namespace, x: Array, indices: Array, values: Array, *, axis: int) -> Array:
    """A copy with values written at positions along an axis; the last write to a position wins."""
    return xp.put_along_axis(x, indices, values, axis=axis)


@put_along.transpose_of("x")
def put_along_transpose_x(xp: Namespace, out_bar: Array, indices: Array, values_shape: Shape, axis: int) -> Array:
    return xp.put_along_axis(out_bar, indices, xp.zeros(values_shape, dtype=out_bar.dtype), axis=axis)


@put_along.transpose_of("values")
def put_along_transpose_values(
    xp: Namespace, out_bar: Array, x_shape: Shape, indices: Array, values_shape: Shape, axis: int
) -> Array:
    order = xp.reshape(xp.arange(indices.size), values_shape)
    last = xp.put_along_axis(xp.zeros(x_shape, dtype=order.dtype), indices, order, axis=axis)
    survived = xp.equal(xp.take_along_axis(last, indices, axis=axis), order)
    return xp.where(survived, xp.take_along_axis(out_bar, indices, axis=axis), 0)


@put_along.batched
def put_along_batched(xp: Namespace, x: Array, indices: Array, values: Array, *, axis: int) -> Array:
    return put_along(x, indices, values, axis=axis + 1)


# The public functions.


def _integers(indices: ArrayLike, name: str) -> Any:
    tensor = asarray(indices)
    if tensor.dtype.kind not in "iu":
        if tensor.size:
            raise DTypeError(f"{name}: positions must be integers, not {tensor.dtype}")
        return boxing.operations.astype(tensor, np.intp)
    return tensor


def take(x: ArrayLike, indices: ArrayLike, axis: int | None = None, *, mode: str = "raise") -> Any:
    """Slices at positions along an axis (elements of the flattened array by default).

    Args:
        x: array of any shape, such as a table of embeddings.
        indices: integers of any shape, counted from the end if negative; they may repeat.
        axis: the axis that the positions count along.
        mode: what is done with positions that don't exist: "raise", "wrap" around, or "clip" to the ends.

    Raises:
        DTypeError: the positions are not integers.
        IndexError: one of them does not exist, in mode "raise".

    >>> import wengert as wg
    >>> wg.take(wg.tensor([[1.0, 2.0], [3.0, 4.0]]), [1, 0, 1], axis=0).tolist()
    [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
    """
    tensor, positions = asarray(x), _integers(indices, "take")
    if axis is None:
        tensor, axis = reshape(tensor, (-1,)), 0
    axis = canonical_axis(axis, tensor.ndim, "take")
    if mode == "wrap":
        positions = boxing.operations.remainder(positions, tensor.shape[axis])
    elif mode == "clip":
        positions = boxing.operations.clip(positions, 0, tensor.shape[axis] - 1)
    elif mode != "raise":
        raise ValueError(f"take: mode must be 'raise', 'wrap' or 'clip', not {mode!r}")
    try:
        return bind(take_slices.primitive, (tensor, positions), {"axis": axis})
    except IndexError as error:
        raise IndexError(f"take: {error}, in an array of shape {tensor.shape}") from None


def _aligned(x: ArrayLike, indices: ArrayLike, axis: int | None, name: str) -> tuple[Any, Any, int]:
    """Return array and positions of equal extents on all other axes."""
    tensor, positions = asarray(x), _integers(indices, name)
    if axis is None:
        if positions.ndim != 1:
            raise ShapeError(f"{name}: without an axis, positions must have one axis, not shape {positions.shape}")
        return reshape(tensor, (-1,)), positions, 0
    if positions.ndim != tensor.ndim:
        raise ShapeError(f"{name}: positions of shape {positions.shape} need as many axes as the array, {tensor.shape}")
    axis = canonical_axis(axis, tensor.ndim, name)
    others = [tuple([1 if i == axis else n for i, n in enumerate(shape)]) for shape in (tensor.shape, positions.shape)]
    if others[0] == others[1]:
        return tensor, positions, axis
    try:
        joint = list(np.broadcast_shapes(*others))
    except ValueError:
        raise ShapeError(
            f"{name}: positions of shape {positions.shape} do not fit an array of shape {tensor.shape}: all axes but "
            f"{axis} must broadcast"
        ) from None
    fitted = [broadcast_to(t, (*joint[:axis], t.shape[axis], *joint[axis + 1 :])) for t in (tensor, positions)]
    return fitted[0], fitted[1], axis


def take_along_axis(x: ArrayLike, indices: ArrayLike, axis: int | None = -1) -> Any:
    """Elements of each row at positions of its own; `argsort` and its like give such positions.

    Args:
        x: array of any shape.
        indices: integers with as many axes; other axes than `axis` broadcast.
        axis: the axis that the positions count along; None flattens the array.

    Raises:
        DTypeError: the positions are not integers.
        IndexError: one of them does not exist.
        ShapeError: the other axes don't fit.

    >>> import wengert as wg
    >>> wg.take_along_axis(wg.tensor([[1.0, 2.0], [3.0, 4.0]]), [[1], [0]], axis=1).tolist()
    [[2.0], [3.0]]
    """
    tensor, positions, place = _aligned(x, indices, axis, "take_along_axis")
    return bind(take_along.primitive, (tensor, positions), {"axis": place})


def put_along_axis(x: ArrayLike, indices: ArrayLike, values: ArrayLike, axis: int | None = -1) -> Any:
    """A copy with values written at positions along an axis; the last write to a position wins.

    NumPy's function of that name writes in place and returns None; this one leaves `x` as it is.

    >>> import wengert as wg
    >>> wg.put_along_axis(wg.zeros((2, 2)), [[1], [0]], 5.0, axis=1).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    """
    shape = asarray(x).shape
    tensor, positions, place = _aligned(x, indices, axis, "put_along_axis")
    written = boxing.operations.astype(asarray(values), tensor.dtype, copy=False)
    written = broadcast_to(written, positions.shape)
    out = bind(put_along.primitive, (tensor, positions, written), {"axis": place})
    return reshape(out, shape) if axis is None else out
