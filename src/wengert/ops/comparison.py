"""Comparisons, tests of values, and logic on truth values and bits. Nothing here has a derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..declare import Sample, nondifferentiable
from ..declare.batching import all_in_front, batch_elementwise
from ..typing import Array, ArrayLike, Namespace

__all__ = [
    "allclose",
    "array_equal",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "invert",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "left_shift",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
    "right_shift",
    "signbit",
]


def _integers(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-9, 9, (2, 3))


def _shifts(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 5, (2, 3))


def _digits(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2, (2, 3)).astype(float)


def _odd_values(rng: np.random.Generator) -> np.ndarray:
    return np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, -1.5]])


def _truths(rng: np.random.Generator) -> np.ndarray:
    return rng.random((2, 3)) < 0.5


_PAIRS = [Sample(_digits, _digits), Sample((2, 1), (3,)), Sample((), 0.5), Sample(_odd_values, _digits)]
_TRUTHS = [Sample(_truths, _truths), Sample(_digits, _truths), Sample(_integers, True)]
_BITS = [Sample(_integers, _integers), Sample(_truths, _truths), Sample(_integers, 3)]
_SHIFTS = [Sample(_integers, _shifts), Sample(_integers, 2)]
_VALUES = [Sample(_odd_values), Sample((2, 3)), Sample(())]


@nondifferentiable(samples=_PAIRS, reference="numpy.equal")
def equal(xp: Namespace, x: Array, y: Array) -> Array:
    """Whether x == y, element by element; NaN equals nothing.

    >>> import wengert as wg
    >>> wg.equal(wg.tensor([1, 2]), 2).tolist()
    [False, True]
    """
    return xp.equal(x, y)


@nondifferentiable(samples=_PAIRS, reference="numpy.not_equal")
def not_equal(xp: Namespace, x: Array, y: Array) -> Array:
    """Whether x != y, element by element; NaN differs from everything.

    >>> import wengert as wg
    >>> wg.not_equal(wg.tensor([1, 2]), 2).tolist()
    [True, False]
    """
    return xp.not_equal(x, y)


@nondifferentiable(samples=_PAIRS, reference="numpy.less")
def less(xp: Namespace, x: Array, y: Array) -> Array:
    """Whether x < y, element by element; false where either is NaN.

    >>> import wengert as wg
    >>> wg.less(wg.tensor([1, 2, 3]), 2).tolist()
    [True, False, False]
    """
    return xp.less(x, y)


@nondifferentiable(samples=_PAIRS, reference="numpy.less_equal")
def less_equal(xp: Namespace, x: Array, y: Array) -> Array:
    """Whether x <= y, element by element; false where either is NaN.

    >>> import wengert as wg
    >>> wg.less_equal(wg.tensor([1, 2, 3]), 2).tolist()
    [True, True, False]
    """
    return xp.less_equal(x, y)


@nondifferentiable(samples=_PAIRS, reference="numpy.greater")
def greater(xp: Namespace, x: Array, y: Array) -> Array:
    """Whether x > y, element by element; false where either is NaN.

    >>> import wengert as wg
    >>> wg.greater(wg.tensor([1, 2, 3]), 2).tolist()
    [False, False, True]
    """
    return xp.greater(x, y)


@nondifferentiable(samples=_PAIRS, reference="numpy.greater_equal")
def greater_equal(xp: Namespace, x: Array, y: Array) -> Array:
    """Whether x >= y, element by element; false where either is NaN.

    >>> import wengert as wg
    >>> wg.greater_equal(wg.tensor([1, 2, 3]), 2).tolist()
    [False, True, True]
    """
    return xp.greater_equal(x, y)


@nondifferentiable(samples=_VALUES, reference="numpy.isnan")
def isnan(xp: Namespace, x: Array) -> Array:
    """Whether each element is NaN.

    >>> import wengert as wg
    >>> wg.isnan(wg.tensor([1.0, float("nan")])).tolist()
    [False, True]
    """
    return xp.isnan(x)


@nondifferentiable(samples=_VALUES, reference="numpy.isinf")
def isinf(xp: Namespace, x: Array) -> Array:
    """Whether each element is infinity or minus infinity.

    >>> import wengert as wg
    >>> wg.isinf(wg.tensor([1.0, float("inf")])).tolist()
    [False, True]
    """
    return xp.isinf(x)


@nondifferentiable(samples=_VALUES, reference="numpy.isfinite")
def isfinite(xp: Namespace, x: Array) -> Array:
    """Whether each element is neither infinite nor NaN.

    >>> import wengert as wg
    >>> wg.isfinite(wg.tensor([1.0, float("nan")])).tolist()
    [True, False]
    """
    return xp.isfinite(x)


@nondifferentiable(samples=_VALUES, reference="numpy.signbit")
def signbit(xp: Namespace, x: Array) -> Array:
    """Whether the sign of each element is minus; so it is for minus zero.

    >>> import wengert as wg
    >>> wg.signbit(wg.tensor([1.0, -0.0])).tolist()
    [False, True]
    """
    return xp.signbit(x)


@nondifferentiable(samples=_TRUTHS, reference="numpy.logical_and")
def logical_and(xp: Namespace, x: Array, y: Array) -> Array:
    """Whether both x and y are true (that is, not zero).

    >>> import wengert as wg
    >>> wg.logical_and(wg.tensor([True, False]), True).tolist()
    [True, False]
    """
    return xp.logical_and(x, y)


@nondifferentiable(samples=_TRUTHS, reference="numpy.logical_or")
def logical_or(xp: Namespace, x: Array, y: Array) -> Array:
    """Whether x or y is true (that is, not zero), or both.

    >>> import wengert as wg
    >>> wg.logical_or(wg.tensor([True, False]), False).tolist()
    [True, False]
    """
    return xp.logical_or(x, y)


@nondifferentiable(samples=_TRUTHS, reference="numpy.logical_xor")
def logical_xor(xp: Namespace, x: Array, y: Array) -> Array:
    """Whether one of x and y is true (that is, not zero), but not both.

    >>> import wengert as wg
    >>> wg.logical_xor(wg.tensor([True, False]), True).tolist()
    [False, True]
    """
    return xp.logical_xor(x, y)


@nondifferentiable(samples=[Sample(_truths), Sample(_digits), Sample(())], reference="numpy.logical_not")
def logical_not(xp: Namespace, x: Array) -> Array:
    """Whether each element is false (that is, zero).

    >>> import wengert as wg
    >>> wg.logical_not(wg.tensor([True, False])).tolist()
    [False, True]
    """
    return xp.logical_not(x)


@nondifferentiable(samples=_BITS, reference="numpy.bitwise_and")
def bitwise_and(xp: Namespace, x: Array, y: Array) -> Array:
    """Bits that are set in both integers or booleans.

    >>> import wengert as wg
    >>> wg.bitwise_and(wg.tensor([12, 10]), 6).tolist()
    [4, 2]
    """
    return xp.bitwise_and(x, y)


@nondifferentiable(samples=_BITS, reference="numpy.bitwise_or")
def bitwise_or(xp: Namespace, x: Array, y: Array) -> Array:
    """Bits that are set in either of two integers or booleans.

    >>> import wengert as wg
    >>> wg.bitwise_or(wg.tensor([12, 10]), 6).tolist()
    [14, 14]
    """
    return xp.bitwise_or(x, y)


@nondifferentiable(samples=_BITS, reference="numpy.bitwise_xor")
def bitwise_xor(xp: Namespace, x: Array, y: Array) -> Array:
    """Bits in which two integers or booleans differ.

    >>> import wengert as wg
    >>> wg.bitwise_xor(wg.tensor([12, 10]), 6).tolist()
    [10, 12]
    """
    return xp.bitwise_xor(x, y)


@nondifferentiable(samples=[Sample(_integers), Sample(_truths)], reference="numpy.invert")
def invert(xp: Namespace, x: Array) -> Array:
    """Bits of integers or booleans, each flipped.

    >>> import wengert as wg
    >>> wg.invert(wg.tensor([True, False])).tolist()
    [False, True]
    """
    return xp.invert(x)


@nondifferentiable(samples=_SHIFTS, reference="numpy.left_shift")
def left_shift(xp: Namespace, x: Array, y: Array) -> Array:
    """Bits of integers moved up by y places.

    >>> import wengert as wg
    >>> wg.left_shift(wg.tensor([1, 3]), 2).tolist()
    [4, 12]
    """
    return xp.left_shift(x, y)


@nondifferentiable(samples=_SHIFTS, reference="numpy.right_shift")
def right_shift(xp: Namespace, x: Array, y: Array) -> Array:
    """Bits of integers moved down by y places; the sign stays.

    >>> import wengert as wg
    >>> wg.right_shift(wg.tensor([4, -4]), 1).tolist()
    [2, -2]
    """
    return xp.right_shift(x, y)


_TOLERANCES: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-8, "equal_nan": False}


@nondifferentiable(
    samples=[
        Sample(_digits, _digits, **_TOLERANCES),
        Sample(_odd_values, _odd_values, rtol=0.1, atol=1.0, equal_nan=True),
    ],
    reference="numpy.isclose",
)
def close(xp: Namespace, x: Array, y: Array, *, rtol: float, atol: float, equal_nan: bool) -> Array:
    """Whether |x - y| <= atol + rtol |y|, element by element."""
    return xp.isclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)


@close.batch
def close_batch(xp: Namespace, args: Any, axes: Any, rtol: float, atol: float, equal_nan: bool) -> tuple[Any, int]:
    return xp.isclose(*batch_elementwise(xp, args, axes), rtol=rtol, atol=atol, equal_nan=equal_nan), 0


@nondifferentiable(
    samples=[
        Sample(_digits, _digits, **_TOLERANCES),
        Sample(_odd_values, _odd_values, rtol=0.1, atol=1.0, equal_nan=True),
    ],
    reference="numpy.allclose",
)
def all_close(xp: Namespace, x: Array, y: Array, *, rtol: float, atol: float, equal_nan: bool) -> Array:
    """Whether |x - y| <= atol + rtol |y| for all elements."""
    return xp.all(xp.isclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan))


@all_close.batch
def all_close_batch(xp: Namespace, args: Any, axes: Any, rtol: float, atol: float, equal_nan: bool) -> tuple[Any, int]:
    rows = xp.isclose(*batch_elementwise(xp, args, axes), rtol=rtol, atol=atol, equal_nan=equal_nan)
    return xp.all(rows, axis=tuple(range(1, rows.ndim))), 0


@nondifferentiable(
    samples=[
        Sample(_odd_values, _odd_values, equal_nan=False),
        Sample(_odd_values, _odd_values, equal_nan=True),
        Sample(_integers, (3,), equal_nan=False),
    ],
    reference="numpy.array_equal",
)
def same_array(xp: Namespace, x: Array, y: Array, *, equal_nan: bool) -> Array:
    """Whether two arrays have the same shape and the same elements."""
    if np.shape(x) != np.shape(y):
        return xp.asarray(False)
    same = xp.equal(x, y)
    return xp.all(xp.logical_or(same, xp.logical_and(xp.not_equal(x, x), xp.not_equal(y, y))) if equal_nan else same)


@same_array.batch
def same_array_batch(xp: Namespace, args: Any, axes: Any, equal_nan: bool) -> tuple[Any, int]:
    x, y = all_in_front(xp, args, axes)
    if x.shape != y.shape:
        return xp.zeros(x.shape[:1], dtype=bool), 0
    same = xp.equal(x, y)
    if equal_nan:
        same = xp.logical_or(same, xp.logical_and(xp.not_equal(x, x), xp.not_equal(y, y)))
    return xp.all(same, axis=tuple(range(1, same.ndim))), 0


def isclose(x: ArrayLike, y: ArrayLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Whether |x - y| <= atol + rtol |y|, element by element; NaN is close to NaN only if `equal_nan`.

    >>> import wengert as wg
    >>> wg.isclose(wg.tensor([1.0, 2.0]), wg.tensor([1.0, 2.1])).tolist()
    [True, False]
    """
    return close(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)


def allclose(x: ArrayLike, y: ArrayLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Whether |x - y| <= atol + rtol |y| for all elements, as a boolean Tensor without axes.

    >>> import wengert as wg
    >>> bool(wg.allclose(wg.tensor([1.0, 2.0]), wg.tensor([1.0, 2.1])))
    False
    """
    return all_close(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)


def array_equal(x: ArrayLike, y: ArrayLike, equal_nan: bool = False) -> Any:
    """Whether two arrays have the same shape and the same elements, as a boolean Tensor without axes.

    >>> import wengert as wg
    >>> bool(wg.array_equal(wg.tensor([1.0, 2.0]), wg.tensor([1.0, 2.0])))
    True
    """
    return same_array(x, y, equal_nan=equal_nan)


bitwise_invert = bitwise_not = invert
bitwise_left_shift = left_shift
bitwise_right_shift = right_shift
