"""Putting arrays together and taking them apart: concatenation, stacks, splits, copies side by side."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ..core import boxing
from ..core.aliasing import is_alone
from ..core.dispatch import bind
from ..declare import Sample, composite, linear
from ..errors import ShapeError
from ..typing import Array, ArrayLike, DTypeLike, Namespace, Shape
from .axes import canonical_axis
from .creation import asarray, astype
from .shaping import atleast_1d, atleast_2d, atleast_3d, broadcast_to, reshape, swapaxes

__all__ = [
    "append",
    "array_split",
    "block",
    "column_stack",
    "concat",
    "concatenate",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "meshgrid",
    "repeat",
    "row_stack",
    "split",
    "stack",
    "tile",
    "unstack",
    "vsplit",
    "vstack",
]


@linear(
    samples=[
        Sample((2, 3), (1, 3), axis=0),
        Sample((2, 3), (2, 1), (2, 2), axis=1),
        Sample((3,), axis=0),
        Sample((2,), (0,), axis=0),
    ],
)
def concatenate_along(xp: Namespace, *arrays: Array, axis: int) -> Array:
    """Arrays one after the other along an axis that they have."""
    return xp.concatenate(arrays, axis=axis)


@concatenate_along.transpose
def concatenate_along_transpose(
    xp: Namespace, out_bar: Array, arrays_shape: tuple[Shape, ...], axis: int
) -> tuple[Array, ...]:
    whole: tuple[Any, ...] = (slice(None),) * axis
    ends = list(accumulate([shape[axis] for shape in arrays_shape]))
    return tuple([out_bar[(*whole, slice(end - shape[axis], end))] for shape, end in zip(arrays_shape, ends)])


@concatenate_along.batched
def concatenate_along_batched(xp: Namespace, *arrays: Array, axis: int) -> Array:
    return concatenate_along(*arrays, axis=axis + 1)


@linear(samples=[Sample((2, 3), (2, 3), axis=0), Sample((2,), (2,), (2,), axis=1), Sample((), (), axis=0)])
def stack_along(xp: Namespace, *arrays: Array, axis: int) -> Array:
    """Arrays of one shape along a new axis."""
    return xp.stack(arrays, axis=axis)


@stack_along.transpose
def stack_along_transpose(
    xp: Namespace, out_bar: Array, arrays_shape: tuple[Shape, ...], axis: int
) -> tuple[Array, ...]:
    whole: tuple[Any, ...] = (slice(None),) * axis
    return tuple([out_bar[(*whole, i)] for i in range(len(arrays_shape))])


@stack_along.batched
def stack_along_batched(xp: Namespace, *arrays: Array, axis: int) -> Array:
    return stack_along(*arrays, axis=axis + 1)


def _tensors(arrays: Any, name: str, dtype: DTypeLike = None) -> list[Any]:
    if isinstance(arrays, boxing.Tensor) and not arrays.ndim:
        raise ShapeError(f"{name}: needs a sequence of arrays, got one of shape ()")
    tensors = [asarray(a) if dtype is None else astype(a, dtype, copy=False) for a in arrays]
    if not tensors:
        raise ShapeError(f"{name}: needs at least one array")
    return tensors


def concatenate(arrays: Sequence[ArrayLike], axis: int | None = 0, *, dtype: DTypeLike = None) -> Any:
    """Join arrays along an axis that they have; all other extents must be equal.

    Args:
        arrays: a sequence of arrays.
        axis: the axis to join along; None flattens them first.
        dtype: dtype of the result.

    Raises:
        ShapeError: the other extents differ.

    >>> import wengert as wg
    >>> wg.concatenate([wg.ones(2), wg.zeros(1)]).tolist()
    [1.0, 1.0, 0.0]
    """
    tensors = _tensors(arrays, "concatenate", dtype)
    if axis is None:
        tensors, axis = [reshape(t, (-1,)) for t in tensors], 0
    first = tensors[0].shape
    if not first:
        raise ShapeError("concatenate: arrays without axes cannot be joined; stack them instead")
    axis = canonical_axis(axis, len(first), "concatenate")
    for tensor in tensors[1:]:
        if (*tensor.shape[:axis], *tensor.shape[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]):
            raise ShapeError(
                f"concatenate: shapes {first} and {tensor.shape} differ on another axis than {axis}, "
                "the one that they are joined along"
            )
    return bind(concatenate_along.primitive, tuple(tensors), {"axis": axis})


concat = concatenate


def stack(arrays: Sequence[ArrayLike], axis: int = 0, *, dtype: DTypeLike = None) -> Any:
    """Join arrays of one shape along a new axis.

    Raises:
        ShapeError: the shapes differ.

    >>> import wengert as wg
    >>> wg.stack([wg.ones(2), wg.zeros(2)]).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    tensors = _tensors(arrays, "stack", dtype)
    shapes = {t.shape for t in tensors}
    if len(shapes) > 1:
        raise ShapeError(f"stack: all shapes must be equal, got {' and '.join(str(s) for s in sorted(shapes))}")
    return bind(stack_along.primitive, tuple(tensors), {"axis": canonical_axis(axis, tensors[0].ndim + 1, "stack")})


def vstack(arrays: Sequence[ArrayLike], *, dtype: DTypeLike = None) -> Any:
    """Join arrays along the first axis; those of one axis count as rows.

    >>> import wengert as wg
    >>> wg.vstack([wg.ones(2), wg.zeros((1, 2))]).shape
    (2, 2)
    """
    return concatenate([atleast_2d(t) for t in _tensors(arrays, "vstack", dtype)])


row_stack = vstack


def hstack(arrays: Sequence[ArrayLike], *, dtype: DTypeLike = None) -> Any:
    """Join arrays along the second axis, or along the first if they have one axis.

    >>> import wengert as wg
    >>> wg.hstack([wg.ones(2), wg.zeros(1)]).tolist()
    [1.0, 1.0, 0.0]
    """
    tensors = [atleast_1d(t) for t in _tensors(arrays, "hstack", dtype)]
    return concatenate(tensors, 0 if tensors[0].ndim == 1 else 1)


def dstack(arrays: Sequence[ArrayLike]) -> Any:
    """Join arrays along the third axis.

    >>> import wengert as wg
    >>> wg.dstack([wg.ones(2), wg.zeros(2)]).shape
    (1, 2, 2)
    """
    return concatenate([atleast_3d(t) for t in _tensors(arrays, "dstack")], 2)


def column_stack(arrays: Sequence[ArrayLike]) -> Any:
    """Join arrays along the second axis; those of one axis count as columns.

    >>> import wengert as wg
    >>> wg.column_stack([wg.ones(2), wg.zeros(2)]).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    tensors = _tensors(arrays, "column_stack")
    return concatenate([t if t.ndim > 1 else reshape(t, (-1, 1)) for t in tensors], 1)


def append(x: ArrayLike, values: ArrayLike, axis: int | None = None) -> Any:
    """Join two arrays along an axis (flattened by default).

    >>> import wengert as wg
    >>> wg.append(wg.ones(2), 5.0).tolist()
    [1.0, 1.0, 5.0]
    """
    return concatenate([x, values], axis)


_LIST: Any = list


def block(arrays: Any) -> Any:
    """Assemble an array from nested lists of blocks: the innermost lists are joined along the last axis.

    >>> import wengert as wg
    >>> wg.block([[wg.ones((1, 1)), wg.zeros((1, 2))], [wg.zeros((2, 1)), wg.eye(2)]]).shape
    (3, 3)
    """
    depth = _depth(arrays)
    rank = _rank(arrays, depth)
    return _assembled(arrays, depth, rank)


def _depth(arrays: Any) -> int:
    if not isinstance(arrays, _LIST):
        return 0
    depths = {_depth(a) for a in arrays}
    if len(depths) != 1:
        raise ShapeError("block: lists must be nested to the same depth everywhere, and not be empty")
    return 1 + depths.pop()


def _rank(arrays: Any, depth: int) -> int:
    return max([_rank(a, depth) for a in arrays]) if isinstance(arrays, _LIST) else max(asarray(arrays).ndim, depth)


def _assembled(arrays: Any, depth: int, rank: int) -> Any:
    if not isinstance(arrays, _LIST):
        tensor = asarray(arrays)
        return reshape(tensor, (1,) * (rank - tensor.ndim) + tensor.shape)
    return concatenate([_assembled(a, depth - 1, rank) for a in arrays], rank - depth)


def split(x: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Divide an array along an axis into equal sections, or before given positions; the parts are views.

    Raises:
        ShapeError: the extent is not divisible by the number of sections (`array_split` allows that).

    >>> import wengert as wg
    >>> [part.tolist() for part in wg.split(wg.arange(4), 2)]
    [[0, 1], [2, 3]]
    """
    tensor = asarray(x)
    axis = canonical_axis(axis, tensor.ndim, "split")
    if _is_count(indices_or_sections):
        sections = operator.index(indices_or_sections)
        if sections <= 0 or tensor.shape[axis] % sections:
            raise ShapeError(
                f"split: extent {tensor.shape[axis]} of axis {axis} cannot be divided into {sections} equal sections; "
                "array_split makes unequal ones"
            )
    return array_split(tensor, indices_or_sections, axis)


def _is_count(sections: Any) -> bool:
    return isinstance(sections, (int, np.integer)) or (hasattr(sections, "ndim") and sections.ndim == 0)


def array_split(x: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Divide an array along an axis into nearly equal sections, or before given positions; the parts are views.

    >>> import wengert as wg
    >>> [part.tolist() for part in wg.array_split(wg.arange(5), 2)]
    [[0, 1, 2], [3, 4]]
    """
    tensor = asarray(x)
    axis = canonical_axis(axis, tensor.ndim, "array_split")
    extent: int = tensor.shape[axis]
    if _is_count(indices_or_sections):
        sections = operator.index(indices_or_sections)
        if sections <= 0:
            raise ShapeError(f"array_split: the number of sections must be positive, got {sections}")
        each, extra = divmod(extent, sections)
        ends = list(accumulate([each + 1] * extra + [each] * (sections - extra)))
        bounds = list(zip([0, *ends[:-1]], ends))
    else:
        cuts = [operator.index(i) for i in indices_or_sections]
        bounds = list(zip([0, *cuts], [*cuts, extent]))
    whole = (slice(None),) * axis
    return [tensor[(*whole, slice(start, end))] for start, end in bounds]


def vsplit(x: ArrayLike, indices_or_sections: Any) -> list[Any]:
    """Divide along the first axis; see `split`."""
    return split(x, indices_or_sections, 0)


def hsplit(x: ArrayLike, indices_or_sections: Any) -> list[Any]:
    """Divide along the second axis, or the first if there is one axis; see `split`."""
    tensor = asarray(x)
    return split(tensor, indices_or_sections, 0 if tensor.ndim == 1 else 1)


def dsplit(x: ArrayLike, indices_or_sections: Any) -> list[Any]:
    """Divide along the third axis; see `split`."""
    return split(x, indices_or_sections, 2)


def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Any, ...]:
    """Take an array apart along an axis, which vanishes; the parts are views.

    >>> import wengert as wg
    >>> [part.item() for part in wg.unstack(wg.arange(2))]
    [0, 1]
    """
    tensor = asarray(x)
    axis = canonical_axis(axis, tensor.ndim, "unstack")
    whole = (slice(None),) * axis
    return tuple([tensor[(*whole, i)] for i in range(tensor.shape[axis])])


@composite(
    samples=[Sample((3,), reps=2), Sample((2, 3), reps=(2, 1, 3)), Sample((2, 3), reps=(2,))], reference="numpy.tile"
)
def tile(x: ArrayLike, reps: Any) -> Any:
    """Repeat an array as a whole along its axes.

    >>> import wengert as wg
    >>> wg.tile(wg.tensor([1.0, 2.0]), 2).tolist()
    [1.0, 2.0, 1.0, 2.0]
    """
    tensor = asarray(x)
    counts = tuple(operator.index(r) for r in reps) if hasattr(reps, "__iter__") else (operator.index(reps),)
    if any(n < 0 for n in counts):
        raise ShapeError(f"tile: the numbers of repeats must not be negative, got {reps}")
    rank = max(tensor.ndim, len(counts))
    counts = (1,) * (rank - len(counts)) + counts
    shape = (1,) * (rank - tensor.ndim) + tensor.shape
    pairs = [(1, n) for n in shape]
    stretched = broadcast_to(reshape(tensor, sum(pairs, ())), sum(zip(counts, shape), ()))
    return _own(reshape(stretched, tuple([r * n for r, n in zip(counts, shape)])))


def _own(x: Any) -> Any:
    """Return an array in memory of its own: a reshape of axes of one element would be a view, where NumPy copies."""
    return x if is_alone(x) else boxing.operations.clone(x)


@composite(
    samples=[Sample((3,), repeats=2), Sample((2, 3), repeats=2, axis=0), Sample((2, 3), repeats=(2, 0, 1), axis=1)]
)
def repeat(x: ArrayLike, repeats: Any, axis: int | None = None) -> Any:
    """Repeat each element along an axis (of the flattened array by default).

    Args:
        x: array of any shape.
        repeats: how often, for all or for each position along the axis.
        axis: the axis to repeat along.

    Raises:
        ShapeError: there is not one number of repeats for each position.

    >>> import wengert as wg
    >>> wg.repeat(wg.tensor([1.0, 2.0]), 2).tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    tensor = asarray(x)
    if axis is None:
        tensor, axis = reshape(tensor, (-1,)), 0
    axis = canonical_axis(axis, tensor.ndim, "repeat")
    extent: int = tensor.shape[axis]
    counts: Any = np.asarray(boxing.data_of(repeats) if isinstance(repeats, boxing.Tensor) else repeats)
    if counts.size == 1:
        count = operator.index(counts.reshape(-1)[0])
        if count < 0:
            raise ShapeError(f"repeat: the number of repeats must not be negative, got {count}")
        shape = tensor.shape
        spaced = reshape(tensor, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
        stretched = broadcast_to(spaced, (*shape[: axis + 1], count, *shape[axis + 1 :]))
        return _own(reshape(stretched, (*shape[:axis], extent * count, *shape[axis + 1 :])))
    if counts.shape != (extent,):
        raise ShapeError(f"repeat: {counts.size} numbers of repeats do not fit the extent {extent} of axis {axis}")
    return boxing.operations.take(tensor, np.repeat(np.arange(extent), counts), axis=axis)


def meshgrid(*arrays: ArrayLike, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list[Any]:
    """Coordinate arrays from coordinate vectors: every combination of their entries.

    Args:
        *arrays: vectors.
        copy: give each result memory of its own; otherwise they are views with repeated elements.
        sparse: leave axes of extent one unstretched.
        indexing: "xy" (the first two axes swapped) or "ij".

    >>> import wengert as wg
    >>> [grid.shape for grid in wg.meshgrid(wg.arange(2), wg.arange(3))]
    [(3, 2), (3, 2)]
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', not {indexing!r}")
    vectors = [reshape(asarray(a), (-1,)) for a in arrays]
    rank = len(vectors)
    grids = [reshape(v, [-1 if i == j else 1 for j in range(rank)]) for i, v in enumerate(vectors)]
    if indexing == "xy" and rank > 1:
        grids = [swapaxes(g, 0, 1) for g in grids]
    if not sparse and grids:
        shape = np.broadcast_shapes(*[g.shape for g in grids])
        grids = [broadcast_to(g, shape) for g in grids]
    return [g.clone() for g in grids] if copy else grids
