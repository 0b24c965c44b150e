"""Operators and methods of Tensors: NumPy's, each of them an operation of that name.

They stand apart from `wengert.tensor` because they are a list and nothing else: what a Tensor is, is said there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..core import boxing
from ..errors import DTypeError
from . import interop


def _in_place(operation: Callable[[Any, Any], Any], name: str) -> Callable[[Any, Any], Any]:
    """Make `x op= y` of `x op y`: the result is written into x, through all views, unless x is a number of NumPy's."""

    def apply(self: Any, other: Any) -> Any:
        return ops.update(self, operation, other, name)

    apply.__name__ = apply.__qualname__ = name
    return apply


def _equality(operation: Callable[[Any, Any], Any], otherwise: bool) -> Callable[[Any, Any], Any]:
    """Let `==` and `!=` meet anything, as NumPy's do: what is no array and no number differs from every element."""

    def compare(self: Any, other: Any) -> Any:
        try:
            return operation(self, other)
        except DTypeError:
            if isinstance(other, (list, tuple, np.ndarray, boxing.Tensor)):
                raise
            return boxing.box(np.full(self.shape, otherwise))

    return compare


class ArrayMethods:
    """What Tensors can do as arrays; the class has no state of its own."""

    __slots__ = ()

    # ------------------------------------------------------------------ NumPy's protocols

    __array_ufunc__ = interop.array_ufunc
    __array_function__ = interop.array_function

    # ------------------------------------------------------------------ operators

    __add__ = __radd__ = ops.add
    __sub__ = ops.subtract
    __mul__ = __rmul__ = ops.multiply
    __truediv__ = ops.divide
    __neg__ = ops.negative
    __pos__ = ops.positive
    __abs__ = ops.absolute
    __matmul__ = ops.matmul
    __pow__ = ops.power
    __mod__ = ops.remainder
    __floordiv__ = ops.floor_divide
    __eq__ = _equality(ops.equal, False)
    __ne__ = _equality(ops.not_equal, True)
    __lt__ = ops.less
    __le__ = ops.less_equal
    __gt__ = ops.greater
    __ge__ = ops.greater_equal
    __and__ = __rand__ = ops.bitwise_and
    __or__ = __ror__ = ops.bitwise_or
    __xor__ = __rxor__ = ops.bitwise_xor
    __invert__ = ops.invert
    __lshift__ = ops.left_shift
    __rshift__ = ops.right_shift

    def __rpow__(self, other: Any) -> Any:
        return ops.power(other, self)

    def __rmod__(self, other: Any) -> Any:
        return ops.remainder(other, self)

    def __rfloordiv__(self, other: Any) -> Any:
        return ops.floor_divide(other, self)

    def __rsub__(self, other: Any) -> Any:
        return ops.subtract(other, self)

    def __rtruediv__(self, other: Any) -> Any:
        return ops.divide(other, self)

    def __rmatmul__(self, other: Any) -> Any:
        return ops.matmul(other, self)

    __iadd__ = _in_place(ops.add, "+=")
    __isub__ = _in_place(ops.subtract, "-=")
    __imul__ = _in_place(ops.multiply, "*=")
    __itruediv__ = _in_place(ops.divide, "/=")
    __imatmul__ = _in_place(ops.matmul, "@=")

    # ------------------------------------------------------------------ methods

    sum = ops.sum
    abs = ops.absolute
    square = ops.square
    sqrt = ops.sqrt
    exp = ops.exp
    expm1 = ops.expm1
    log = ops.log
    log1p = ops.log1p
    sin = ops.sin
    cos = ops.cos
    tan = ops.tan
    sinh = ops.sinh
    cosh = ops.cosh
    tanh = ops.tanh
    sigmoid = ops.sigmoid
    relu = ops.relu
    erf = ops.erf
    sign = ops.sign
    floor = ops.floor
    ceil = ops.ceil
    round = ops.round
    clip = ops.clip
    maximum = ops.maximum
    minimum = ops.minimum
    nonzero = ops.nonzero
    conj = ops.conj
    ravel = ops.ravel
    flatten = ops.flatten
    squeeze = ops.squeeze
    swapaxes = ops.swapaxes
    expand_dims = ops.expand_dims
    broadcast_to = ops.broadcast_to
    flip = ops.flip
    diagonal = ops.diagonal
    matmul = ops.matmul
    mean = ops.mean
    max = ops.max
    min = ops.min
    prod = ops.prod
    var = ops.var
    std = ops.std
    ptp = ops.ptp
    any = ops.any
    all = ops.all
    argmax = ops.argmax
    argmin = ops.argmin
    count_nonzero = ops.count_nonzero
    cumsum = ops.cumsum
    cumprod = ops.cumprod
    logsumexp = ops.logsumexp
    softmax = ops.softmax
    log_softmax = ops.log_softmax
    norm = ops.norm
    dot = ops.dot
    take = ops.take
    repeat = ops.repeat
    tile = ops.tile
    roll = ops.roll
    split = ops.split
    unstack = ops.unstack
    argsort = ops.argsort
    trace = ops.trace
    tril = ops.tril
    triu = ops.triu
    astype = ops.astype
    clone = ops.clone
    copy = ops.clone

    def reshape(self, *shape: Any) -> Any:
        """Give the elements another shape; see `wg.reshape`."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    view = reshape

    def sort(self, axis: int = -1) -> None:
        """Sort along an axis in place, as in NumPy; `wg.sort` gives a sorted copy."""
        ops.overwrite(self, ops.sort(self, axis), "sort")

    def transpose(self, *axes: Any) -> Any:
        """Permute the axes; see `wg.transpose`."""
        return ops.transpose(self, (axes[0] if len(axes) == 1 and axes[0] is not None else axes) or None)

    permute = transpose

    @property
    def real(self) -> Any:
        """The real part (itself, for real dtypes)."""
        return ops.real(self)

    @property
    def imag(self) -> Any:
        """The imaginary part (zeros, for real dtypes)."""
        return ops.imag(self)

    @property
    def T(self) -> Any:
        """The Any with its axes reversed."""
        return ops.transpose(self)

    @property
    def mT(self) -> Any:
        """The Any with its last two axes swapped."""
        return ops.matrix_transpose(self)
