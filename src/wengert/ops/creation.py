"""Tensors from nothing or from data: what takes memory, and whose."""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import settings
from ..core import boxing, capturing
from ..core.dispatch import bind, from_sequence
from ..declare import Sample, linear, nondifferentiable
from ..errors import DTypeError
from ..typing import Array, ArrayLike, DTypeLike, Namespace, Shape

__all__ = [
    "arange",
    "array",
    "asarray",
    "astype",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "identity",
    "linspace",
    "ones",
    "ones_like",
    "tensor",
    "zeros",
    "zeros_like",
]


@linear(samples=[Sample((2, 3), dtype=np.dtype("float64")), Sample((3,), dtype=np.dtype("float32"))])
def cast(xp: Namespace, x: Array, *, dtype: Any) -> Array:
    """Elements converted to another dtype; between real floating dtypes the gradient passes, converted back."""
    return xp.astype(x, dtype)


@cast.transpose
def cast_transpose(xp: Namespace, out_bar: Array, x_dtype: Any) -> Array:
    return xp.astype(out_bar, x_dtype)


@cast.batched
def cast_batched(xp: Namespace, x: Array, *, dtype: Any) -> Array:
    return xp.astype(x, dtype)


@nondifferentiable(samples=[Sample((2, 3))])
def zeros_like_value(xp: Namespace, x: Array) -> Array:
    """Zeros of the shape and dtype of an array (batched along with it)."""
    return xp.zeros_like(x)


def astype(x: ArrayLike, dtype: DTypeLike, *, copy: bool = True) -> Any:
    """Convert to `dtype`; the gradient passes between floating dtypes and ends at integers and booleans.

    >>> import wengert as wg
    >>> wg.astype(wg.tensor([1.7, 2.2]), "int64").tolist()
    [1, 2]
    """
    resolved = np.dtype(dtype)
    tensor = asarray(x)
    if not copy and tensor.dtype == resolved:
        return tensor
    return bind(cast.primitive, (tensor,), {"dtype": resolved})


def _convert(data: ArrayLike, dtype: DTypeLike) -> Any:
    """Return a raw array for data that is no Tensor (its own memory or the caller's), with default dtypes."""
    floating = None if dtype is None else np.dtype(dtype)
    if capturing.engaged and (traced := capturing.array_as_tensor(data)) is not None:
        return traced if dtype is None else astype(traced, dtype)
    if isinstance(data, (list, tuple)):
        array = from_sequence(data, "tensor", floating)
        if isinstance(array, boxing.Tensor):
            return array if dtype is None else astype(array, dtype)
    elif type(data) is float:
        array = np.asarray(data, floating if floating is not None and floating.kind == "f" else settings.default_dtype)
    elif hasattr(data, "__cuda_array_interface__"):
        array = data
    else:
        array = np.asarray(data)
    if array.dtype.kind not in "biufc":
        raise DTypeError(
            f"cannot make a Tensor of {type(data).__name__} data with dtype {array.dtype}; numbers are needed"
        )
    return array if dtype is None else array.astype(dtype, copy=False)


def tensor(data: ArrayLike, dtype: DTypeLike = None, *, requires_grad: bool = False) -> Any:
    """Copy data into a new Tensor.

    Args:
        data: a number, an array, a Tensor, or nested sequences of them, of any shape.
        dtype: the dtype of the result; by default arrays keep theirs, Python floats get `wg.get_default_dtype()`.
        requires_grad: record what is computed from it, so that `backward()` fills its `.grad`.

    Raises:
        DTypeError: the data is not numeric, or requires_grad on a dtype that is not floating.

    >>> import wengert as wg
    >>> wg.tensor([1.0, 2.0])
    Tensor([1., 2.], dtype=float32)
    """
    if isinstance(data, boxing.Tensor):
        made = data.detach().clone() if dtype is None else astype(data.detach(), dtype)
    else:
        array = _convert(data, dtype)
        if isinstance(array, boxing.Tensor):
            made = array
        else:
            made = boxing.box(array if _is_fresh(array, data) else np.array(array))
    return made.requires_grad_() if requires_grad else made


def _is_fresh(array: Any, data: Any) -> bool:
    return not isinstance(data, np.ndarray) and getattr(array, "base", None) is None and not hasattr(data, "__array__")


def asarray(data: ArrayLike, dtype: DTypeLike = None, *, copy: bool | None = None) -> Any:
    """Return data as a Tensor, without copying if that can be helped.

    An array's memory may be shared until the tape has to keep it or it is written through the Tensor; then it is
    copied, so that later writes to the array never spoil a gradient. A Tensor is returned as it is.

    Args:
        data: a number, an array, a Tensor, or nested sequences of them.
        dtype: the dtype of the result.
        copy: True always copies, as `wg.tensor` does.

    >>> import numpy as np, wengert as wg
    >>> wg.asarray(np.ones(2)).dtype
    dtype('float64')
    """
    if isinstance(data, boxing.Tensor):
        if dtype is not None and data.dtype != np.dtype(dtype):
            return astype(data, dtype)
        return data.clone() if copy else data
    array = _convert(data, dtype)
    if isinstance(array, boxing.Tensor):
        return array
    if type(data) is np.ndarray and not copy:
        return boxing.borrow(array) if np.may_share_memory(array, data) else boxing.box(array)
    return boxing.box(array if _is_fresh(array, data) else np.array(array))


def array(data: ArrayLike, dtype: DTypeLike = None) -> Any:
    """Copy data into a new Tensor that does not require grad; sequences of tracked Tensors stay on the tape.

    >>> import wengert as wg
    >>> wg.array([1, 2]).dtype
    dtype('int64')
    """
    return tensor(data, dtype) if not isinstance(data, boxing.Tensor) else data.clone()


def _dtype(dtype: DTypeLike) -> Any:
    return settings.default_dtype if dtype is None else np.dtype(dtype)


def zeros(shape: int | Shape, dtype: DTypeLike = None) -> Any:
    """Return a Tensor of zeros (default dtype unless given).

    >>> import wengert as wg
    >>> wg.zeros(2)
    Tensor([0., 0.], dtype=float32)
    """
    return boxing.box(np.zeros(shape, _dtype(dtype)))


def ones(shape: int | Shape, dtype: DTypeLike = None) -> Any:
    """Return a Tensor of ones (default dtype unless given)."""
    return boxing.box(np.ones(shape, _dtype(dtype)))


def empty(shape: int | Shape, dtype: DTypeLike = None) -> Any:
    """Return a Tensor whose entries are not initialised."""
    return boxing.box(np.empty(shape, _dtype(dtype)))


def full(shape: int | Shape, fill_value: Any, dtype: DTypeLike = None) -> Any:
    """Return a Tensor filled with one value; a tracked Tensor as the value stays on the tape."""
    value = asarray(fill_value, dtype)
    return boxing.operations.broadcast_to(value, (shape,) if isinstance(shape, int) else tuple(shape)).clone()


def zeros_like(x: ArrayLike, dtype: DTypeLike = None) -> Any:
    """Return zeros of the shape and (unless given) dtype of `x`."""
    zero = bind(zeros_like_value.primitive, (asarray(x),))
    return zero if dtype is None else astype(zero, dtype)


def ones_like(x: ArrayLike, dtype: DTypeLike = None) -> Any:
    """Return ones of the shape and (unless given) dtype of `x`."""
    return zeros_like(x, dtype) + 1


def empty_like(x: ArrayLike, dtype: DTypeLike = None) -> Any:
    """Return an uninitialised Tensor of the shape and (unless given) dtype of `x`."""
    like = asarray(x)
    return empty(like.shape, like.dtype if dtype is None else dtype)


def full_like(x: ArrayLike, fill_value: Any, dtype: DTypeLike = None) -> Any:
    """Return a Tensor of the shape and (unless given) dtype of `x`, filled with one value."""
    like = asarray(x)
    return full(like.shape, fill_value, like.dtype if dtype is None else dtype)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: DTypeLike = None) -> Any:
    """Return evenly spaced values in [start, stop): integers for integer arguments, else the default dtype.

    >>> import wengert as wg
    >>> wg.arange(3).tolist()
    [0, 1, 2]
    """
    bounds = (0, start) if stop is None else (start, stop)
    if dtype is None and any(isinstance(v, float) for v in (*bounds, step)):
        dtype = settings.default_dtype
    return boxing.box(np.arange(*bounds, step, dtype=dtype))


def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: DTypeLike = None) -> Any:
    """Return `num` evenly spaced values from `start` to `stop`; tracked ends stay on the tape.

    >>> import wengert as wg
    >>> wg.linspace(0, 1, 5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    resolved = _dtype(dtype)
    if not isinstance(start, boxing.Tensor) and not isinstance(stop, boxing.Tensor):
        return boxing.box(np.linspace(start, stop, num, endpoint=endpoint).astype(resolved, copy=False))
    steps = max(num - 1 if endpoint else num, 1)
    weights = boxing.box((np.arange(num) / steps).astype(resolved))
    first, last = asarray(start)[..., None], asarray(stop)[..., None]
    return boxing.operations.moveaxis(first + (last - first) * weights, -1, 0)


def eye(n_rows: int, n_cols: int | None = None, k: int = 0, dtype: DTypeLike = None) -> Any:
    """Return the identity matrix (or ones on the k-th diagonal)."""
    return boxing.box(np.eye(n_rows, n_cols, k=k, dtype=_dtype(dtype)))


def identity(n: int, dtype: DTypeLike = None) -> Any:
    """Return the identity matrix of order n."""
    return eye(n, dtype=dtype)
