"""Views that rearrange axes without touching the data, as in NumPy: a write through one is seen through all."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from ..core.dispatch import bind
from ..declare import Sample, composite, linear
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Namespace, Shape
from .axes import canonical_axes, canonical_axis, canonical_shape
from .creation import asarray

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_to",
    "diagonal",
    "expand_dims",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "ravel",
    "reshape",
    "rollaxis",
    "rot90",
    "squeeze",
    "swapaxes",
    "transpose",
]


@linear(
    samples=[Sample((2, 3), newshape=(3, 2)), Sample((2, 3), newshape=(6,)), Sample((), newshape=(1, 1))], view=True
)
def reshape_to(xp: Namespace, x: Array, *, newshape: Shape) -> Array:
    """The same elements in row-major order under another shape."""
    return xp.reshape(x, newshape)


@reshape_to.transpose
def reshape_to_transpose(xp: Namespace, out_bar: Array, x_shape: Shape) -> Array:
    return xp.reshape(out_bar, x_shape)


@reshape_to.batched
def reshape_to_batched(xp: Namespace, x: Array, *, newshape: Shape) -> Array:
    return xp.reshape(x, (x.shape[0], *newshape))


@linear(samples=[Sample((2, 3), axes=(1, 0)), Sample((2, 3, 4), axes=(2, 0, 1)), Sample((), axes=())], view=True)
def permute(xp: Namespace, x: Array, *, axes: tuple[int, ...]) -> Array:
    """The same array with its axes in another order."""
    return xp.transpose(x, axes)


@permute.transpose
def permute_transpose(xp: Namespace, out_bar: Array, axes: tuple[int, ...]) -> Array:
    return xp.transpose(out_bar, tuple([axes.index(i) for i in builtins.range(len(axes))]))


@permute.batched
def permute_batched(xp: Namespace, x: Array, *, axes: tuple[int, ...]) -> Array:
    return xp.transpose(x, (0, *[a + 1 for a in axes]))


@linear(samples=[Sample((3,), shape=(2, 3)), Sample((2, 1), shape=(4, 2, 3)), Sample((), shape=(2,))], view=True)
def stretch(xp: Namespace, x: Array, *, shape: Shape) -> Array:
    """An array repeated along new or unit axes without taking memory."""
    return xp.broadcast_to(x, shape)


@stretch.transpose
def stretch_transpose(xp: Namespace, out_bar: Array, x_shape: Shape) -> Array:
    lead = out_bar.ndim - len(x_shape)
    stretched = [i + lead for i, n in enumerate(x_shape) if n == 1 and out_bar.shape[i + lead] != 1]
    summed = xp.sum(out_bar, axis=(*builtins.range(lead), *stretched)) if lead or stretched else out_bar
    return xp.reshape(summed, x_shape)


@stretch.batched
def stretch_batched(xp: Namespace, x: Array, *, shape: Shape) -> Array:
    padded = xp.reshape(x, (x.shape[0],) + (1,) * (len(shape) - x.ndim + 1) + tuple(x.shape[1:]))
    return xp.broadcast_to(padded, (x.shape[0], *shape))


@linear(samples=[Sample((2, 3), axis=(0,)), Sample((2, 3, 2), axis=(0, 2))], view=True, reference="numpy.flip")
def reverse(xp: Namespace, x: Array, *, axis: tuple[int, ...]) -> Array:
    """An array with the order of elements along some axes reversed."""
    return xp.flip(x, axis)


@reverse.transpose
def reverse_transpose(xp: Namespace, out_bar: Array, axis: tuple[int, ...]) -> Array:
    return xp.flip(out_bar, axis)


@reverse.batched
def reverse_batched(xp: Namespace, x: Array, *, axis: tuple[int, ...]) -> Array:
    return xp.flip(x, tuple([a + 1 for a in axis]))


@linear(
    samples=[Sample((3, 4), offset=0, axis1=0, axis2=1), Sample((4, 2, 3), offset=-1, axis1=0, axis2=2)],
    view=True,
    masks=True,
    reference="numpy.diagonal",
)
def diagonal_of(xp: Namespace, x: Array, *, offset: int, axis1: int, axis2: int) -> Array:
    """The diagonal of each matrix that two axes span, along a new last axis."""
    out = xp.diagonal(x, offset, axis1, axis2)
    if type(x) is np.ndarray and x.flags.writeable:
        out.flags.writeable = True  # a view like any other, which NumPy hands out locked
    return out


def _diagonal_positions(shape: Shape, offset: int, axis1: int, axis2: int) -> tuple[np.ndarray, np.ndarray]:
    length = max(0, min(shape[axis1] - max(-offset, 0), shape[axis2] - max(offset, 0)))
    positions = np.arange(length)
    return positions + max(-offset, 0), positions + max(offset, 0)


@diagonal_of.transpose
def diagonal_of_transpose(
    xp: Namespace, out_bar: Array, x_shape: Shape, x_dtype: Any, offset: int, axis1: int, axis2: int
) -> Array:
    rows, columns = _diagonal_positions(x_shape, offset, axis1, axis2)
    key: list[Any] = [builtins.slice(None)] * len(x_shape)
    key[axis1], key[axis2] = rows, columns
    # NumPy puts the joint axis of two index arrays first unless they are neighbours; bring out_bar into that order.
    place = min(axis1, axis2) if abs(axis1 - axis2) == 1 else 0
    return xp.scatter_add(xp.zeros(x_shape, dtype=x_dtype), xp.moveaxis(out_bar, -1, place), key=tuple(key))


@diagonal_of.batched
def diagonal_of_batched(xp: Namespace, x: Array, *, offset: int, axis1: int, axis2: int) -> Array:
    return diagonal_of(x, offset=offset, axis1=axis1 + 1, axis2=axis2 + 1)


def reshape(x: ArrayLike, /, shape: Any) -> Any:
    """Give the elements another shape, in row-major order; one extent may be -1.

    Raises:
        ShapeError: the numbers of elements differ.

    >>> import wengert as wg
    >>> wg.reshape(wg.arange(6), (2, -1)).shape
    (2, 3)
    """
    tensor = asarray(x)
    return bind(reshape_to.primitive, (tensor,), {"newshape": canonical_shape(shape, tensor.size, "reshape")})


def transpose(x: ArrayLike, axes: Any = None) -> Any:
    """Permute the axes (reverse them by default).

    >>> import wengert as wg
    >>> wg.transpose(wg.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    tensor = asarray(x)
    if axes is None:
        order = tuple(reversed(builtins.range(tensor.ndim)))
    else:
        order = tuple(canonical_axis(a, tensor.ndim, "transpose") for a in axes)
        if sorted(order) != list(builtins.range(tensor.ndim)):
            raise ShapeError(
                f"transpose: axes {tuple(axes)} are not a permutation of the {tensor.ndim} axes of the array"
            )
    return bind(permute.primitive, (tensor,), {"axes": order})


permute_dims = transpose


def matrix_transpose(x: ArrayLike, /) -> Any:
    """Swap the last two axes."""
    tensor = asarray(x)
    if tensor.ndim < 2:
        raise ShapeError(f"matrix_transpose: needs at least two axes, got shape {tensor.shape}")
    return swapaxes(tensor, -1, -2)


def swapaxes(x: ArrayLike, axis1: int, axis2: int) -> Any:
    """Exchange two axes."""
    tensor = asarray(x)
    order = list(builtins.range(tensor.ndim))
    first, second = canonical_axis(axis1, tensor.ndim, "swapaxes"), canonical_axis(axis2, tensor.ndim, "swapaxes")
    order[first], order[second] = order[second], order[first]
    return bind(permute.primitive, (tensor,), {"axes": tuple(order)})


def moveaxis(x: ArrayLike, source: Any, destination: Any) -> Any:
    """Move axes to new positions; the others keep their order.

    >>> import wengert as wg
    >>> wg.moveaxis(wg.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    tensor = asarray(x)
    sources = [canonical_axis(a, tensor.ndim, "moveaxis") for a in _sequence(source)]
    targets = [canonical_axis(a, tensor.ndim, "moveaxis") for a in _sequence(destination)]
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise ShapeError(
            f"moveaxis: source {source} and destination {destination} must be distinct axes of equal number"
        )
    order = [a for a in builtins.range(tensor.ndim) if a not in sources]
    for target, axis in sorted(zip(targets, sources)):
        order.insert(target, axis)
    return bind(permute.primitive, (tensor,), {"axes": tuple(order)})


def rollaxis(x: ArrayLike, axis: int, start: int = 0) -> Any:
    """Roll one axis back until it stands before position `start` (NumPy's old spelling of `moveaxis`)."""
    tensor = asarray(x)
    axis = canonical_axis(axis, tensor.ndim, "rollaxis")
    start = start + tensor.ndim if start < 0 else start
    return moveaxis(tensor, axis, start - 1 if axis < start else start)


_SEQUENCES: Any = (tuple, list)


def _sequence(axis: Any) -> Any:
    return axis if isinstance(axis, _SEQUENCES) else (axis,)


def expand_dims(x: ArrayLike, axis: Any) -> Any:
    """Insert axes of extent one.

    >>> import wengert as wg
    >>> wg.expand_dims(wg.zeros(3), (0, -1)).shape
    (1, 3, 1)
    """
    tensor = asarray(x)
    axes = canonical_axes(axis, tensor.ndim + len(_sequence(axis)), "expand_dims")
    shape = list(tensor.shape)
    for a in axes:
        shape.insert(a, 1)
    return bind(reshape_to.primitive, (tensor,), {"newshape": tuple(shape)})


def squeeze(x: ArrayLike, axis: Any = None) -> Any:
    """Remove axes of extent one.

    Raises:
        ShapeError: a named axis has another extent.
    """
    tensor = asarray(x)
    if axis is None:
        axes: tuple[int, ...] = tuple(i for i, n in enumerate(tensor.shape) if n == 1)
    else:
        axes = canonical_axes(axis, tensor.ndim, "squeeze")
    for a in axes:
        if tensor.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of shape {tensor.shape} has extent {tensor.shape[a]}, not 1")
    shape = tuple(n for i, n in enumerate(tensor.shape) if i not in axes)
    return bind(reshape_to.primitive, (tensor,), {"newshape": shape})


def ravel(x: ArrayLike) -> Any:
    """Flatten to one axis, in row-major order."""
    return reshape(x, (-1,))


def flatten(x: ArrayLike, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Join the axes from `start_dim` to `end_dim` into one."""
    tensor = asarray(x)
    if tensor.ndim == 0:
        return reshape(tensor, (1,))
    return reshape(tensor, flat_shape(tensor.shape, start_dim, end_dim))


def flat_shape(shape: Shape, start_dim: int, end_dim: int) -> Shape:
    """Return the shape that `flatten` makes of one of at least one axis."""
    first = canonical_axis(start_dim, len(shape), "flatten")
    last = canonical_axis(end_dim, len(shape), "flatten")
    return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


def broadcast_to(x: ArrayLike, /, shape: Any) -> Any:
    """Repeat an array along new or unit axes, without taking memory.

    Raises:
        ShapeError: the shapes do not broadcast.
    """
    target: Any = tuple(_sequence(shape))
    tensor = asarray(x)
    try:
        return bind(stretch.primitive, (tensor,), {"shape": target})
    except ShapeError:
        raise ShapeError(
            f"broadcast_to: shape {tensor.shape} does not broadcast to {target}; aligned from the right, its extents "
            "must be 1 or those of the target"
        ) from None


def spread(x: ArrayLike, shape: Any) -> Any:
    """Broadcast in a rule, where nobody asks for a view (the raw namespace may fill memory instead)."""
    return broadcast_to(x, shape)


def broadcast_arrays(*arrays: ArrayLike) -> list[Any]:
    """Broadcast arrays against each other."""
    tensors = [asarray(a) for a in arrays]
    try:
        shape = np.broadcast_shapes(*[t.shape for t in tensors])
    except ValueError:
        shapes = " and ".join(str(t.shape) for t in tensors)
        raise ShapeError(f"broadcast_arrays: shapes {shapes} do not broadcast together") from None
    return [broadcast_to(t, shape) for t in tensors]


def flip(x: ArrayLike, axis: Any = None) -> Any:
    """Reverse the order of elements along axes (all by default)."""
    tensor = asarray(x)
    return bind(reverse.primitive, (tensor,), {"axis": canonical_axes(axis, tensor.ndim, "flip")})


def fliplr(x: ArrayLike) -> Any:
    """Reverse the second axis."""
    return flip(x, 1)


def flipud(x: ArrayLike) -> Any:
    """Reverse the first axis."""
    return flip(x, 0)


def rot90(x: ArrayLike, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """Rotate by quarter turns in the plane of two axes."""
    tensor = asarray(x)
    turns = k % 4
    if turns == 0:
        return tensor
    if turns == 2:
        return flip(tensor, axes)
    return swapaxes(flip(tensor, axes[1]), *axes) if turns == 1 else flip(swapaxes(tensor, *axes), axes[1])


def diagonal(x: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of each matrix that two axes span, along a new last axis; a view."""
    tensor = asarray(x)
    first = canonical_axis(axis1, tensor.ndim, "diagonal")
    second = canonical_axis(axis2, tensor.ndim, "diagonal")
    if first == second:
        raise ShapeError(f"diagonal: axis1 and axis2 are the same axis {first}")
    return bind(diagonal_of.primitive, (tensor,), {"offset": offset, "axis1": first, "axis2": second})


@composite(samples=[Sample((3,)), Sample(())])
def atleast_1d(x: ArrayLike) -> Any:
    """The array with at least one axis."""
    tensor = asarray(x)
    return tensor if tensor.ndim else reshape(tensor, (1,))


@composite(samples=[Sample((3,)), Sample(())])
def atleast_2d(x: ArrayLike) -> Any:
    """The array with at least two axes; new ones come first."""
    tensor = asarray(x)
    return tensor if tensor.ndim >= 2 else reshape(tensor, (1,) * (2 - tensor.ndim) + tensor.shape)


@composite(samples=[Sample((3,)), Sample((2, 3)), Sample(())])
def atleast_3d(x: ArrayLike) -> Any:
    """The array with at least three axes, placed as NumPy places them."""
    tensor = asarray(x)
    if tensor.ndim >= 3:
        return tensor
    return reshape(tensor, {0: (1, 1, 1), 1: (1, *tensor.shape, 1), 2: (*tensor.shape, 1)}[tensor.ndim])
