"""Array functions that rules need on raw arrays and NumPy lacks.

Each has the name and the signature of the library's own operation, so that one rule runs on raw arrays and on Tensors.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite, prod
from typing import Any

import numpy as np

from ..typing import Array, Axis

_largest: Any = np.maximum.reduce
_sum: Any = np.add.reduce
_SHORT = 4096
"""Rows up to this long are summed by BLAS, whose error grows with the length; longer ones pairwise, by NumPy."""
_FEW = 16
"""Below this many recurrences side by side, Python numbers are faster than arrays that hold them."""
_LOOP = 1 << 14
"""Below this many values, scattered rows are added one number at a time; above, it pays to gather equal positions."""


@lru_cache(maxsize=256)
def _ones(code: str, *shape: int) -> Array:
    ones = np.ones(shape, code)
    ones.flags.writeable = False
    return ones


def sum_kept(x: Array, axis: Any) -> Array:
    """Sum over axes, which are kept; over short rows by BLAS, which is several times as fast as NumPy's own loop."""
    code = x.dtype.char
    if code in "fd" and axis == (x.ndim - 1,) and 0 < (width := x.shape[-1]) <= _SHORT and x.flags.c_contiguous:
        if x.ndim == 2:
            return np.dot(x, _ones(code, width, 1))
        return np.dot(x.reshape(-1, width), _ones(code, width, 1)).reshape((*x.shape[:-1], 1))
    return _sum(x, axis, None, None, True)


def sum_rows(x: Array, lead: tuple[int, ...]) -> Array:
    """Sum over leading axes; of a few rows by BLAS."""
    code = x.dtype.char
    if code in "fd" and lead == (0,) and x.ndim <= 2 and 0 < len(x) <= _SHORT:
        return np.dot(_ones(code, len(x)), x)
    return _sum(x, lead)


def softmax(x: Array, *, axis: Axis) -> Array:
    """Exponentials divided by their sum over axes, without overflow."""
    out = np.subtract(x, _largest(x, axis, None, None, True, -np.inf))
    np.exp(out, out)
    out /= sum_kept(out, axis)
    return out


def log_softmax(x: Array, *, axis: Axis) -> Array:
    """Logarithm of softmax, without underflow."""
    out = np.subtract(x, _largest(x, axis, None, None, True, -np.inf))
    out -= np.log(sum_kept(np.exp(out), axis))
    return out


def logsumexp(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Logarithm of the sum of exponentials over axes, without overflow; minus infinity where all elements are."""
    largest = _largest(x, axis, None, None, True, -np.inf)
    if isfinite(np.vdot(largest, largest).real):
        total = _sum(np.exp(np.subtract(x, largest)), axis, None, None, keepdims)
        return np.log(total) + largest.reshape(total.shape)
    shift = np.where(np.isfinite(largest), largest, largest.dtype.type(0))
    with np.errstate(divide="ignore", over="ignore"):
        total = _sum(np.exp(np.subtract(x, shift)), axis, None, None, keepdims)
        return np.log(total) + shift.reshape(total.shape)


def standardize(x: Array, axis: tuple[int, ...], eps: float) -> tuple[Array, Array, Array]:
    """Return (x less its mean, over the root of its variance plus eps; that mean; that root)."""
    count = prod([x.shape[a] for a in axis])
    mean = sum_kept(x, axis)
    mean /= count
    out = np.subtract(x, mean)
    root = sum_of_products(out, out, axis)
    root /= count
    root += eps
    np.sqrt(root, root)
    out /= root
    return out, mean, root


def sum_of_products(x: Array, y: Array, axis: tuple[int, ...]) -> Array:
    """Sum of products over axes, which are kept."""
    if axis == (x.ndim - 1,) and x.shape[-1] <= _SHORT:
        return np.vecdot(x, y)[..., None]
    return _sum(x * y, axis, None, None, True)


def linear_recurrence(coefficient: Array, drive: Array, *, axis: int, reverse: bool, guarded: bool) -> Array:
    """Solve `h[i] = coefficient[i] * h[i - 1] + drive[i]` along an axis, from zero.

    Args:
        coefficient: factors; the first along the axis is not used.
        drive: what is added, of the same shape.
        axis: the axis that `i` counts along.
        reverse: count from the end instead.
        guarded: a state of exactly zero stays zero whatever it is multiplied by.
    """
    out = np.empty(drive.shape, np.result_type(coefficient, drive))
    if not out.size:
        return out
    a, b, h = (np.moveaxis(v, axis, 0) for v in (coefficient, drive, out))
    if reverse:
        a, b, h = a[::-1], b[::-1], h[::-1]
    if guarded:
        _recur(a, b, h)
        if not np.isfinite(h).all():
            _recur_guarded(a, b, h)
    elif h[0].size < _FEW and out.dtype.kind == "f":
        for place in np.ndindex(h.shape[1:]):
            column = (slice(None), *place)
            h[column] = _recur_numbers(a[column].tolist(), b[column].tolist())
    else:
        _recur(a, b, h)
    return out


def _recur(a: Array, b: Array, h: Array) -> None:
    h[0] = b[0]
    for i in range(1, len(h)):
        np.multiply(a[i], h[i - 1], out=h[i, ...])
        h[i] += b[i]


def _recur_guarded(a: Array, b: Array, h: Array) -> None:
    h[0] = b[0]
    for i in range(1, len(h)):
        h[i] = np.where(h[i - 1] == 0, 0, a[i] * h[i - 1]) + b[i]


def _recur_numbers(a: list[Any], b: list[Any]) -> list[Any]:
    state = b[0]
    states = [state]
    for factor, addend in zip(a[1:], b[1:]):
        state = factor * state + addend
        states.append(state)
    return states


def _along(indices: Array, axis: int, ndim: int) -> tuple[Array, ...]:
    """Return the key that `numpy.take_along_axis` reads by."""
    key: list[Any] = []
    for i in range(ndim):
        if i == axis:
            key.append(indices)
        else:
            key.append(np.arange(indices.shape[i]).reshape((1,) * i + (-1,) + (1,) * (ndim - i - 1)))
    return tuple(key)


def put_along_axis(x: Array, indices: Array, values: Array, *, axis: int) -> Array:
    """Write values at positions along an axis, in a copy; the last write to a position wins."""
    # In row-major order throughout, so that which write is the last depends on no memory layout.
    out = np.array(x, order="C")
    out[_along(np.ascontiguousarray(indices), axis, x.ndim)] = np.ascontiguousarray(values)
    return out


def add_along_axis(x: Array, indices: Array, values: Array, *, axis: int) -> Array:
    """Add values at positions along an axis, in a copy; repeated positions add up."""
    out = np.array(x, order="C")
    scatter_along(out, indices, values, axis)
    return out


def scatter_along(buffer: Array, indices: Array, values: Array, axis: int) -> None:
    """Add values into the buffer at positions along an axis, in place; repeated positions add up."""
    # Places in the whole buffer are computed from them, which narrower integers would not hold.
    key = _along(indices.astype(np.intp, copy=False), axis, buffer.ndim)
    if not buffer.flags.c_contiguous:
        np.add.at(buffer, key, values)
        return
    # NumPy's loop for one-dimensional targets is several times as fast.
    extent = buffer.shape[axis]
    places: Any = 0
    for i, part in enumerate(key):
        step = prod(buffer.shape[i + 1 :])
        places = places + (np.where(part < 0, part + extent, part) if i == axis else part) * step
    np.add.at(buffer.reshape(-1), places.reshape(-1), np.broadcast_to(values, indices.shape).reshape(-1))


def add_at(x: Array, indices: Array, values: Array, *, axis: int) -> Array:
    """Add slices of `values` to the slices of `x` at positions along an axis, in a copy: what undoes `take`."""
    out = np.array(x, order="C")
    scatter_rows(out, indices, values, axis)
    return out


def scatter_rows(buffer: Array, indices: Array, values: Array, axis: int) -> None:
    """Add slices of `values` to the buffer's at positions along an axis, in place; repeated positions add up."""
    target = np.moveaxis(buffer, axis, 0)
    count = indices.size
    rows = np.moveaxis(values, tuple(range(axis, axis + indices.ndim)), tuple(range(indices.ndim)))
    rows = rows.reshape((count, *target.shape[1:]))
    flat = indices.reshape(-1).astype(np.intp, copy=False)
    if not rows.size:
        return
    if target.flags.c_contiguous and rows[0].size > 1 and rows.size < _LOOP:
        _add_numbers(target, flat, rows)
    elif rows[0].size > 1 and rows.dtype.kind == "f" and rows.itemsize >= 4 and rows.size >= _LOOP:
        _add_sums(target, flat, rows)
    else:
        np.add.at(target, flat, rows)


def _add_numbers(target: Array, flat: Array, rows: Array) -> None:
    """Add one number at a time: NumPy's loop for one-dimensional targets is several times as fast as for rows."""
    width = rows[0].size
    places = flat[:, None] * width + _counting(width)
    np.add.at(target.reshape(-1), places.reshape(-1), rows.reshape(-1))


@lru_cache(maxsize=64)
def _counting(n: int) -> Array:
    return np.arange(n)


def _add_sums(target: Array, flat: Array, rows: Array) -> None:
    """Sum rows of equal position by a sparse product first, then add each sum once."""
    from scipy.sparse import csr_array

    positions, inverse = np.unique(np.where(flat < 0, flat + len(target), flat), return_inverse=True)
    count = len(flat)
    choice = csr_array((np.ones(count, rows.dtype), (inverse, np.arange(count))), shape=(len(positions), count))
    sums = choice @ rows.reshape((count, -1))
    target[positions] += sums.reshape((len(positions), *rows.shape[1:]))


def contract_pair(x: Array, y: Array, *, subscripts: str) -> Array:
    """Contract two arrays by `"ab,bc->ac"`: every label once in each term, and in at least two of the three terms."""
    plan = _contraction_plan(subscripts)
    if plan is None:
        return np.einsum(subscripts, x, y)
    x_order, y_order, (first, second), (_, fourth), out_order = plan
    left, right = x.transpose(x_order), y.transpose(y_order)
    if first < 0:
        return np.multiply(left.reshape(_spaced(left.shape, second)), right.reshape(_spaced(right.shape, fourth)))
    lead, rows, inner = left.shape[:first], left.shape[first:second], left.shape[second:]
    columns = right.shape[fourth:]
    stack = (prod(lead),) if lead else ()
    product = np.matmul(
        left.reshape((*stack, prod(rows), prod(inner))), right.reshape((*stack, prod(inner), prod(columns)))
    )
    return product.reshape((*lead, *rows, *columns)).transpose(out_order)


def _spaced(shape: tuple[int, ...], places: tuple[int, ...]) -> tuple[int, ...]:
    extents = iter(shape)
    return tuple([next(extents) if present else 1 for present in places])


@lru_cache(maxsize=1024)
def _contraction_plan(subscripts: str) -> Any:
    """Return how a contraction becomes a product or a (stacked) matrix product; None where a plain loop is better."""
    terms, _, out = subscripts.partition("->")
    x, _, y = terms.partition(",")
    shared = [label for label in out if label in x and label in y]
    inner = [label for label in x if label in y and label not in out]
    rows = [label for label in x if label not in y]
    columns = [label for label in y if label not in x]
    if not inner:
        order_in_x = tuple([x.index(label) for label in out if label in x])
        order_in_y = tuple([y.index(label) for label in out if label in y])
        in_x, in_y = tuple([label in x for label in out]), tuple([label in y for label in out])
        return order_in_x, order_in_y, (-1, in_x), (-1, in_y), ()
    if shared and not rows and not columns:
        return None
    x_order = tuple([x.index(label) for label in (*shared, *rows, *inner)])
    y_order = tuple([y.index(label) for label in (*shared, *inner, *columns)])
    made = [*shared, *rows, *columns]
    x_groups = (len(shared), len(shared) + len(rows))
    y_groups = (len(shared), len(shared) + len(inner))
    return x_order, y_order, x_groups, y_groups, tuple([made.index(label) for label in out])
