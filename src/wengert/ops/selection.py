"""Choices between elements: where, maxima and minima, clipping, replacing what is not finite, parts of numbers.

The partials of these operations select elements. An element that is not selected gets an exact zero, whatever is
infinite or NaN elsewhere, so that nobody has to guard a branch that is not taken.
"""

from __future__ import annotations

import math
from functools import wraps
from typing import Any

import numpy as np

from ..core import boxing
from ..core.dispatch import default_scalar
from ..declare import at, elementwise
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Namespace
from .arithmetic import positive
from .comparison import equal, isnan
from .creation import asarray

__all__ = [
    "argwhere",
    "clip",
    "conj",
    "conjugate",
    "fmax",
    "fmin",
    "heaviside",
    "imag",
    "maximum",
    "minimum",
    "nan_to_num",
    "nonzero",
    "real",
    "where",
]

_NUMBERS = (bool, int, float)


def argwhere(x: ArrayLike) -> Any:
    """Positions of the elements that are not zero, one row of indices for each.

    >>> import wengert as wg
    >>> wg.argwhere(wg.tensor([[0, 5], [7, 0]])).tolist()
    [[0, 1], [1, 0]]
    """
    return boxing.box(np.argwhere(asarray(x).detach().numpy()))


def nonzero(x: ArrayLike) -> Any:
    """Positions of the elements that are not zero: a tuple of index Tensors, one for each axis.

    >>> import wengert as wg
    >>> rows, columns = wg.nonzero(wg.tensor([[0, 5], [7, 0]]))
    >>> rows.tolist(), columns.tolist()
    ([0, 1], [1, 0])
    """
    tensor = asarray(x)
    if tensor.ndim == 0:
        raise ShapeError("nonzero: a Tensor without axes has no positions; reshape it to (1,) first")
    return tuple([boxing.box(positions) for positions in np.nonzero(tensor.detach().numpy())])


def _or_positions(choose: Any) -> Any:
    """Let `where` with the condition alone mean `nonzero`, as in NumPy, and give two Python numbers a default dtype."""

    @wraps(choose)
    def where(condition: ArrayLike, x: Any = None, y: Any = None) -> Any:
        if x is None and y is None:
            return nonzero(condition)
        if x is None or y is None:
            raise ShapeError("where takes the condition alone, or the condition and two alternatives; one is missing")
        if type(x) in _NUMBERS and type(y) in _NUMBERS:
            if type(x) is float or type(y) is float:
                x, y = float(x), float(y)
            x = default_scalar(x)
        return choose(condition, x, y)

    return where


@_or_positions
@elementwise(
    fixed=("condition",),
    masks=True,
    reference="numpy.where",
    special=[
        at(True, math.inf, math.nan, out=math.inf, partials=(None, 1.0, 0.0)),
        at(False, math.nan, -1.0, out=-1.0, partials=(None, 0.0, 1.0)),
    ],
)
def where(xp: Namespace, condition: Array, x: Array, y: Array) -> Array:
    """x where the condition is true, y elsewhere; the one that is not chosen gets an exactly zero gradient.

    With the condition alone, the positions where it is true, as `nonzero` gives them.

    >>> import wengert as wg
    >>> x = wg.tensor([4.0, 0.0], requires_grad=True)
    >>> y = wg.where(x > 0, wg.sqrt(x), 0.0)
    >>> y.sum().backward(); x.grad.tolist()
    [0.25, 0.0]
    """
    return xp.where(condition, x, y)


@where.partial("x")
def where_partial_x(xp: Namespace, condition: Array) -> Array:
    return xp.not_equal(condition, 0)


@where.partial("y")
def where_partial_y(xp: Namespace, condition: Array) -> Array:
    return xp.logical_not(condition)


@elementwise(
    reference="numpy.maximum",
    masks=True,
    special=[
        at(1.0, 1.0, out=1.0, partials=(0.5, 0.5)),
        at(-math.inf, -math.inf, out=-math.inf, partials=(0.5, 0.5)),
        at(math.inf, 0.0, out=math.inf, partials=(1.0, 0.0)),
        at(math.nan, 0.0, out=math.nan, partials=(1.0, 1.0)),
    ],
)
def maximum(xp: Namespace, x: Array, y: Array) -> Array:
    """The larger of x and y, element by element; NaN if either is, and then the gradient passes to both.

    Where they tie, each gets half of the gradient.

    >>> import wengert as wg
    >>> wg.maximum(wg.tensor([1.0, 5.0]), 3.0).tolist()
    [3.0, 5.0]
    """
    return xp.maximum(x, y)


@maximum.partial("x")
def maximum_partial_x(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.where(xp.equal(x, y), 0.5, xp.logical_not(xp.less(x, y)))


@maximum.partial("y")
def maximum_partial_y(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.where(xp.equal(x, y), 0.5, xp.logical_not(xp.less(y, x)))


@elementwise(
    reference="numpy.minimum",
    masks=True,
    special=[
        at(1.0, 1.0, out=1.0, partials=(0.5, 0.5)),
        at(math.inf, math.inf, out=math.inf, partials=(0.5, 0.5)),
        at(math.inf, 0.0, out=0.0, partials=(0.0, 1.0)),
        at(math.nan, 0.0, out=math.nan, partials=(1.0, 1.0)),
    ],
)
def minimum(xp: Namespace, x: Array, y: Array) -> Array:
    """The smaller of x and y, element by element; NaN if either is, and then the gradient passes to both.

    Where they tie, each gets half of the gradient.

    >>> import wengert as wg
    >>> wg.minimum(wg.tensor([1.0, 5.0]), 3.0).tolist()
    [1.0, 3.0]
    """
    return xp.minimum(x, y)


@minimum.partial("x")
def minimum_partial_x(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.where(xp.equal(x, y), 0.5, xp.logical_not(xp.less(y, x)))


@minimum.partial("y")
def minimum_partial_y(xp: Namespace, x: Array, y: Array) -> Array:
    return xp.where(xp.equal(x, y), 0.5, xp.logical_not(xp.less(x, y)))


_IGNORING_NAN: Any = [
    at(1.0, 1.0, out=1.0, partials=(0.5, 0.5)),
    at(math.nan, 3.0, out=3.0, partials=(0.0, 1.0)),
    at(-3.0, math.nan, out=-3.0, partials=(1.0, 0.0)),
    at(math.nan, math.nan, out=math.nan, partials=(0.0, 0.0)),
]


@elementwise(reference="numpy.fmax", masks=True, special=_IGNORING_NAN)
def fmax(xp: Namespace, x: Array, y: Array) -> Array:
    """The larger of x and y, element by element; a NaN is ignored, and gets a zero gradient. Ties halve the gradient.

    >>> import wengert as wg
    >>> wg.fmax(wg.tensor([1.0, float("nan")]), 3.0).tolist()
    [3.0, 3.0]
    """
    return xp.fmax(x, y)


@elementwise(reference="numpy.fmin", masks=True, special=_IGNORING_NAN)
def fmin(xp: Namespace, x: Array, y: Array) -> Array:
    """The smaller of x and y, element by element; a NaN is ignored, and gets a zero gradient. Ties halve the gradient.

    >>> import wengert as wg
    >>> wg.fmin(wg.tensor([1.0, float("nan")]), 3.0).tolist()
    [1.0, 3.0]
    """
    return xp.fmin(x, y)


@fmax.partial("x")
@fmin.partial("x")
def chosen_partial_x(xp: Namespace, x: Array, y: Array, out: Array) -> Array:
    return xp.where(xp.equal(x, y), 0.5, xp.equal(x, out))


@fmax.partial("y")
@fmin.partial("y")
def chosen_partial_y(xp: Namespace, x: Array, y: Array, out: Array) -> Array:
    return xp.where(xp.equal(x, y), 0.5, xp.equal(y, out))


@elementwise(
    masks=True,
    special=[at(1.0, 1.0, out=1.0, partials=(1.0, 0.0)), at(math.nan, 0.0, out=math.nan, partials=(0.0, 0.0))],
)
def at_least(xp: Namespace, x: Array, low: Array) -> Array:
    """x, but at least `low`; at the bound itself the gradient is x's alone."""
    return xp.maximum(x, low)


@at_least.partial("x")
def at_least_partial_x(xp: Namespace, x: Array, low: Array) -> Array:
    return xp.greater_equal(x, low)


@at_least.partial("low")
def at_least_partial_low(xp: Namespace, x: Array, low: Array) -> Array:
    return xp.less(x, low)


@elementwise(
    masks=True,
    special=[at(1.0, 1.0, out=1.0, partials=(1.0, 0.0)), at(math.nan, 0.0, out=math.nan, partials=(0.0, 0.0))],
)
def at_most(xp: Namespace, x: Array, high: Array) -> Array:
    """x, but at most `high`; at the bound itself the gradient is x's alone."""
    return xp.minimum(x, high)


@at_most.partial("x")
def at_most_partial_x(xp: Namespace, x: Array, high: Array) -> Array:
    return xp.less_equal(x, high)


@at_most.partial("high")
def at_most_partial_high(xp: Namespace, x: Array, high: Array) -> Array:
    return xp.greater(x, high)


def clip(x: ArrayLike, min: Any = None, max: Any = None) -> Any:
    """x limited to the interval from `min` to `max`; None means no bound. `max` wins where the bounds cross.

    The gradient passes where min <= x <= max, the bounds included; elsewhere it goes to the bound that was met.

    >>> import wengert as wg
    >>> x = wg.tensor([-1.0, 0.0, 0.5, 2.0], requires_grad=True)
    >>> y = wg.clip(x, 0, 1)
    >>> y.sum().backward(); x.grad.tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    if min is None and max is None:
        return positive(x)
    limited = x if min is None else at_least(x, min)
    return limited if max is None else at_most(limited, max)


def _with_replacements(replace: Any) -> Any:
    """Give `nan_to_num` the options of NumPy's, by way of `where`."""

    @wraps(replace)
    def nan_to_num(x: ArrayLike, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
        if posinf is None and neginf is None and type(nan) is float and nan == 0.0:
            return replace(x)
        tensor = asarray(x)
        if tensor.dtype.kind not in "fc":
            return replace(tensor)
        largest = float(np.finfo(tensor.dtype).max)
        out = where(isnan(tensor), nan, tensor)
        out = where(equal(tensor, math.inf), largest if posinf is None else posinf, out)
        return where(equal(tensor, -math.inf), -largest if neginf is None else neginf, out)

    return nan_to_num


@_with_replacements
@elementwise(
    reference="numpy.nan_to_num",
    masks=True,
    special=[at(math.nan, out=0.0, partials=(0.0,)), at(3.0, out=3.0, partials=(1.0,))],
)
def nan_to_num(xp: Namespace, x: Array) -> Array:
    """Each element, with NaN replaced by zero (`nan`) and infinities by the largest numbers (`posinf`, `neginf`).

    Replaced elements get an exactly zero gradient. The result is always a copy.

    >>> import wengert as wg
    >>> wg.nan_to_num(wg.tensor([1.0, float("nan"), float("inf")]), posinf=9.0).tolist()
    [1.0, 0.0, 9.0]
    """
    return xp.nan_to_num(x)


@nan_to_num.partials
def nan_to_num_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.isfinite(x),)


@elementwise(
    reference="numpy.heaviside",
    masks=True,
    special=[at(0.0, 0.5, out=0.5, partials=(0.0, 1.0)), at(-1.0, 0.5, out=0.0, partials=(0.0, 0.0))],
)
def heaviside(xp: Namespace, x: Array, y: Array) -> Array:
    """Zero for negative x, one for positive x, and y where x is zero; the derivative by x is zero, at the jump too.

    >>> import wengert as wg
    >>> wg.heaviside(wg.tensor([-1.0, 0.0, 2.0]), 0.5).tolist()
    [0.0, 0.5, 1.0]
    """
    return xp.heaviside(x, y)


@heaviside.partial("x")
def heaviside_partial_x() -> Array:
    return 0


@heaviside.partial("y")
def heaviside_partial_y(xp: Namespace, x: Array) -> Array:
    return xp.equal(x, 0)


@elementwise(reference="numpy.real")
def real(xp: Namespace, x: Array) -> Array:
    """Real part of each element, in a new array: a copy if the dtype is real.

    >>> import wengert as wg
    >>> wg.real(wg.tensor([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    return xp.array(xp.real(x))


@real.partials
def real_partials() -> tuple[Array, ...]:
    return (1,)


@elementwise(reference="numpy.imag")
def imag(xp: Namespace, x: Array) -> Array:
    """Imaginary part of each element, in a new array: zeros, with a zero derivative, if the dtype is real.

    >>> import wengert as wg
    >>> wg.imag(wg.tensor([1.0, 2.0])).tolist()
    [0.0, 0.0]
    """
    return xp.array(xp.imag(x))


@imag.partials
def imag_partials() -> tuple[Array, ...]:
    return (0,)


@elementwise(reference="numpy.conjugate")
def conj(xp: Namespace, x: Array) -> Array:
    """Complex conjugate of each element, in a new array: a copy if the dtype is real.

    >>> import wengert as wg
    >>> wg.conj(wg.tensor([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    return xp.conjugate(x)


@conj.partials
def conj_partials() -> tuple[Array, ...]:
    return (1,)


conjugate = conj
