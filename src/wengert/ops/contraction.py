"""Products of matrices and tensors."""

from __future__ import annotations

from typing import Any

from ..core.dispatch import bind
from ..declare import Sample, bilinear
from ..declare.batching import to_front
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Namespace
from .creation import asarray


@bilinear(
    samples=[Sample((2, 3), (3, 4)), Sample((5, 2, 3), (3, 4)), Sample((2, 3), (5, 3, 4)), Sample((1, 2, 3), (4, 3, 2))],
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
        rows = xp.reshape(x, (-1, x.shape[-1]))
        return xp.matmul(xp.swapaxes(rows, -1, -2), xp.reshape(out_bar, (-1, out_bar.shape[-1])))
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
    rank = max(x.ndim - x_mapped, y.ndim - y_mapped)
    return matrix_product(_pad(xp, x, x_mapped, rank), _pad(xp, y, y_mapped, rank)), 0


def _pad(xp: Namespace, value: Any, mapped: bool, rank: int) -> Any:
    missing = rank - (value.ndim - mapped)
    if not mapped or not missing:
        return value
    return xp.reshape(value, (value.shape[0],) + (1,) * missing + tuple(value.shape[1:]))


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
        raise ShapeError(f"matmul: shapes {left.shape} and {right.shape}: a scalar is no matrix; multiply with * instead")
    _check_inner(left, right, left.shape[-1], right.shape[0] if right.ndim == 1 else right.shape[-2])
    row, column = left.ndim == 1, right.ndim == 1
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
