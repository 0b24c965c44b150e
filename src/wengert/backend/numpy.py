"""The NumPy namespace that rules and `impl`s see as `xp`: NumPy's own functions, and the few that NumPy lacks.

Everything has the name and the signature that the library's own operation of that name has, so that one rule runs on
raw arrays and on Tensors alike. SciPy is imported when one of its functions is first used.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..typing import Array, DTypeLike

# What NumPy has loaded already: asking for every public name would import its lazy subpackages.
globals().update({_name: _value for _name, _value in vars(np).items() if callable(_value) and not _name.startswith("_")})

_SPECIAL = ("erf", "erfc", "erfinv", "expit", "log_expit", "gammaln", "digamma", "polygamma", "xlogy", "ndtr")


def __getattr__(name: str) -> Any:
    if name in _SPECIAL:
        import scipy.special

        function = globals()[name] = getattr(scipy.special, name)
        return function
    raise AttributeError(f"the NumPy backend has no function {name!r}")


def astype(x: Array, dtype: DTypeLike) -> Array:
    """Convert to `dtype`; the array itself if nothing changes."""
    return x.astype(dtype, copy=False)


def sum(x: Array, axis: Any = None, dtype: DTypeLike = None, keepdims: bool = False) -> Array:
    """Sum over axes, without the layers of Python that `numpy.sum` adds."""
    return np.add.reduce(x, axis, dtype, None, keepdims)


def reshape(x: Array, shape: Any) -> Array:
    """Reshape through the array's own method, which costs half of `numpy.reshape`."""
    return x.reshape(shape)


def transpose(x: Array, axes: Any = None) -> Array:
    """Permute axes through the array's own method."""
    return x.transpose(axes)


def swapaxes(x: Array, axis1: int, axis2: int) -> Array:
    """Exchange two axes through the array's own method."""
    return x.swapaxes(axis1, axis2)


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


def all_finite(array: Array) -> bool:
    """Return whether a real array holds neither NaN nor infinity; one pass, no temporary in the common case."""
    energy: Any = np.vdot(array, array)
    if energy - energy == 0:
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
    for primitive, params in steps:
        x = primitive.impl(_this, x, **params)
    return x[key]


def write_region(x: Array, value: Array, *, steps: Any, key: Any) -> Array:
    """Write `value` into the region that steps and key lead to, in a copy of `x`."""
    out = np.array(x, order="K")
    region = out
    for primitive, params in steps:
        region = primitive.impl(_this, region, **params)
    region[key] = value
    return out


_this = sys.modules[__name__]
