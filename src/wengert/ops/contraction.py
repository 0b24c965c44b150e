"""Products of matrices and tensors."""

from __future__ import annotations

from itertools import chain
from math import prod
from typing import Any

import numpy as np

from ..core import boxing
from ..core.dispatch import bind
from ..declare import Sample, bilinear, composite
from ..declare.batching import to_front
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Namespace
from .affine import row_map
from .axes import ascii_letters, canonical_axis
from .creation import asarray
from .reductions import sum
from .selection import conj
from .shaping import moveaxis, reshape

__all__ = ["cross", "dot", "inner", "kron", "matmul", "outer", "tensordot", "vdot", "vecdot"]


@bilinear(
    samples=[
        Sample((2, 3), (3, 4)),
        Sample((5, 2, 3), (3, 4)),
        Sample((2, 3), (5, 3, 4)),
        Sample((1, 2, 3), (4, 3, 2)),
    ],
    reference="numpy.matmul",
)
def matrix_product(xp: Namespace, x: Array, y: Array) -> Array:
    """Product of (stacks of) matrices."""
    return xp.matmul(x, y)


@matrix_product.transpose_of("x")
def matrix_product_transpose_x(xp: Namespace, out_bar: Array, x_shape: Any, y: Array) -> Array:
    bar = xp.matmul(out_bar, xp.swapaxes(y, -1, -2))
    return _sum_stack(xp, bar, x_shape)


@matrix_product.transpose_of("y")
def matrix_product_transpose_y(xp: Namespace, out_bar: Array, x: Array, y_shape: Any) -> Array:
    if len(y_shape) == 2 and x.ndim > 2:
        # One product of the flattened stack beats a stack of products that is summed afterwards.
        count = prod(x.shape[:-1])
        rows = xp.reshape(x, (count, x.shape[-1]))
        return xp.matmul(xp.swapaxes(rows, -1, -2), xp.reshape(out_bar, (count, out_bar.shape[-1])))
    return _sum_stack(xp, xp.matmul(xp.swapaxes(x, -1, -2), out_bar), y_shape)


def _sum_stack(xp: Namespace, bar: Any, shape: Any) -> Any:
    if bar.shape == shape:
        return bar
    lead = bar.ndim - len(shape)
    stretched = [i + lead for i, n in enumerate(shape) if n == 1 and bar.shape[i + lead] != 1]
    return xp.reshape(xp.sum(bar, axis=(*range(lead), *stretched)), shape)


@matrix_product.batch
def matrix_product_batch(xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...]) -> tuple[Any, int]:
    x, y = (to_front(xp, value, axis) for value, axis in zip(args, axes))
    x_mapped, y_mapped = axes[0] is not None, axes[1] is not None
    if not y_mapped and y.ndim == 2 and x.ndim > 2:
        # One product of all rows beats a stack of products.
        rows = xp.reshape(x, (prod(x.shape[:-1]), x.shape[-1]))
        return xp.reshape(matrix_product(rows, y), (*x.shape[:-1], y.shape[-1])), 0
    if not x_mapped and x.ndim == 2 and y.ndim == 3 and y.shape[1] * y.shape[2] <= _SMALL_MATRIX:
        columns = xp.reshape(xp.transpose(y, (1, 0, 2)), (y.shape[1], y.shape[0] * y.shape[2]))
        return xp.reshape(matrix_product(x, columns), (x.shape[0], y.shape[0], y.shape[2])), 1
    rank = max(x.ndim - x_mapped, y.ndim - y_mapped)
    return matrix_product(_pad(xp, x, x_mapped, rank), _pad(xp, y, y_mapped, rank)), 0


_SMALL_MATRIX = 64 * 64
"""Up to this many elements a stack of matrices is copied side by side, to be multiplied by one matrix at once."""


def _pad(xp: Namespace, value: Any, mapped: bool, rank: int) -> Any:
    missing = rank - (value.ndim - mapped)
    if not mapped or not missing:
        return value
    return xp.reshape(value, (value.shape[0],) + (1,) * missing + tuple(value.shape[1:]))


@bilinear(samples=[Sample((2, 3), (3,)), Sample((3, 3), (3,)), Sample((4, 1), (1,))], reference="numpy.matmul")
def matrix_vector(xp: Namespace, x: Array, y: Array) -> Array:
    """Product of a matrix and a vector."""
    return xp.matmul(x, y)


@matrix_vector.transpose_of("x")
def matrix_vector_transpose_x(xp: Namespace, out_bar: Array, y: Array) -> Array:
    return xp.reshape(out_bar, (out_bar.shape[0], 1)) * y


@matrix_vector.transpose_of("y")
def matrix_vector_transpose_y(xp: Namespace, out_bar: Array, x: Array) -> Array:
    return xp.matmul(xp.transpose(x), out_bar)


@matrix_vector.batch
def matrix_vector_batch(xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...]) -> tuple[Any, int]:
    x, y = (to_front(xp, value, axis) for value, axis in zip(args, axes))
    if axes[0] is None:
        return bind(row_map.primitive, (y, x)), 0
    if axes[1] is None:
        rows = xp.reshape(x, (x.shape[0] * x.shape[1], x.shape[2]))
        return xp.reshape(matrix_vector(rows, y), (x.shape[0], x.shape[1])), 0
    return xp.reshape(matrix_product(x, xp.reshape(y, (*y.shape, 1))), (x.shape[0], x.shape[1])), 0


def matmul(x: ArrayLike, y: ArrayLike, /) -> Any:
    """Matrix product with NumPy's rules for vectors and stacks.

    Raises:
        ShapeError: an argument is a scalar, or the inner extents differ.

    >>> import wengert as wg
    >>> wg.matmul(wg.ones((2, 3)), wg.ones(3)).tolist()
    [3.0, 3.0]
    """
    left, right = asarray(x), asarray(y)
    if left.ndim >= 2 and right.ndim >= 2:
        _check_inner(left, right, left.shape[-1], right.shape[-2])
        return bind(matrix_product.primitive, (left, right))
    if not left.ndim or not right.ndim:
        raise ShapeError(
            f"matmul: shapes {left.shape} and {right.shape}: a scalar is no matrix; multiply with * instead"
        )
    _check_inner(left, right, left.shape[-1], right.shape[0] if right.ndim == 1 else right.shape[-2])
    row, column = left.ndim == 1, right.ndim == 1
    if column and left.ndim == 2:
        return bind(matrix_vector.primitive, (left, right))
    out = matrix_product(left[None, :] if row else left, right[:, None] if column else right)
    if row and column:
        return out[0, 0]
    return out[..., 0, :] if row else out[..., 0]


def _check_inner(left: Any, right: Any, inner_left: int, inner_right: int) -> None:
    if inner_left != inner_right:
        raise ShapeError(
            f"matmul: shapes {left.shape} and {right.shape} do not fit: {inner_left} columns on the left, "
            f"{inner_right} rows on the right"
        )


def _by_einsum(x: Array, y: Array, *, subscripts: str) -> Array:
    return np.einsum(subscripts, x, y)


@bilinear(
    samples=[
        Sample((2, 3), (3, 4), subscripts="ab,bc->ca"),
        Sample((2, 3, 4), (2, 4), subscripts="abc,ac->ab"),
        Sample((3, 2), (2, 3), subscripts="ab,ba->b"),
        Sample((3,), (2, 4), subscripts="a,bc->bac"),
        Sample((3, 2), (2,), subscripts="ab,b->ba"),
        Sample((2, 3), (2, 3), subscripts="ab,ab->"),
        Sample((), (2,), subscripts=",a->a"),
    ],
    reference=_by_einsum,
)
def contract_pair(xp: Namespace, x: Array, y: Array, *, subscripts: str) -> Array:
    """Contraction of two arrays, by letters as in `einsum`: each once in a term, and in at least two of the three."""
    return xp.contract_pair(x, y, subscripts=subscripts)


@contract_pair.transpose_of("x")
def contract_pair_transpose_x(xp: Namespace, out_bar: Array, y: Array, subscripts: str) -> Array:
    for_x, for_y, for_out = _terms(subscripts)
    return xp.contract_pair(out_bar, y, subscripts=f"{for_out},{for_y}->{for_x}")


@contract_pair.transpose_of("y")
def contract_pair_transpose_y(xp: Namespace, out_bar: Array, x: Array, subscripts: str) -> Array:
    for_x, for_y, for_out = _terms(subscripts)
    return xp.contract_pair(out_bar, x, subscripts=f"{for_out},{for_x}->{for_y}")


def _terms(subscripts: str) -> tuple[str, str, str]:
    terms, _, for_out = subscripts.partition("->")
    for_x, _, for_y = terms.partition(",")
    return for_x, for_y, for_out


@contract_pair.batch
def contract_pair_batch(
    xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...], subscripts: str
) -> tuple[Any, int]:
    x, y = (to_front(xp, value, axis) for value, axis in zip(args, axes))
    for_x, for_y, for_out = _terms(subscripts)
    new = next(letter for letter in ascii_letters if letter not in subscripts)
    first, second = ("" if axis is None else new for axis in axes)
    return bind(contract_pair.primitive, (x, y), {"subscripts": f"{first}{for_x},{second}{for_y}->{new}{for_out}"}), 0


def _contracted(x: Any, y: Any, for_x: str, for_y: str, for_out: str) -> Any:
    return bind(contract_pair.primitive, (x, y), {"subscripts": f"{for_x},{for_y}->{for_out}"})


@composite(
    samples=[
        Sample((2, 3), (3, 4), axes=1),
        Sample((2, 3, 4), (4, 2), axes=((0, 2), (1, 0))),
        Sample((2,), (3,), axes=0),
    ],
    reference="numpy.tensordot",
)
def tensordot(x: ArrayLike, y: ArrayLike, axes: Any = 2) -> Any:
    """Sum of products over several axes of each array.

    Args:
        x: array of any shape.
        y: array of any shape.
        axes: how many last axes of `x` meet as many first axes of `y`; or a pair of axes, or of sequences of axes.

    Raises:
        ShapeError: axes that meet have different extents.

    >>> import wengert as wg
    >>> wg.tensordot(wg.ones((2, 3)), wg.ones((3, 4)), 1).shape
    (2, 4)
    """
    left, right = asarray(x), asarray(y)
    if hasattr(axes, "__iter__"):
        first, second = ([a] if isinstance(a, int) else list(a) for a in axes)
    else:
        first, second = list(range(-axes, 0)), list(range(axes))
    first = [canonical_axis(a, left.ndim, "tensordot") for a in first]
    second = [canonical_axis(a, right.ndim, "tensordot") for a in second]
    if [left.shape[a] for a in first] != [right.shape[a] for a in second] or len(set(first)) != len(set(second)):
        raise ShapeError(
            f"tensordot: shapes {left.shape} and {right.shape} do not fit along axes {first} and {second}, whose "
            f"extents are {[left.shape[a] for a in first]} and {[right.shape[a] for a in second]}"
        )
    for_x = list(ascii_letters[: left.ndim])
    for_y = list(ascii_letters[left.ndim : left.ndim + right.ndim])
    for a, b in zip(first, second):
        for_y[b] = for_x[a]
    for_out = [label for label in for_x if label not in for_y] + [label for label in for_y if label not in for_x]
    return _contracted(left, right, "".join(for_x), "".join(for_y), "".join(for_out))


@composite(
    samples=[Sample((3,), (3,)), Sample((2, 3), (3, 2)), Sample((2, 3), (2, 3, 4)), Sample((), (2, 3))],
    reference="numpy.dot",
)
def dot(x: ArrayLike, y: ArrayLike) -> Any:
    """Product of scalars, vectors or matrices; otherwise, the last axis of `x` meets the last but one of `y`.

    Raises:
        ShapeError: the extents of the axes that meet differ.

    >>> import wengert as wg
    >>> wg.dot(wg.tensor([1.0, 2.0]), wg.tensor([3.0, 4.0])).item()
    11.0
    """
    left, right = asarray(x), asarray(y)
    if not left.ndim or not right.ndim:
        return left * right
    meeting = right.shape[-1 if right.ndim == 1 else -2]
    if left.shape[-1] != meeting:
        raise ShapeError(
            f"dot: shapes {left.shape} and {right.shape} do not fit: {left.shape[-1]} elements meet {meeting}"
        )
    if left.ndim == 2 and right.ndim == 2:
        return bind(matrix_product.primitive, (left, right))
    return tensordot(left, right, (-1, -1 if right.ndim == 1 else -2))


@composite(samples=[Sample((3,), (3,)), Sample((2, 3), (4, 3))], reference="numpy.inner")
def inner(x: ArrayLike, y: ArrayLike, /) -> Any:
    """Sum of products over the last axes.

    Raises:
        ShapeError: their extents differ.

    >>> import wengert as wg
    >>> wg.inner(wg.tensor([1.0, 2.0]), wg.tensor([3.0, 4.0])).item()
    11.0
    """
    left, right = asarray(x), asarray(y)
    if not left.ndim or not right.ndim:
        return left * right
    if left.shape[-1] != right.shape[-1]:
        raise ShapeError(f"inner: shapes {left.shape} and {right.shape} have different last extents")
    return tensordot(left, right, (-1, -1))


@composite(samples=[Sample((2, 3), (2, 3)), Sample((), ())], reference="numpy.vdot")
def vdot(x: ArrayLike, y: ArrayLike, /) -> Any:
    """Sum of products of all elements of two arrays of equal size (the first conjugated, if complex).

    >>> import wengert as wg
    >>> wg.vdot(wg.ones((2, 2)), wg.ones((2, 2))).item()
    4.0
    """
    left, right = reshape(asarray(x), (-1,)), reshape(asarray(y), (-1,))
    if left.dtype.kind == "c":
        left = conj(left)
    if left.shape != right.shape:
        raise ShapeError(f"vdot: the arrays have {left.size} and {right.size} elements")
    return _contracted(left, right, "a", "a", "")


@composite(
    samples=[Sample((2, 3), (2, 3)), Sample((2, 3), (3,)), Sample((2, 3), (2, 3), axis=0)], reference="numpy.vecdot"
)
def vecdot(x: ArrayLike, y: ArrayLike, /, *, axis: int = -1) -> Any:
    """Sum of products along one axis; the others broadcast.

    >>> import wengert as wg
    >>> wg.vecdot(wg.ones((2, 3)), wg.ones(3)).tolist()
    [3.0, 3.0]
    """
    left, right = asarray(x), asarray(y)
    if left.dtype.kind == "c":
        left = conj(left)
    if left.shape != right.shape:
        return sum(left * right, axis)
    labels = ascii_letters[: left.ndim]
    place = canonical_axis(axis, left.ndim, "vecdot")
    return _contracted(left, right, labels, labels, labels[:place] + labels[place + 1 :])


@composite(samples=[Sample((2,), (3,)), Sample((2, 2), (3,))], reference="numpy.outer")
def outer(x: ArrayLike, y: ArrayLike) -> Any:
    """Every element of `x` times every element of `y`, both flattened.

    >>> import wengert as wg
    >>> wg.outer(wg.tensor([1.0, 2.0]), wg.tensor([3.0, 4.0])).tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    return _contracted(reshape(asarray(x), (-1,)), reshape(asarray(y), (-1,)), "a", "b", "ab")


@composite(samples=[Sample((2,), (3,)), Sample((2, 1), (2, 3)), Sample((2,), (2, 2))], reference="numpy.kron")
def kron(x: ArrayLike, y: ArrayLike) -> Any:
    """Kronecker product: every element of `x` times the whole of `y`.

    >>> import wengert as wg
    >>> wg.kron(wg.tensor([1.0, 10.0]), wg.tensor([1.0, 2.0])).tolist()
    [1.0, 2.0, 10.0, 20.0]
    """
    left, right = asarray(x), asarray(y)
    rank = max(left.ndim, right.ndim)
    rows = (1,) * (rank - left.ndim) + left.shape
    columns = (1,) * (rank - right.ndim) + right.shape
    spaced_left = reshape(left, tuple(chain.from_iterable([(n, 1) for n in rows])))
    spaced_right = reshape(right, tuple(chain.from_iterable([(1, n) for n in columns])))
    return reshape(spaced_left * spaced_right, tuple([m * n for m, n in zip(rows, columns)]))


@composite(samples=[Sample((3,), (3,)), Sample((2, 3), (3,)), Sample((3, 2), (3, 2), axis=0)], reference="numpy.cross")
def cross(
    x: ArrayLike, y: ArrayLike, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    """Vector product of arrays of vectors with three components.

    Args:
        x: left factors.
        y: right factors; all axes but that of the components broadcast.
        axisa: where the components of `x` are.
        axisb: where the components of `y` are.
        axisc: where those of the result go.
        axis: all three at once.

    Raises:
        ShapeError: there are not three components.

    >>> import wengert as wg
    >>> wg.cross(wg.tensor([1.0, 0.0, 0.0]), wg.tensor([0.0, 1.0, 0.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    left, right = moveaxis(asarray(x), axisa, -1), moveaxis(asarray(y), axisb, -1)
    if left.shape[-1] != 3 or right.shape[-1] != 3:
        raise ShapeError(f"cross: vectors need three components, got {left.shape[-1]} and {right.shape[-1]}")
    xp = boxing.operations
    ahead = xp.roll(left, -1, -1) * xp.roll(right, -2, -1)
    return moveaxis(ahead - xp.roll(left, -2, -1) * xp.roll(right, -1, -1), -1, axisc)
