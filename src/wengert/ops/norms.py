"""Norms of vectors and matrices. At the zero vector, where a norm has no derivative, the one given is zero."""

from __future__ import annotations

import math
from typing import Any

from ..core.dispatch import bind
from ..declare import Sample, at, composite, reduction
from ..typing import Array, ArrayLike, Axis, Namespace
from .axes import canonical_axes, canonical_axis
from .creation import asarray
from .reductions import as_floating, share_among_tied
from .reductions import max as largest
from .reductions import min as smallest

__all__ = ["norm", "vector_norm"]


@reduction(
    samples=[
        Sample((2, 3), axis=(0,), keepdims=False, ord=2),
        Sample((2, 3, 2), axis=(0, 2), keepdims=True, ord=2),
        Sample((2, 3), distinct=True, axis=(1,), keepdims=False, ord=1),
        Sample((2, 3), distinct=True, axis=(0, 1), keepdims=False, ord=math.inf),
        Sample((3, 3), distinct=True, axis=(0,), keepdims=True, ord=-math.inf),
        Sample((2, 3), interval=(0.5, 2.0), axis=(1,), keepdims=False, ord=3.5),
        Sample((2, 3), interval=(0.5, 2.0), axis=(1,), keepdims=False, ord=-1),
        Sample((2, 3), axis=(1,), keepdims=False, ord=0),
    ],
    reference="numpy.linalg.vector_norm",
    special=[at(0.0, 0.0, out=0.0, partials=(0.0, 0.0)), at(3.0, -4.0, out=5.0, partials=(0.6, -0.8))],
)
def vector_norm_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], keepdims: bool, ord: float) -> Array:
    """Norm over axes: the root of the sum of powers, or an extremum of magnitudes."""
    size = xp.absolute(x)
    if ord == 2:
        return xp.sqrt(xp.sum(size * size, axis=axis, keepdims=keepdims))
    if ord == 1:
        return xp.sum(size, axis=axis, keepdims=keepdims)
    if ord == math.inf:
        return xp.max(size, axis=axis, keepdims=keepdims)
    if ord == -math.inf:
        return xp.min(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return xp.sum(xp.astype(xp.not_equal(x, 0), size.dtype), axis=axis, keepdims=keepdims)
    return xp.power(xp.sum(xp.power(size, ord), axis=axis, keepdims=keepdims), 1 / ord)


@vector_norm_over.partials
def vector_norm_over_partials(xp: Namespace, x: Array, out: Array, axis: tuple[int, ...], ord: float) -> Array:
    if ord == 0:
        return xp.zeros_like(x)
    if ord == 1:
        return xp.sign(x)
    if abs(ord) == math.inf:
        return xp.sign(x) * share_among_tied(xp, xp.absolute(x), out, axis)
    zero = xp.equal(out, 0)
    direction = x / xp.where(zero, 1, out)
    if ord != 2:
        absent = xp.equal(x, 0)
        size = xp.where(absent, 1, xp.absolute(direction))
        direction = xp.where(absent, 0, xp.sign(x) * xp.power(size, ord - 1))
    return xp.where(zero, 0, direction)


def vector_norm(x: ArrayLike, *, axis: Axis = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Norm of vectors over axes (of all elements by default).

    Args:
        x: array of any shape.
        axis: axis or axes that the vectors lie along.
        keepdims: keep the reduced axes with extent one.
        ord: 2, 1, infinity (the largest magnitude, ties sharing the gradient), minus infinity (the smallest), zero (how
            many are not zero; gradient zero), or any other power.

    >>> import wengert as wg
    >>> wg.vector_norm(wg.tensor([3.0, -4.0])).item(), wg.vector_norm(wg.tensor([3.0, -4.0]), ord=1).item()
    (5.0, 7.0)
    """
    tensor = as_floating(asarray(x))
    if not isinstance(ord, (int, float)):
        raise ValueError(f"norm: ord={ord!r} is not a norm of vectors: a number is needed")
    params = {"axis": canonical_axes(axis, tensor.ndim, "norm"), "keepdims": bool(keepdims), "ord": ord}
    return bind(vector_norm_over.primitive, (tensor,), params)


@composite(
    samples=[
        Sample((2, 3)),
        Sample((3,), ord=1, distinct=True),
        Sample((2, 3), axis=1, keepdims=True),
        Sample((2, 3), ord="fro"),
        Sample((3, 4), ord=1, distinct=True),
        Sample((2, 3, 2), ord=math.inf, axis=(0, 2), distinct=True, keepdims=True),
    ],
    reference="numpy.linalg.norm",
)
def norm(x: ArrayLike, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """Norm of a vector or matrix, with the arguments of `numpy.linalg.norm`. The gradient at zero is zero.

    Args:
        x: array of any shape.
        ord: for vectors as in `vector_norm`; for matrices None or "fro" (the root of the sum of squares), 1 or -1
            (extreme sum of magnitudes of a column), infinity or minus infinity (of a row).
        axis: one axis for vectors, two for matrices; by default all of `x`.
        keepdims: keep the reduced axes with extent one.

    Raises:
        ValueError: there is no such norm; those of singular values (2, "nuc") are not among these.

    >>> import wengert as wg
    >>> wg.norm(wg.tensor([[3.0, 0.0], [0.0, 4.0]])).item()
    5.0
    """
    tensor = asarray(x)
    if ord is None or (axis is None and tensor.ndim == 1) or isinstance(axis, int):
        return vector_norm(tensor, axis=axis, keepdims=keepdims, ord=2 if ord is None else ord)
    axes: Any = tuple(range(tensor.ndim)) if axis is None else axis
    if len(axes) == 1:
        return vector_norm(tensor, axis=axes, keepdims=keepdims, ord=ord)
    if len(axes) != 2:
        raise ValueError(f"norm: ord={ord!r} is for vectors and matrices, not for {len(axes)} axes at once")
    if ord in ("fro", "f"):
        return vector_norm(tensor, axis=axes, keepdims=keepdims)
    rows, columns = (canonical_axis(a, tensor.ndim, "norm") for a in axes)
    if ord in (1, -1):
        summed, left = rows, columns
    elif ord in (math.inf, -math.inf):
        summed, left = columns, rows
    else:
        raise ValueError(f"norm: ord={ord!r} is not a matrix norm here: None, 'fro', 1, -1, inf and -inf are")
    sums = vector_norm(tensor, axis=summed, keepdims=True, ord=1)
    extremum = (largest if ord > 0 else smallest)(sums, left, keepdims=True)
    if keepdims:
        return extremum
    return extremum.reshape([n for i, n in enumerate(tensor.shape) if i not in (rows, columns)])
