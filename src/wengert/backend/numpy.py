"""The NumPy namespace that rules and `impl`s see as `xp`: NumPy's own functions, and the few that NumPy lacks.

Everything has the name and the signature that the library's own operation of that name has, so that one rule runs on
raw arrays and on Tensors alike. SciPy is imported when one of its functions is first used.
"""

from __future__ import annotations

import math
import sys
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ..typing import Array, DTypeLike, Shape
from .attention import attend as attend
from .attention import attend_pull as attend_pull
from .compound import add_along_axis as add_along_axis
from .compound import add_at as add_at
from .compound import contract_pair as contract_pair
from .compound import linear_recurrence as linear_recurrence
from .compound import log_softmax as log_softmax
from .compound import logsumexp as logsumexp
from .compound import put_along_axis as put_along_axis
from .compound import softmax as softmax
from .convolution import convolve as convolve
from .convolution import convolve_transpose_weight as convolve_transpose_weight
from .convolution import convolve_transpose_x as convolve_transpose_x
from .pooling import max_pool as max_pool
from .pooling import max_pool_take as max_pool_take
from .pooling import max_pool_transpose as max_pool_transpose
from .pooling import sum_pool as sum_pool
from .pooling import sum_pool_transpose as sum_pool_transpose

# What NumPy has loaded already: asking for every public name would import its lazy subpackages.
globals().update(
    {
        _name: _value
        for _name, _value in vars(np).items()
        if callable(_value) and not _name.startswith("_") and _name not in globals()
    }
)

_SPECIAL = ("erf", "erfc", "erfinv", "gammaln", "digamma", "log_expit", "logit", "ndtr", "polygamma", "xlogy")
_HALF, _SINGLE, _DOUBLE = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)


def __getattr__(name: str) -> Any:
    if name in _SPECIAL:
        function = globals()[name] = _of_scipy(name)
        return function
    raise AttributeError(f"the NumPy backend has no function {name!r}")


@cache
def _of_scipy(name: str) -> Any:
    import scipy.special

    return _narrow(getattr(scipy.special, name))


_VECTORS = 2048


def expit(x: Array) -> Array:
    """Logistic function; of many float32 through NumPy's exponential, which is vectorised and SciPy's is not."""
    if type(x) is not np.ndarray or x.dtype is not _SINGLE or x.size < _VECTORS:
        return _of_scipy("expit")(x)
    with np.errstate(over="ignore", under="ignore"):  # an infinite exponential is a logistic function of zero
        out = np.exp(np.negative(x))
        out += 1
        return np.reciprocal(out, out)


def sigmoid_slope(x: Array) -> Array:
    """Derivative of the logistic function, 1 / (2 cosh(x / 2))²."""
    double = np.cosh(0.5 * x)
    double += double
    return np.square(np.reciprocal(double))


def sech_squared(x: Array) -> Array:
    """Squared hyperbolic secant."""
    return np.square(np.reciprocal(np.cosh(x)))


def _narrow(function: Any) -> Any:
    """Give results of SciPy the dtype of the arguments: it has no float16, and `polygamma` knows float64 alone."""

    def narrowed(*args: Any) -> Any:
        out = function(*args)
        dtype = getattr(args[-1], "dtype", _HALF)
        if out.dtype is not dtype and (dtype is _SINGLE or dtype is _HALF):
            return out.astype(np.result_type(*args), copy=False)
        return out

    return narrowed


def astype(x: Array, dtype: DTypeLike) -> Array:
    """Convert to `dtype`; the array itself if nothing changes."""
    return x.astype(dtype, copy=False)


_add_reduce: Any = np.add.reduce


_SHORT, _MANY = 32, 512


def sum(x: Array, axis: Any = None, dtype: DTypeLike = None, keepdims: bool = False) -> Array:
    """Sum over axes, without the layers of Python that `numpy.sum` adds."""
    if x.size > _MANY and axis is not None and dtype is None and 1 < x.shape[-1] <= _SHORT and x.ndim > 1:
        last = x.ndim - 1
        if (axis == last or axis == (last,)) and (x.dtype is _DOUBLE or x.dtype is _SINGLE) and x.flags.c_contiguous:
            return _sum_short_rows(x, keepdims)
    return _add_reduce(x, axis, dtype, None, keepdims)


def _sum_short_rows(x: Array, keepdims: bool) -> Array:
    """Sum over a short last axis as a product with ones: NumPy's reduction spends its time between the rows."""
    count = x.shape[-1]
    out = x.reshape(-1, count) @ _ones(count, x.dtype)
    return out.reshape((*x.shape[:-1], 1) if keepdims else x.shape[:-1])


@lru_cache(maxsize=2 * _SHORT)
def _ones(count: int, dtype: Any) -> Array:
    return np.ones(count, dtype)


def reshape(x: Array, shape: Any) -> Array:
    """Reshape through the array's own method, which costs half of `numpy.reshape`."""
    return x.reshape(shape)


def transpose(x: Array, axes: Any = None) -> Array:
    """Permute axes through the array's own method."""
    return x.transpose(axes)


def swapaxes(x: Array, axis1: int, axis2: int) -> Array:
    """Exchange two axes through the array's own method."""
    return x.swapaxes(axis1, axis2)


def matmul(x: Array, y: Array) -> Array:
    """Multiply (stacks of) matrices; columns by rows are a plain product, which BLAS takes three times as long for."""
    if x.ndim > 1 and y.ndim > 1 and x.shape[-1] == 1 and y.shape[-2] == 1:
        return np.multiply(x, y)
    return np.matmul(x, y)


_SMALL = 1 << 13


def spread(x: Array, shape: Any) -> Array:
    """Broadcast where nobody will write or ask for a view: small results are filled, large ones stay without memory."""
    size = 1
    for extent in shape:
        size *= extent
    if size > _SMALL:
        return np.broadcast_to(x, shape)
    out = np.empty(shape, x.dtype)
    out[...] = x
    return out


def to_host(x: Array) -> np.ndarray:
    """Return the array in the host's memory."""
    return np.asarray(x)


ONE_THREAD = 10_000
"""Up to this many elements OpenBLAS takes a scalar product in the calling thread."""


def all_finite(array: Array) -> bool:
    """Return whether a real array holds neither NaN nor infinity; one pass, no temporary where arrays are small.

    Large ones are not handed to BLAS: waking its threads takes longer than the pass, and very long on busy cores.
    """
    if array.size <= ONE_THREAD and math.isfinite(np.vdot(array, array).real):
        return True
    return bool(np.isfinite(array).all())


def guarded_product(x: Array, y: Array) -> Array:
    """Multiply, where an exactly zero factor on either side wins over infinity and NaN."""
    product = np.multiply(x, y)
    if all_finite(product):
        return product
    return np.where((np.asarray(y) == 0) | (np.asarray(x) == 0), product.dtype.type(0), product)


def index(x: Array, *, key: Any) -> Array:
    """Read a region by a basic key."""
    return x[key]


def embed(x: Array, *, shape: Shape, key: Any) -> Array:
    """Write an array into the region of zeros that a basic key selects."""
    out = np.zeros(shape, x.dtype)
    out[key] = x
    return out


def gather(x: Array, *, key: Any) -> Array:
    """Read elements by a key that holds integer arrays."""
    return x[key]


def scatter_add(x: Array, value: Array, *, key: Any) -> Array:
    """Add `value` into a copy of `x` at `key`; repeated positions add up."""
    out = np.array(x)
    np.add.at(out, key, value)
    return out


def read_region(x: Array, *, steps: Any, key: Any) -> Array:
    """Follow view steps, then read by a key."""
    return region_of(x, steps)[key]


def write_region(x: Array, value: Array, *, steps: Any, key: Any) -> Array:
    """Write `value` into the region that steps and key lead to, in a copy of `x`."""
    # Where an axis is stretched, keeping the order of strides would put it innermost: slow for all that comes after.
    out = np.array(x, order="C" if 0 in x.strides else "K")
    region, region_key = editable_region(out, steps, key)
    region[region_key] = value
    return out


def region_of(x: Array, steps: Any) -> Array:
    """Follow the steps of a view."""
    for primitive, params in steps:
        x = primitive.impl(_this, x, **params)
    return x


def positions_of(shape: Shape, steps: Any) -> Array:
    """Return, for each element that the steps lead to, its position in an array of `shape` in row-major order."""
    return region_of(np.arange(math.prod(shape)).reshape(shape), steps)


def editable_region(x: Array, steps: Any, key: Any) -> tuple[Array, Any]:
    """Return (array, key) by which the region that steps and a key lead to can be written in `x`, whatever its layout.

    Steps are views in the layout of the array that they were taken from; in another layout a reshape may copy.
    """
    region = region_of(x, steps)
    if not steps or not region.size or np.may_share_memory(region, x):
        return region, key
    return x, np.unravel_index(positions_of(x.shape, steps)[key], x.shape)


_this = sys.modules[__name__]
